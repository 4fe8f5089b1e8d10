package cluster

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

var lab *peer.Lab

func TestMain(m *testing.M) {
	if spec := os.Getenv(asNode); spec != "" {
		fmt.Fprintln(os.Stderr, serveNode(spec))
		os.Exit(1)
	}
	enter()
	os.Exit(peer.Main(m, &lab, 2))
}

func program(t *testing.T, name string) string {
	t.Helper()
	return lab.File(t, name+".exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/"+name)
	})
}

// A server is a mediaserver as a process, whose addresses stay when it is
// started again.
type server struct {
	t          *testing.T
	host       *host // nil: this one
	process    *peer.Process
	args       []string
	rtmp, http string // addresses
}

func (s *server) start() {
	s.t.Helper()
	command := append(s.host.enter(), program(s.t, "mediaserver"))
	command = append(command, s.args...)
	s.process = peer.Start(s.t, command[0], command[1:]...)
}

// up waits until the server answers.
func (s *server) up() {
	s.t.Helper()
	peer.Eventually(s.t, time.Minute, "an answer at "+s.http, func() bool {
		require.True(s.t, s.process.Running(), "mediaserver ended: %s", s.process.Log())
		r, err := client.Get("http://" + s.http)
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
}

// client asks what is answered at once.
var client = &http.Client{Timeout: 10 * time.Second}

// looker asks for what may not be there yet, which a server waits for.
var looker = &http.Client{Timeout: time.Second}

// A cluster is three origins that keep the registry and two edges.
type cluster struct{ servers []*server }

const (
	origins = 3
	edges   = 2
)

// start starts a cluster. addr returns the address of a server for one more
// listener.
func start(t *testing.T, hosts []*host, addr func(server int) string) *cluster {
	t.Helper()
	return startAt(t, hosts, addr, nil)
}

// startAt is start, where nodes are those of the registry if the origins are not
// to keep it.
func startAt(t *testing.T, hosts []*host, addr func(server int) string, nodes []*node) *cluster {
	t.Helper()
	c := &cluster{}
	var nats, peers []string
	if nodes != nil {
		for _, n := range nodes {
			nats = append(nats, n.Listen)
		}
	} else {
		for i := range origins {
			nats, peers = append(nats, addr(i)), append(peers, addr(i))
		}
	}
	for i := range origins + edges {
		s := &server{t: t, rtmp: addr(i), http: addr(i)}
		s.args = []string{
			"-rtmp", s.rtmp, "-http", s.http, "-srt", "", "-webrtc", "", "-publish-token", "secret", "-cluster-token", "registry",
			"-advertise", "runnel://" + s.http, "-relay-id", fmt.Sprint("server", i),
		}
		if hosts != nil {
			s.host = hosts[i]
		}
		if i < origins && nodes == nil {
			s.args = append(s.args, "-cluster", "embedded", "-cluster-listen", nats[i], "-cluster-peer-listen", peers[i], "-cluster-dir", t.TempDir())
			for n := range origins {
				if n != i {
					s.args = append(s.args, "-cluster-peer", peers[n])
				}
			}
		} else {
			s.args = append(s.args, "-cluster", "nats://"+strings.Join(nats, ",nats://"))
		}
		s.start()
		c.servers = append(c.servers, s)
	}
	for _, s := range c.servers {
		s.up()
	}
	return c
}

func (c *cluster) edge(i int) *server { return c.servers[origins+i] }

// A publisher is an encoder that comes back when it is refused or loses its
// server.
type publisher struct {
	mu      sync.Mutex
	process *peer.Process
	ended   bool
}

// publish sends a stream to a server until the test or stop ends it.
func publish(t *testing.T, s *server, name string) *publisher {
	t.Helper()
	clip := lab.Clip(t, peer.AV)
	p := &publisher{}
	again := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.ended && (p.process == nil || !p.process.Running()) {
			p.process = peer.Start(t, "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-f", "flv", "rtmp://"+s.rtmp+"/live/"+name+"?token=secret")
		}
	}
	peer.Eventually(t, time.Minute, name+" at "+s.http, func() bool {
		again()
		r, err := looker.Get("http://" + s.http + "/live/" + name + ".flv")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return p
}

func (p *publisher) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.process.Kill()
}

// A viewer notes when frames came.
type viewer struct {
	mu     sync.Mutex
	frames int
	last   time.Time
	pause  time.Duration // the longest between frames
	done   chan struct{}
}

func watch(t *testing.T, s *server, name string) *viewer {
	t.Helper()
	v := &viewer{done: make(chan struct{})}
	var r *http.Response
	peer.Eventually(t, time.Minute, name+" at "+s.http, func() bool {
		var err error
		if r, err = http.Get("http://" + s.http + "/live/" + name + ".flv"); err != nil {
			return false
		}
		if r.StatusCode != http.StatusOK {
			r.Body.Close()
			return false
		}
		return true
	})
	go func() {
		defer close(v.done)
		_ = (&flv.Reader{R: r.Body, Demuxer: &flv.Demuxer{Sink: v}}).ReadAll()
	}()
	t.Cleanup(func() {
		r.Body.Close()
		<-v.done
	})
	return v
}

func (v *viewer) SetTracks(...*stream.Track) error { return nil }
func (v *viewer) SetMetadata(stream.Metadata)      {}
func (v *viewer) Write(*stream.Frame) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.frames++
	now := time.Now()
	if !v.last.IsZero() {
		v.pause = max(v.pause, now.Sub(v.last))
	}
	v.last = now
	return nil
}

// longest returns the longest time without a frame since it was asked last.
func (v *viewer) longest() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	pause := v.pause
	v.pause = 0
	return pause
}

func (v *viewer) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.frames
}

// expect waits for more frames and returns how long that took.
func (v *viewer) expect(t *testing.T, more int) time.Duration {
	t.Helper()
	begin, want := time.Now(), v.count()+more
	peer.Eventually(t, time.Minute, "frames", func() bool {
		select {
		case <-v.done:
			t.Fatal("the viewer was cut off")
		default:
		}
		return v.count() >= want
	})
	return time.Since(begin)
}

// quiet waits until what was on its way has come.
func (v *viewer) quiet(t *testing.T) {
	t.Helper()
	last, since := v.count(), time.Now()
	peer.Eventually(t, time.Minute, "silence", func() bool {
		if n := v.count(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
}
