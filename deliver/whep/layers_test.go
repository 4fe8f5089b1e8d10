package whep

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// idle makes renditions of which nothing comes.
func idle(ctx context.Context, src *stream.Subscriber, _ []*stream.Publisher) error {
	for range src.Frames(ctx) {
	}
	return nil
}

// echo makes renditions whose frames are the source's with other pictures, of which
// the second byte says which.
func echo(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
	for _, out := range outs {
		if err := out.SetTracks(vp8); err != nil {
			return err
		}
	}
	for fr, err := range src.Frames(ctx) {
		if err != nil {
			return err
		}
		for i, out := range outs {
			if fr.Track.Kind() == stream.Video {
				_ = out.Write(&stream.Frame{Track: vp8, DTS: fr.DTS, PTS: fr.PTS, Time: fr.Time, Key: fr.Key, Data: picture(fr.Key, byte(i+1))})
			}
		}
	}
	return nil
}

func picture(key bool, layer byte) []byte {
	b := make([]byte, 1500)
	if b[0] = 1; key {
		copy(b, "\x00\x00\x00\x9d\x01\x2a\x00\x05\xd0\x02") // 1280x720
	}
	b[1] = layer
	return b
}

// live publishes pictures, every fifth a key frame, until the test ends.
func (f *fixture) live(t *testing.T, name string) *stream.Publisher {
	t.Helper()
	p := f.publish(t, name, vp8, opus)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			at := time.Duration(n) * 10 * time.Millisecond
			_ = p.Write(&stream.Frame{Track: vp8, DTS: at, PTS: at, Key: n%5 == 0, Data: picture(n%5 == 0, 0)})
			_ = p.Write(&stream.Frame{Track: opus, DTS: at, PTS: at, Key: true, Data: []byte{1, 2, 3}})
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return p
}

// links keeps what an endpoint has answered.
type links struct {
	mu     sync.Mutex
	header http.Header
}

func (l *links) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost {
		l.mu.Lock()
		l.header = a.Header
		l.mu.Unlock()
	}
	return a, err
}

// of returns the URL of a relation.
func (l *links) of(relation string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, link := range l.header.Values("Link") {
		if m := regexp.MustCompile(`^<(.*)>; rel="` + relation + `"`).FindStringSubmatch(link); m != nil {
			return m[1]
		}
	}
	return ""
}

// play plays a stream with a Client. saw waits until the pictures of a layer are
// seen, and later ones too.
func (f *fixture) play(t *testing.T, path string) (saw func(layer byte), l *links) {
	t.Helper()
	hub := &stream.Hub{}
	out, err := hub.Publish(t.Context(), "live/out", nil)
	require.NoError(t, err)
	sub, err := hub.Subscribe(t.Context(), "live/out", &stream.SubscribeOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	l = &links{}
	ended := make(chan error, 1)
	go func() {
		ended <- (&Client{URL: f.url + path, Token: "sesame", HTTP: &http.Client{Transport: l}}).Play(ctx, out)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		hub.Close()
	})
	return func(layer byte) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		pictures, sounds := 0, 0
		for fr, err := range sub.Frames(ctx) {
			require.NoError(t, err)
			switch {
			case fr.Track.Kind() == stream.Audio:
				sounds++
			case fr.Data[1] == layer:
				pictures++
			default:
				pictures, sounds = 0, 0
			}
			if pictures > 10 && sounds > 10 {
				return
			}
		}
	}, l
}

// A viewer sees the layer that it chooses, then another, and the sound all the time;
// it is told which there are.
func TestLayers(t *testing.T) {
	f := start(t)
	p := f.live(t, "live/a")
	remove, err := p.Stream().Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{
			{Name: "h", Tracks: []*stream.Track{vp8}, Width: 640, Height: 360, Bandwidth: 50_000},
			{Name: "q", Tracks: []*stream.Track{vp8}, Width: 320, Height: 180, Bandwidth: 20_000},
		},
		Linger: time.Millisecond, Make: echo,
	})
	require.NoError(t, err)
	saw, l := f.play(t, "/live/a?layer=h")
	saw(1)
	base := strings.TrimSuffix(f.url, "/whep")
	at := base + l.of("urn:ietf:params:whep:ext:core:layer")
	for _, c := range []struct {
		body  string
		want  int
		layer byte
	}{
		{`{"mediaId":"0","rid":"q"}`, 200, 2}, {`{"encodingId":"source"}`, 200, 0}, {`{"rid":"none"}`, 404, 0}, {`[]`, 400, 0},
		{`{"rid":"h"}`, 200, 1}, {`{"maxWidth":320}`, 200, 2}, {`{}`, 200, 2},
	} {
		r, _ := send(t, "POST", at, c.body)
		require.Equal(t, c.want, r.StatusCode, c.body)
		if c.body != "{}" { // who leaves it to the server gets what the path carries
			saw(c.layer)
		}
	}
	r, _ := send(t, "GET", at, "")
	require.Equal(t, 405, r.StatusCode)
	r, _ = send(t, "OPTIONS", at, "")
	require.Equal(t, "POST, OPTIONS", r.Header.Get("Allow"))

	events := base + l.of("urn:ietf:params:whep:ext:core:server-sent-events")
	r, _ = send(t, "POST", events, `["layers"]`)
	require.Equal(t, 201, r.StatusCode)
	q, err := http.NewRequestWithContext(t.Context(), "GET", events, nil)
	require.NoError(t, err)
	a, err := http.DefaultClient.Do(q)
	require.NoError(t, err)
	defer a.Body.Close()
	lines := bufio.NewScanner(a.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var told map[string][]webrtc.Layer
		require.NoError(t, json.Unmarshal([]byte(data), &told))
		require.Len(t, told["0"], 3)
		require.Equal(t, sourceLayer, told["0"][0].RID)
		require.Equal(t, 720, told["0"][0].Height)
		require.Equal(t, webrtc.Layer{RID: "q", Bitrate: 20_000, Width: 320, Height: 180}, told["0"][2])
		break
	}

	// What is chosen goes away: there is the source.
	r, _ = send(t, "POST", at, `{"rid":"h"}`)
	require.Equal(t, 200, r.StatusCode)
	saw(1)
	remove()
	saw(0)
	require.Eventually(t, func() bool { return f.following() == 1 }, 20*time.Second, 10*time.Millisecond)
}

// A layer of which nothing comes leaves the viewer with what it has.
func TestIdleLayer(t *testing.T) {
	f := start(t)
	p := f.live(t, "live/a")
	_, err := p.Stream().Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{{Name: "q", Tracks: []*stream.Track{vp8}}}, Linger: time.Millisecond, Make: idle,
	})
	require.NoError(t, err)
	saw, l := f.play(t, "/live/a")
	saw(0)
	r, _ := send(t, "POST", strings.TrimSuffix(f.url, "/whep")+l.of("urn:ietf:params:whep:ext:core:layer"), `{"rid":"q"}`)
	require.Equal(t, 200, r.StatusCode)
	saw(0)
}
