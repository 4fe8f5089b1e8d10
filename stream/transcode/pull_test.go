package transcode

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestSource(t *testing.T) {
	const web = "-protocol_whitelist http,https,tls,tcp,httpproxy,crypto -format_whitelist " + containers + "," + playlists + " "
	for _, c := range []struct {
		pull Pull
		args string
	}{
		{Pull{URL: "a.mp4"}, "-protocol_whitelist file -format_whitelist " + containers + " -i file:a.mp4"},
		{Pull{URL: "-i"}, "-protocol_whitelist file -format_whitelist " + containers + " -i file:-i"},
		{Pull{URL: "concat:/etc/passwd|/etc/shadow"}, "-protocol_whitelist file -format_whitelist " + containers + " -i file:concat:/etc/passwd|/etc/shadow"},
		{Pull{URL: "file:///a/b.m3u8", Format: "hls", Loop: true, Realtime: true}, "-stream_loop -1 -re -protocol_whitelist file -format_whitelist " + containers + ",hls -f hls -i file:/a/b.m3u8"},
		{Pull{URL: "https://example.com/a.m3u8"}, web + "-i https://example.com/a.m3u8"},
		{Pull{URL: "http://u:p@example.com/a?token=xyz"}, web + "-i http://u:p@example.com/a?token=xyz"},
		{Pull{URL: "rtsp://cam/1"}, "-protocol_whitelist rtp,srtp,udp,tcp -rtsp_transport tcp -f rtsp -i rtsp://cam/1"},
		{Pull{URL: "rtsp://cam/1", FFmpeg: FFmpeg{Input: []string{"-rtsp_transport", "udp"}}}, "-protocol_whitelist rtp,srtp,udp,tcp -rtsp_transport udp -f rtsp -i rtsp://cam/1"},
		{Pull{URL: "rtmp://h/a/b"}, "-protocol_whitelist rtmp,tcp -format_whitelist " + containers + ",live_flv -f live_flv -i rtmp://h/a/b"},
		{Pull{URL: "/dev/video0", Format: "v4l2"}, "-protocol_whitelist pipe -f v4l2 -i /dev/video0"},
	} {
		s, err := c.pull.source()
		require.NoError(t, err, c.pull.URL)
		require.Equal(t, strings.ReplaceAll(c.args, "-format_whitelist "+containers+",live_flv -f live_flv", "-f live_flv"), strings.Join(s.args, " "))
		require.Equal(t, strings.HasPrefix(c.pull.URL, "http"), s.fetched != nil)
	}
	for _, p := range []Pull{{}, {URL: "gopher://x/y"}, {URL: "http://"}, {URL: "http://a b/"}, {URL: "subfile,,://x"}, {URL: "a", Format: "-f"}, {URL: "data://x"}, {URL: "tcp://127.0.0.1:1"}} {
		_, err := p.source()
		require.ErrorIs(t, err, errSource, p.URL)
	}
	u, err := url.Parse("http://user:p4ss@h/a?token=secret&n=1")
	require.NoError(t, err)
	require.Equal(t, []string{"token=secret&n=1", "user:p4ss", "secret", "p4ss"}, secretsOf(u))
}

// transportStream writes a file of n frames.
func transportStream(t *testing.T, n int) string {
	t.Helper()
	p := &streamtest.Pattern{}
	var m mpegts.Muxer
	require.NoError(t, m.Configure(p.Tracks()))
	var b []byte
	for f := range p.Frames(n) {
		b = m.AppendFrame(b, f)
	}
	path := filepath.Join(t.TempDir(), "a.ts")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

func (s *stage) pull(t *testing.T, p *Pull) (cancel func(), ran chan error) {
	t.Helper()
	p.Hub, p.Log, p.Stream = s.hub, s.log.logger(), "live/a"
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ran = make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	return cancel, ran
}

// What comes to its end is the stream, and the end of Run if that is asked for.
func TestPullOnce(t *testing.T) {
	s := &stage{hub: &stream.Hub{Log: quiet, Grace: time.Minute}}
	defer s.hub.Close()
	_, ran := s.pull(t, &Pull{URL: "a", Once: true, FFmpeg: fakeFFmpeg("ts", "FILE="+transportStream(t, 100))})
	require.NoError(t, <-ran)
	st := s.hub.Stream("live/a")
	require.NotNil(t, st, "it waits for another publisher")
	require.InDelta(t, 100, st.Stats().Frames, 5)
	require.Len(t, st.Tracks(), 2)
	require.Empty(t, s.log.String())
}

// Who gives nothing any more is killed, and asked again.
func TestPullWatchdog(t *testing.T) {
	s := &stage{hub: &stream.Hub{Log: quiet}}
	defer s.hub.Close()
	f := fakeFFmpeg("endless", "FILE="+transportStream(t, 100))
	f.Stall = 300 * time.Millisecond
	cancel, ran := s.pull(t, &Pull{URL: "a", FFmpeg: f})
	eventually(t, "a second death", func() bool { return strings.Count(s.log.String(), "no frames came") >= 2 })
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
}

// A stream that somebody else publishes is left alone; who kicks the publisher means it.
func TestPullBusy(t *testing.T) {
	s := &stage{hub: &stream.Hub{Log: quiet}}
	defer s.hub.Close()
	other, err := s.hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	f := fakeFFmpeg("endless", "FILE="+transportStream(t, 100))
	_, ran := s.pull(t, &Pull{URL: "a", FFmpeg: f})
	eventually(t, "a refusal", func() bool { return strings.Contains(s.log.String(), stream.ErrBusy.Error()) })
	require.NoError(t, other.Close())
	eventually(t, "its turn", func() bool {
		st := s.hub.Stream("live/a")
		return st != nil && st.Stats().Frames > 50
	})
	s.hub.Stream("live/a").End(stream.ErrKicked)
	require.NoError(t, <-ran)

	require.ErrorIs(t, (&Pull{Hub: s.hub, Stream: "live/a", URL: "gopher://x"}).Run(t.Context()), errSource)
	require.ErrorIs(t, (&Pull{Hub: s.hub, Stream: "live/../a", URL: "a"}).Run(t.Context()), stream.ErrName)
	require.Error(t, (&Pull{URL: "a"}).Run(t.Context()))
}

// What is fetched goes through the proxy, whose password nobody else learns; nothing else
// is in the environment but what the host says.
func TestPullEnvironment(t *testing.T) {
	t.Setenv("SECRET", "of this process")
	s := &stage{hub: &stream.Hub{Log: quiet}}
	defer s.hub.Close()
	cancel, ran := s.pull(t, &Pull{URL: "http://127.0.0.1:1/a.m3u8?token=t0ken", FFmpeg: fakeFFmpeg("dump")})
	eventually(t, "the environment", func() bool { return strings.Contains(s.log.String(), "FAKE") })
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
	require.Regexp(t, `\[\\"http_proxy=http://runnel:…@127\.0\.0\.1:\d+\\" \\"FAKE=dump\\"\]`, s.log.String())
	require.Contains(t, s.log.String(), "a.m3u8?…")
	require.NotContains(t, s.log.String(), "t0ken")
}
