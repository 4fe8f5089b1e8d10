package deliver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/mp3"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// body plays a path of a server until the stream ends.
func body(t *testing.T, s *Server, path string, during func()) []byte {
	return bodyOf(t, s, path, func(func() []byte) { during() })
}

// bodyOf is body for who wants to see what has come so far. The stream has media
// already: a player starts at the newest point there is when its answer has gone
// out, and has done so when during is called.
func bodyOf(t *testing.T, s *Server, path string, during func(got func() []byte)) []byte {
	web := httptest.NewServer(s)
	defer web.Close()
	res, err := http.Get(web.URL + path)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, 200, res.StatusCode)
	var mu sync.Mutex
	var all []byte
	got := func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return all[:len(all):len(all)]
	}
	done := make(chan error, 1)
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, err := res.Body.Read(b)
			mu.Lock()
			all = append(all, b[:n]...)
			mu.Unlock()
			if err != nil {
				done <- err
				return
			}
		}
	}()
	eventually(t, func() bool { return len(got()) > 0 }, "the first bytes")
	during(got)
	require.ErrorIs(t, <-done, io.EOF)
	return got()
}

// framesOf demuxes as much of a transport stream as there is.
func framesOf(b []byte) *sink {
	into := &sink{}
	_, _ = (&mpegts.Demuxer{Sink: into}).ReadFrom(bytes.NewReader(b))
	return into
}

// What two players of a transport stream get, of which one came late, has no
// gap in its counters, begins with the tables, and holds the frames.
func TestTS(t *testing.T) {
	for name, p := range map[string]*streamtest.Pattern{
		"both":  {},
		"H.265": {Video: stream.H265, Audio: stream.Opus},
		"audio": {NoVideo: true, Audio: stream.MP3},
	} {
		t.Run(name, func(t *testing.T) {
			hub := &stream.Hub{}
			defer hub.Close()
			s := &Server{Hub: hub, Auth: auth.AllowAll}
			defer s.Close()
			src := publish(t, hub, "live/x", p)
			src.write(30)
			var late []byte
			path := "/live/x.ts?audio=opus"
			early := bodyOf(t, s, path, func(got func() []byte) {
				src.write(100)
				// There is a later point to start at by then.
				eventually(t, func() bool { return len(framesOf(got()).frames) > 100 }, "what was written")
				late = body(t, s, path, func() {
					src.write(100)
					_ = src.pub.Close()
				})
			})
			require.Less(t, len(late), len(early))
			require.True(t, bytes.HasSuffix(early, late), "they share bytes")
			for _, b := range [][]byte{early, late} {
				require.Zero(t, len(b)%mpegts.PacketSize)
				require.Equal(t, []byte{0x47, 0x40, 0x00}, b[:3], "PAT")
				into := &sink{}
				d := &mpegts.Demuxer{Sink: into}
				_, err := d.ReadFrom(bytes.NewReader(b))
				require.NoError(t, err)
				require.Zero(t, d.Stats().Lost)
				require.Zero(t, d.Stats().Errors)
				require.Zero(t, d.Stats().Dropped)
				require.Len(t, into.tracks, len(p.Tracks()))
				require.True(t, into.frames[0].Key)
				require.Greater(t, len(into.frames), 90)
			}
		})
	}
}

// Sound shares packets as long as the write interval allows, and none of it is
// lost.
func TestTSJoin(t *testing.T) {
	for _, noVideo := range []bool{false, true} {
		p := &streamtest.Pattern{NoVideo: noVideo}
		var frames []*stream.Frame
		for f := range p.Frames(300) {
			frames = append(frames, f)
		}
		sizes := map[time.Duration]int{}
		for _, join := range []time.Duration{0, 40 * time.Millisecond, maxJoint} {
			m := &tsMuxer{join: join}
			require.NoError(t, m.configure(p.Tracks(), nil))
			var b []byte
			for _, f := range frames {
				before, most := len(b), m.size(f)
				b = m.appendFrame(b, f)
				require.LessOrEqual(t, len(b)-before, most)
				if len(m.sounds) > 0 {
					require.Less(t, f.DTS-m.sounds[0].DTS, max(join, 1))
				}
			}
			b = m.appendRest(b)
			into := &sink{}
			_, err := (&mpegts.Demuxer{Sink: into}).ReadFrom(bytes.NewReader(b))
			require.NoError(t, err)
			require.Len(t, into.frames, len(frames))
			sizes[join] = len(b)
		}
		require.Less(t, sizes[40*time.Millisecond], sizes[0])
		require.LessOrEqual(t, sizes[maxJoint], sizes[40*time.Millisecond])
	}
}

