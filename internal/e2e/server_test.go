package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// A server is everything that a host composes, on loopback ports: publishers
// and players over RTMP and RTMPS, players over HTTP.
type server struct {
	hub   *stream.Hub
	in    *ingest.Server
	out   *deliver.Server
	mux   *http.ServeMux // /live/ is taken: players GET, publishers POST
	rtmp  string         // rtmp://127.0.0.1:port
	rtmps string
	http  string
	peers atomic.Int32 // connections to RTMP and requests below /live/ so far
}

// startServer starts one. Players that ask for a stream before anybody
// publishes it wait for that.
func startServer(t *testing.T, hub *stream.Hub) *server {
	t.Helper()
	peer.Need(t, "ffmpeg")
	peer.Need(t, "ffprobe")
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := &server{
		hub: hub,
		in:  &ingest.Server{Hub: hub, Auth: auth.AllowAll, Log: log},
		out: &deliver.Server{Hub: hub, Auth: auth.AllowAll, Log: log, WriteInterval: 20 * time.Millisecond, Wait: live},
		mux: http.NewServeMux(),
	}
	s.mux.HandleFunc("GET /live/", func(w http.ResponseWriter, r *http.Request) {
		s.peers.Add(1)
		s.out.ServeHTTP(w, r)
	})
	s.mux.Handle("POST /live/", s.in)
	web := httptest.NewUnstartedServer(s.mux)
	web.StartTLS() // for its certificate; the tests' HTTP is plain
	cert := web.TLS.Certificates[0]
	web.Close()
	web = httptest.NewServer(s.mux)
	s.http = web.URL

	plain := counted{peer.Listen(t), &s.peers}
	secure := counted{peer.Listen(t), &s.peers}
	s.rtmp, s.rtmps = "rtmp://"+plain.Addr().String(), "rtmps://"+secure.Addr().String()
	ended := make(chan error, 2)
	go func() { ended <- s.in.ServeRTMP(plain, s.out) }()
	go func() {
		ended <- s.in.ServeRTMP(tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{cert}}), s.out)
	}()
	t.Cleanup(func() {
		s.in.Close()
		s.out.Close()
		s.hub.Close()
		web.Close()
		for range cap(ended) {
			if err := <-ended; !errors.Is(err, ingest.ErrServerClosed) {
				t.Errorf("ServeRTMP ended with %v", err)
			}
		}
	})
	return s
}

// counted counts what a listener accepts.
type counted struct {
	net.Listener
	n *atomic.Int32
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// expect waits until so many players have come. However busy the machine is,
// what is published then they get from its start.
func (s *server) expect(t *testing.T, players int) {
	t.Helper()
	peer.Eventually(t, live, fmt.Sprintf("%d players", players), func() bool { return int(s.peers.Load()) >= players })
}

// publish starts ffmpeg with a clip and waits until its stream can be played.
func (s *server) publish(t *testing.T, clip *peer.Clip, base, name string) *peer.Process {
	t.Helper()
	p := push(t, clip, base+"/live/"+name)
	s.waitFor(t, name, p)
	return p
}

// push starts an ffmpeg that sends a clip at its own speed to a URL. Options
// go before the clip.
func push(t *testing.T, clip *peer.Clip, url string, options ...string) *peer.Process {
	t.Helper()
	args := append([]string{"-nostdin", "-v", "error", "-re"}, options...)
	return peer.Start(t, "ffmpeg", append(args, "-i", lab.Clip(t, clip), "-c", "copy", "-f", "flv", url)...)
}

// waitFor waits until a stream has its tracks and some frames.
func (s *server) waitFor(t *testing.T, name string, p *peer.Process) {
	t.Helper()
	peer.Eventually(t, 30*time.Second, "frames of "+name, func() bool {
		if p != nil {
			require.True(t, p.Running(), "the publisher ended")
		}
		str := s.hub.Stream("live/" + strings.TrimSuffix(name, ".flv"))
		return str != nil && len(str.Tracks()) > 0 && str.Stats().Frames > 3
	})
}

// players counts the sessions that play.
func (s *server) players() (n int) {
	for session := range s.hub.Sessions() {
		if session.Info().Role == stream.RolePlay {
			n++
		}
	}
	return n
}

// together starts players side by side and returns what waits for the end of
// all of them.
func together(players ...func() error) (wait func() error) {
	errs := make([]error, len(players))
	var wg sync.WaitGroup
	for i, play := range players {
		wg.Go(func() { errs[i] = play() })
	}
	return func() error {
		wg.Wait()
		return errors.Join(errs...)
	}
}

// probe is a player for together: ffprobe, whose result is stored in m.
func probe(t *testing.T, url string, m **peer.Media) func() error {
	return func() (err error) {
		*m, err = peer.TryProbe(t, live, url)
		return err
	}
}

// observe is the same for the marks of the clip.
func observe(t *testing.T, url string, m **peer.Marks) func() error {
	return func() (err error) {
		*m, err = peer.TryObserve(t, live, url)
		return err
	}
}
