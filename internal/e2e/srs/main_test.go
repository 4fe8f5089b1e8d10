package srs

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = peer.NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lab.Close()
	// Most of the time the tests wait for media at its own speed.
	if err := flag.Set("test.parallel", "3"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// A server is examples/srs as a process.
type server struct {
	*peer.Process
	dir             string // that it runs in
	rtmp, api, http string // addresses
	srt, rtc        string
}

// start starts it in a folder of its own, with variables that hold its addresses, as
// config makes them, and waits until it answers.
func start(t *testing.T, config func(s *server) (env, args []string)) *server {
	t.Helper()
	program := lab.File(t, "srs.exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/srs")
	})
	s := &server{dir: t.TempDir(), rtmp: peer.FreeAddr(t), api: peer.FreeAddr(t), http: peer.FreeAddr(t)}
	var sockets []net.PacketConn
	for _, addr := range []*string{&s.srt, &s.rtc} {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		*addr = udp.LocalAddr().String()
		sockets = append(sockets, udp)
	}
	for _, udp := range sockets { // both are had at once, so that they differ
		require.NoError(t, udp.Close())
	}
	env, args := config(s)
	s.Process = peer.StartIn(t, s.dir, env, program, args...)
	for _, addr := range []string{s.rtmp, s.api, s.http} {
		peer.Eventually(t, 20*time.Second, "an answer at "+addr, func() bool {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				require.True(t, s.Running(), "it has ended")
				return false
			}
			return c.Close() == nil
		})
	}
	return s
}

// interrupt ends the server as Ctrl-C does: status 0.
func (s *server) interrupt(t *testing.T) {
	t.Helper()
	p, err := os.FindProcess(s.PID())
	require.NoError(t, err)
	require.NoError(t, p.Signal(os.Interrupt))
	require.NoError(t, s.Wait(t, 20*time.Second))
}

// publish sends a clip again and again, at its own speed, until the test ends.
func publish(t *testing.T, to string) *peer.Process {
	t.Helper()
	return peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-re", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "flv", to)
}

// watch decodes some seconds of a live stream.
func watch(t *testing.T, url string) {
	t.Helper()
	m := peer.Probe(t, 40*time.Second, "-analyzeduration", "1000000", "-read_intervals", "%+1", url)
	require.Equal(t, []string{"aac", "h264"}, m.Codecs(), url)
	require.NotEmpty(t, m.Video, url)
	require.NotEmpty(t, m.Audio, url)
}

// A hookServer is a service for callbacks, that allows but for the stream "refused".
type hookServer struct {
	*httptest.Server
	mu    sync.Mutex
	calls []map[string]any
}

func startHooks(t *testing.T) *hookServer {
	t.Helper()
	h := &hookServer{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := map[string]any{}
		body, _ := io.ReadAll(r.Body)
		if json.Unmarshal(body, &call) != nil {
			call["action"], call["url"] = "GET", r.URL.RequestURI() // on_hls_notify
		}
		h.mu.Lock()
		h.calls = append(h.calls, call)
		h.mu.Unlock()
		if call["stream"] == "refused" {
			_, _ = io.WriteString(w, "1")
			return
		}
		_, _ = io.WriteString(w, `{"code": 0, "data": null}`)
	}))
	t.Cleanup(h.Close)
	return h
}

// of returns the calls of an action.
func (h *hookServer) of(action string) (list []map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c["action"] == action {
			list = append(list, c)
		}
	}
	return list
}

// wait waits for a call of an action that has the value in a field.
func (h *hookServer) wait(t *testing.T, action, field string, value any) map[string]any {
	t.Helper()
	var found map[string]any
	peer.Eventually(t, 30*time.Second, fmt.Sprintf("%s with %s %v", action, field, value), func() bool {
		i := slices.IndexFunc(h.of(action), func(c map[string]any) bool { return c[field] == value })
		if i >= 0 {
			found = h.of(action)[i]
		}
		return i >= 0
	})
	return found
}
