package relay

import (
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(peer.Main(m, &lab, 2)) }

// A server is a mediaserver as a process, whose addresses stay when it is
// started again.
type server struct {
	t          *testing.T
	process    *peer.Process
	args       []string
	rtmp, http string // addresses
}

func start(t *testing.T, flags ...string) *server {
	t.Helper()
	s := &server{t: t, rtmp: peer.FreeAddr(t), http: peer.FreeAddr(t)}
	s.args = append([]string{"-rtmp", s.rtmp, "-http", s.http, "-srt", "", "-webrtc", ""}, flags...)
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	bin := lab.File(s.t, "mediaserver.exe", func(path string) {
		peer.Run(s.t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/mediaserver")
	})
	s.process = peer.Start(s.t, bin, s.args...)
	peer.Eventually(s.t, 20*time.Second, "an answer at "+s.http, func() bool {
		require.True(s.t, s.process.Running(), "mediaserver ended: %s", s.process.Log())
		r, err := http.Get("http://" + s.http)
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
}

// answers waits until somebody listens at an address.
func answers(t *testing.T, addr string) {
	t.Helper()
	peer.Eventually(t, 10*time.Second, "an answer at "+addr, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// get asks for a stream over HTTP until it is there.
func get(t *testing.T, url string) *http.Response {
	t.Helper()
	var r *http.Response
	peer.Eventually(t, 20*time.Second, url, func() bool {
		var err error
		if r, err = http.Get(url); err != nil {
			return false
		}
		if r.StatusCode != http.StatusOK {
			r.Body.Close()
			return false
		}
		return true
	})
	t.Cleanup(func() { r.Body.Close() })
	return r
}
