package srt

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// A server is what a host composes: SRT, RTMP and HTTP over one hub.
type server struct {
	hub             *stream.Hub
	in              *ingest.Server
	addr            string // of SRT
	rtmp, http, srt string
}

func startServer(t *testing.T, a auth.Authorizer, options ingest.SRT) *server {
	t.Helper()
	peer.Need(t, "ffmpeg")
	peer.Need(t, "ffprobe")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := &stream.Hub{Grace: 100 * time.Millisecond}
	s := &server{hub: hub, in: &ingest.Server{Hub: hub, Auth: a, Log: log, SRT: options}}
	out := &deliver.Server{Hub: hub, Auth: a, Log: log, WriteInterval: 20 * time.Millisecond, Wait: time.Minute}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = pc.LocalAddr().String()
	s.srt = "srt://" + s.addr
	l := peer.Listen(t)
	s.rtmp = "rtmp://" + l.Addr().String()
	web := httptest.NewServer(out)
	s.http = web.URL
	ended := make(chan error, 2)
	go func() { ended <- s.in.ServeSRT(pc, out) }()
	go func() { ended <- s.in.ServeRTMP(l, out) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(s.in.Shutdown(ctx), out.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		web.Close()
		hub.Close()
		for range 2 {
			select {
			case err := <-ended:
				if !errors.Is(err, ingest.ErrServerClosed) {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Error("a server did not end")
			}
		}
	})
	return s
}

// waitStream waits until a stream has both of its tracks.
func (s *server) waitStream(t *testing.T, name string) {
	t.Helper()
	peer.Eventually(t, time.Minute, "stream "+name, func() bool {
		st := s.hub.Stream(name)
		return st != nil && len(st.Tracks()) == 2
	})
}

// ts makes a transport stream of minutes, which tests publish for as long as they
// need it.
func ts(t *testing.T) string {
	return lab.File(t, "long.ts", func(path string) {
		peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-y", "-stream_loop", "79", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "mpegts", path)
	})
}

// checkMedia looks at what a player wrote to a file.
func checkMedia(t *testing.T, path string, pictures int) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NotZero(t, info.Size(), filepath.Base(path))
	m := peer.Probe(t, time.Minute, path)
	require.Equal(t, []string{"aac", "h264"}, m.Codecs())
	require.GreaterOrEqual(t, len(m.Video), pictures, filepath.Base(path))
	_, smallest := peer.Gap(m.Video)
	require.Positive(t, smallest)
}
