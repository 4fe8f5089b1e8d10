package transcode

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
)

var quiet = slog.New(slog.DiscardHandler)

var short = &peer.Clip{Name: "short.mp4", Seconds: 3, Video: small}

// pulled runs a Pull until the test ends, and returns the stream once frames have come.
func pulled(t *testing.T, p *transcode.Pull, frames uint64) *stream.Stream {
	t.Helper()
	p.Hub, p.Stream, p.Log = &stream.Hub{Grace: time.Minute, Log: quiet}, "live/cam", quiet
	t.Cleanup(func() { p.Hub.Close() })
	start(t, p.Run)
	peer.Eventually(t, 30*time.Second, "frames", func() bool {
		s := p.Hub.Stream("live/cam")
		return s != nil && s.Stats().Frames >= frames
	})
	return p.Hub.Stream("live/cam")
}

// TestPull: a file, a playlist over HTTP, a device and a camera become streams.
func TestPull(t *testing.T) {
	t.Parallel()
	clip := lab.Clip(t, short)
	dir := t.TempDir()
	peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", filepath.Join(dir, "a.m3u8"))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	for name, p := range map[string]*transcode.Pull{
		"file":   {URL: clip, Loop: true, Realtime: true},
		"HLS":    {URL: server.URL + "/a.m3u8"},
		"local":  {URL: filepath.Join(dir, "a.m3u8"), Format: "hls"},
		"device": {URL: "testsrc2=s=160x90:r=25", Format: "lavfi", Realtime: true, Output: []string{"-c:v", "libx264", "-preset", "ultrafast"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pulled(t, p, 60)
			tracks := s.Tracks()
			require.Equal(t, stream.H264, tracks[0].Codec)
			require.Equal(t, name != "device", len(tracks) == 2)
			sub, err := p.Hub.Subscribe(t.Context(), "live/cam", nil)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			frames := streamtest.Collect(ctx, t, sub, 10)
			streamtest.CheckTimeline(t, frames, 0)
		})
	}
}

// TestPullRTSP: what a camera sends by RTSP.
func TestPullRTSP(t *testing.T) {
	t.Parallel()
	addr := peer.FreeAddr(t)
	clip := lab.Clip(t, short)
	hub := &stream.Hub{}
	t.Cleanup(func() { hub.Close() })
	// ffmpeg is no RTSP server that could be pulled from, but one that takes a sender.
	start(t, (&transcode.Pull{Hub: hub, Log: quiet, Stream: "live/cam", URL: "rtsp://" + addr + "/cam", FFmpeg: transcode.FFmpeg{Input: []string{"-rtsp_flags", "listen"}}}).Run)
	peer.Eventually(t, 30*time.Second, "frames", func() bool {
		_, _, _ = peer.Try(t, 10*time.Second, "ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", "rtsp://"+addr+"/cam")
		s := hub.Stream("live/cam")
		return s != nil && s.Stats().Frames > 50
	})
}

// refused runs a Pull until it has failed, and returns what the log says of that.
func refused(t *testing.T, p *transcode.Pull) string {
	t.Helper()
	hub := &stream.Hub{}
	defer hub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var log strings.Builder
	p.Hub, p.Stream = hub, "live/cam"
	p.Log = slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		cancel()
		return log.Write(b)
	}), nil))
	require.ErrorIs(t, p.Run(ctx), context.Canceled)
	require.Nil(t, hub.Stream("live/cam"))
	return log.String()
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// TestPullRefuses: what a playlist may not refer to is not read: neither a file of this
// machine, nor a server in its network, by whatever name.
func TestPullRefuses(t *testing.T) {
	t.Parallel()
	clip := lab.Clip(t, short)
	dir := t.TempDir()
	segment := filepath.Join(dir, "secret.ts")
	peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-c", "copy", segment)
	var touched atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		touched.Add(1)
		http.ServeFile(w, r, segment)
	}))
	defer inside.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	require.NoError(t, err)
	var uri, kind atomic.Value
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/redirect.ts":
			http.Redirect(w, r, inside.URL+"/a.ts", http.StatusFound)
		case kind.Load() == "concat":
			_, _ = w.Write([]byte("ffconcat version 1.0\nfile '" + uri.Load().(string) + "'\n"))
		default:
			w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
			_, _ = w.Write([]byte("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n" + uri.Load().(string) + "\n#EXT-X-ENDLIST\n"))
		}
	}))
	defer outside.Close()
	for _, c := range []struct{ name, kind, uri string }{
		{"a file", "hls", "file://" + segment},
		{"passwd", "hls", "file:///etc/passwd"},
		{"a path", "hls", segment},
		{"loopback", "hls", inside.URL + "/a.ts"},
		{"a name", "hls", "http://localhost:" + port + "/a.ts"},
		{"IPv6 in disguise", "hls", "http://[::ffff:127.0.0.1]:" + port + "/a.ts"},
		{"a redirect", "hls", "/redirect.ts"},
		{"metadata", "hls", "http://169.254.169.254/a.ts"},
		{"a socket", "hls", "tcp://127.0.0.1:" + port},
		{"concat", "concat", segment},
		{"concat by protocol", "hls", "concat:" + segment + "|" + segment},
		{"subfile", "hls", "subfile,,start,0,end,0,,:" + segment},
	} {
		uri.Store(c.uri)
		kind.Store(c.kind)
		why := refused(t, &transcode.Pull{URL: outside.URL + "/a.m3u8"})
		t.Logf("%s: %s", c.name, why)
	}
	require.Zero(t, touched.Load())

	// A file that is a playlist in disguise.
	disguised := filepath.Join(dir, "a.mp4")
	require.NoError(t, os.WriteFile(disguised, []byte("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n"+segment+"\n#EXT-X-ENDLIST\n"), 0o600))
	require.Contains(t, refused(t, &transcode.Pull{URL: disguised}), "not on whitelist")

	// The same playlists play where the host allows it: it is not that they are broken.
	uri.Store("http://localhost:" + port + "/a.ts")
	kind.Store("hls")
	pulled(t, &transcode.Pull{URL: outside.URL + "/a.m3u8", Allow: prefixes(t, "127.0.0.0/8", "::1/128")}, 60)
	require.NotZero(t, touched.Load())
}

// TestExec: a command gets the stream of a name that a shell would choke on.
func TestExec(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	dir := t.TempDir()
	hub := &stream.Hub{}
	t.Cleanup(func() { hub.Close() })
	start(t, (&transcode.Exec{
		Hub: hub, Log: quiet, Match: all, Feed: true,
		Command: []string{peer.Need(t, "ffmpeg"), "-nostdin", "-v", "error", "-f", "mpegts", "-i", "pipe:0", "-c", "copy", "file:" + dir + "/{name:escaped}.mkv"},
	}).Run)
	require.NoError(t, (&streamtest.Source{Duration: 3 * time.Second, Speed: 2}).Run(t.Context(), hub, "live/$(touch hacked);a b&'"))
	file := filepath.Join(dir, "%24%28touch%20hacked%29%3Ba%20b%26%27.mkv")
	peer.Eventually(t, 20*time.Second, "the file", func() bool {
		out, _, err := peer.Try(t, 10*time.Second, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", file)
		seconds, _ := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		return err == nil && seconds > 2.5
	})
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func prefixes(t *testing.T, list ...string) (out []netip.Prefix) {
	t.Helper()
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		require.NoError(t, err)
		out = append(out, p)
	}
	return out
}
