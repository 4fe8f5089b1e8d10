package whep

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// offer is one as browsers write them, for VP8 and Opus.
const offer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"

var (
	vp8  = &stream.Track{ID: 1, Codec: stream.VP8}
	opus = &stream.Track{ID: 2, Codec: stream.Opus, Rate: 48000, Channels: 2}
	aac  = &stream.Track{ID: 2, Codec: stream.AAC, Rate: 48000, Channels: 2, Config: []byte{0x11, 0x90}}
)

// a fixture is a Handler behind a server, which lets in who says "sesame".
type fixture struct {
	*Handler
	hub *stream.Hub
	url string
}

func start(t *testing.T) *fixture {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	return serve(t, pc, &Transport{})
}

func serve(t *testing.T, pc net.PacketConn, tr *Transport) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	out := &deliver.Server{Hub: hub, Log: log, Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Token != "sesame" || r.Protocol != "whep" || r.Action != auth.Play {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{User: "ali"}, nil
	})}
	tr.Log = log
	done := make(chan struct{})
	go func() { defer close(done); _ = tr.ServePacket(pc) }()
	h := &Handler{Server: out, Transport: tr}
	web := httptest.NewServer(http.StripPrefix("/whep", h))
	t.Cleanup(func() {
		web.Close()
		tr.Close()
		<-done
		out.Close()
		hub.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &fixture{h, hub, web.URL + "/whep"}
}

func (f *fixture) publish(t *testing.T, name string, tracks ...*stream.Track) *stream.Publisher {
	t.Helper()
	p, err := f.hub.Publish(t.Context(), name, nil)
	require.NoError(t, err)
	require.NoError(t, p.SetTracks(tracks...))
	return p
}

// post posts an offer and returns the answer with its body.
func (f *fixture) post(t *testing.T, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", f.url+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/sdp")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return a, string(b)
}

func TestStatuses(t *testing.T) {
	f := start(t)
	f.publish(t, "live/a", vp8, opus)
	f.publish(t, "live/film", &stream.Track{ID: 1, Codec: stream.H265, Config: []byte{1}}, aac)
	bearer := []string{"Authorization", "Bearer sesame"}
	for name, c := range map[string]struct {
		path, body string
		header     []string
		want       int
	}{
		"no token":    {"/live/a", offer, nil, 401},
		"wrong token": {"/live/a?token=simsim", offer, nil, 403},
		"no stream":   {"/live/none", offer, bearer, 404},
		"bad name":    {"/live/../a", offer, bearer, 404},
		"not SDP":     {"/live/a", "hello", bearer, 400},
		"no codec":    {"/live/film", offer, bearer, 406},
	} {
		r, body := f.post(t, c.path, c.body, c.header...)
		require.Equal(t, c.want, r.StatusCode, "%s: %s", name, body)
		if name == "no codec" {
			require.Contains(t, body, "the stream has h265, aac")
		}
	}
	require.Zero(t, f.Transport.Sessions())
	for range f.hub.Sessions() {
		t.Fatal("a session of a refused peer")
	}
	require.Eventually(t, func() bool { return f.following() == 0 }, 10*time.Second, time.Millisecond)

	r, answer := f.post(t, "/live/a?token=sesame", offer)
	require.Equal(t, 201, r.StatusCode, answer)
	require.Contains(t, answer, "a=sendonly")
	require.Equal(t, 1, f.following())
	for s := range f.hub.Sessions() {
		require.Equal(t, stream.RolePlay, s.Info().Role)
		require.True(t, s.Kick(stream.ErrKicked))
	}
	require.Eventually(t, func() bool { return f.following() == 0 && f.Transport.Sessions() == 0 }, 10*time.Second, time.Millisecond)
}

// following returns how many streams are cut into packets.
func (f *fixture) following() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.feeds)
}

// The end of a stream is that of its viewers, and who waits for a stream gets it.
func TestStreamEnds(t *testing.T) {
	f := start(t)
	f.Wait = time.Minute
	answered := make(chan int, 1)
	go func() {
		r, _ := f.post(t, "/live/a?token=sesame", offer)
		answered <- r.StatusCode
	}()
	time.Sleep(20 * time.Millisecond)
	p := f.publish(t, "live/a", vp8, opus)
	require.Equal(t, 201, <-answered)
	require.Equal(t, 1, f.Transport.Sessions())
	require.NoError(t, p.Close())
	require.Eventually(t, func() bool { return f.Transport.Sessions() == 0 && f.following() == 0 }, 10*time.Second, time.Millisecond)
}

// Where the sound is none of WebRTC's, a rendition of it that is takes its place.
func TestSoundOfRendition(t *testing.T) {
	f := start(t)
	p := f.publish(t, "live/a", vp8, aac)
	s := p.Stream()
	fd := &feed{hub: f.hub, stream: s}
	none, _ := fd.sound()
	require.Nil(t, none)
	_, err := s.Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{{Name: "opus", Tracks: []*stream.Track{opus}}},
		Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
			for range src.Frames(ctx) {
			}
			return nil
		},
	})
	require.NoError(t, err)
	made, _ := fd.sound()
	require.Equal(t, opus, made)
	r, answer := f.post(t, "/live/a?token=sesame", offer)
	require.Equal(t, 201, r.StatusCode)
	require.Contains(t, answer, "opus/48000/2")
	require.NoError(t, p.Close())
	require.Eventually(t, func() bool { return f.Transport.Sessions() == 0 && f.following() == 0 }, 10*time.Second, time.Millisecond)
}

// A viewer may ask for a rendition of the pictures, and hears the stream's sound.
func TestRenditionOfPictures(t *testing.T) {
	f := start(t)
	p := f.publish(t, "live/a", vp8, opus)
	small := &stream.Track{ID: 1, Codec: stream.VP8}
	_, err := p.Stream().Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{{Name: "180p", Tracks: []*stream.Track{small}}},
		Linger:     time.Millisecond,
		Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
			if err := outs[0].SetTracks(small); err != nil {
				return err
			}
			for range src.Frames(ctx) {
			}
			return nil
		},
	})
	require.NoError(t, err)
	r, body := f.post(t, "/live/a?token=sesame&rendition=none", offer)
	require.Equal(t, 404, r.StatusCode, body)
	r, answer := f.post(t, "/live/a?token=sesame&rendition=180p", offer)
	require.Equal(t, 201, r.StatusCode, answer)
	require.Contains(t, answer, "VP8/90000")
	require.Contains(t, answer, "opus/48000/2")
	require.Equal(t, 2, f.following(), "the pictures, and the sound")
	require.NoError(t, p.Close())
	require.Eventually(t, func() bool { return f.Transport.Sessions() == 0 && f.following() == 0 }, 10*time.Second, time.Millisecond)
}