// SCTE 35 and private data pass from a transport stream to a transport stream;
// other players do without.
func TestTSData(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	s := &Server{Hub: hub, Auth: auth.AllowAll, HLS: HLS{Segment: time.Second}}
	defer s.Close()
	p := &streamtest.Pattern{}
	src := publish(t, hub, "live/x", p)
	cue := &stream.Track{ID: 3, Codec: stream.SCTE35}
	klv := &stream.Track{ID: 4, Codec: stream.PrivateTS, Config: []byte("\x06\xbdKLVA")}
	require.NoError(t, src.pub.SetTracks(append(slices.Clone(p.Tracks()), cue, klv)...))
	message := []byte("\xfc\x30\x12\x00\x00\x00\x00\x00\x00\x00\xff\xff\xf0\x00\x00\x00\x00\xf0\x21\x49\xf9") // splice_null
	write := func() {
		for range 10 {
			src.write(20)
			at := src.written[len(src.written)-1].DTS
			require.NoError(t, src.pub.Write(&stream.Frame{Track: cue, DTS: at, PTS: at, Data: message}))
			require.NoError(t, src.pub.Write(&stream.Frame{Track: klv, DTS: at, PTS: at, Data: []byte("klv")}))
		}
	}
	write()
	ts := body(t, s, "/live/x.ts", func() {
		write()
		require.NotEmpty(t, body(t, s, "/live/x.flv", func() { _ = src.pub.Close() }))
	})
	into := &sink{}
	_, err := (&mpegts.Demuxer{Sink: into}).ReadFrom(bytes.NewReader(ts))
	require.NoError(t, err)
	count := map[stream.Codec]int{}
	for _, f := range into.frames {
		count[f.Track.Codec]++
		if f.Track.Codec == stream.PrivateTS {
			require.Equal(t, "klv", string(f.Data))
			require.Equal(t, klv.Config, f.Track.Config)
		}
	}
	// A player that is slow may have been moved to a later key frame.
	require.Positive(t, count[stream.SCTE35])
	require.Positive(t, count[stream.PrivateTS])
}

func TestAudioAlone(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	s := &Server{Hub: hub, Auth: auth.AllowAll}
	defer s.Close()
	src := publish(t, hub, "live/aac", &streamtest.Pattern{})
	src.write(30)
	b := body(t, s, "/live/aac.aac", func() { src.write(100); _ = src.pub.Close() })
	n := 0
	for len(b) > 0 {
		c, head, size, err := aac.ParseADTS(b)
		require.NoError(t, err)
		require.Equal(t, 48000, c.Rate)
		require.Equal(t, 7, head)
		b = b[size:]
		n++
	}
	require.Greater(t, n, 30)

	src = publish(t, hub, "live/mp3", &streamtest.Pattern{Audio: stream.MP3})
	src.write(30)
	b = body(t, s, "/live/mp3.mp3", func() { src.write(100); _ = src.pub.Close() })
	for n = 0; len(b) > 0; n++ {
		h, err := mp3.Parse(b)
		require.NoError(t, err)
		b = b[h.Size:]
	}
	require.Greater(t, n, 30)

	publish(t, hub, "live/x", &streamtest.Pattern{}).write(30)
	publish(t, hub, "live/vp8", &streamtest.Pattern{Video: stream.VP8, Audio: stream.PCMA}).write(30)
	for path, want := range map[string]struct {
		status int
		typ    string
	}{
		"/live/x.ts":    {200, "video/mp2t"},
		"/live/x.aac":   {200, "audio/aac"},
		"/live/x.mp3":   {415, ""},
		"/live/vp8.aac": {415, ""},
		"/live/vp8.ts":  {415, ""},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("HEAD", path, nil))
		require.Equal(t, want.status, w.Code, path)
		if want.typ != "" {
			require.Equal(t, want.typ, w.Header().Get("Content-Type"))
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/live/x.mp3", nil))
	require.Contains(t, w.Body.String(), "h264, aac", "it says what there is")
}

// ffmpeg plays everything.
func TestFFmpeg(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		if os.Getenv("RUNNEL_E2E") == "1" {
			t.Fatal(err)
		}
		t.Skip("needs ffmpeg:", err)
	}
	hub := &stream.Hub{}
	t.Cleanup(func() { _ = hub.Close() })
	s := &Server{Hub: hub, Auth: individuals(0), HLS: HLS{Segment: time.Second}}
	t.Cleanup(func() { _ = s.Close() })
	locked := &Server{Hub: hub, Auth: auth.AllowAll, HLS: HLS{Segment: time.Second, Encrypt: true}}
	t.Cleanup(func() { _ = locked.Close() })
	go func() { _ = (&streamtest.Source{}).Run(t.Context(), hub, "live/x") }()
	mux := http.NewServeMux()
	mux.Handle("/", s)
	mux.Handle("/locked/", http.StripPrefix("/locked", locked))
	web := httptest.NewServer(mux)
	t.Cleanup(func() { web.Close() })
	for _, ref := range []string{
		"/live/x.m3u8?token=t", "/live/x.m3u8?format=ts&token=t", "/live/x.ts?token=t", "/live/x.aac?token=t", "/live/x.mpd?token=t",
		"/locked/live/x.m3u8", "/locked/live/x.m3u8?format=ts",
	} {
		t.Run(strings.ReplaceAll(ref, "/", "_"), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, "ffmpeg", "-nostdin", "-v", "warning", "-i", web.URL+ref, "-t", "2", "-c", "copy", "-f", "framecrc", "-")
			var complaints strings.Builder
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			require.NoError(t, err, complaints.String())
			packets := map[string]int{}
			for line := range strings.Lines(string(out)) {
				if stream, _, ok := strings.Cut(line, ","); ok && line[0] != '#' {
					packets[stream]++
				}
			}
			require.Contains(t, string(out), ": audio")
			if strings.Contains(ref, ".aac") {
				require.Greater(t, packets["0"], 80)
				return
			}
			require.Contains(t, string(out), ": video")
			require.Len(t, packets, 2, "%s\n%s", out, complaints.String())
			for _, n := range packets {
				require.Greater(t, n, 40, "%s", complaints.String())
			}
		})
	}
}
