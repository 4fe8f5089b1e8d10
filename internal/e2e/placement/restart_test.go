package placement

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A cluster is three servers with RTMP and HTTP on a network in memory, in a
// bubble, behind a balancer, "lb".
type cluster struct {
	t        *testing.T
	net      *streamtest.Net
	registry relay.MemoryRegistry
	turn     atomic.Uint32

	mu    sync.Mutex
	nodes []*node
}

type node struct {
	name  string
	hub   *stream.Hub
	relay *relay.Relay
	in    *ingest.Server
	out   *deliver.Server
	web   *http.Server
	stop  context.CancelFunc
	ended chan struct{}
}

func (c *cluster) start(name string) *node {
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log, Grace: 5 * time.Second, Linger: 2 * time.Second}
	r := &relay.Relay{
		Hub: hub, Log: log, ID: name, Registry: &c.registry, Advertise: "runnel://" + name, Redirect: true, Auth: auth.AllowAll,
		Public: map[string]string{"rtmp": "rtmp://" + name, "http": "http://" + name}, DialContext: c.net.Dial,
	}
	hub.Source = r
	guard := r.Guard(auth.AllowAll)
	n := &node{
		name: name, hub: hub, relay: r, ended: make(chan struct{}),
		in:  &ingest.Server{Hub: hub, Auth: guard, Log: log},
		out: &deliver.Server{Hub: hub, Auth: guard, Log: log, Wait: 2 * time.Second},
	}
	mux := http.NewServeMux()
	mux.Handle(relay.PathPrefix, r)
	mux.Handle("/", n.out)
	n.web = &http.Server{Handler: mux}
	for port, serve := range map[string]func(net.Listener) error{
		"1935": func(l net.Listener) error { return n.in.ServeRTMP(l, n.out) }, "80": n.web.Serve,
	} {
		l, err := c.net.Listen(name + ":" + port)
		require.NoError(c.t, err)
		go func() { _ = serve(l) }() // until shutdown
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() {
		defer close(n.ended)
		_ = r.Run(ctx)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
	return n
}

// end takes a server that is empty away.
func (c *cluster) end(n *node) {
	c.mu.Lock()
	for i, x := range c.nodes {
		if x == n {
			c.nodes = append(c.nodes[:i], c.nodes[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	n.stop()
	<-n.ended
	bound, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = n.in.Shutdown(bound)
	_ = n.out.Shutdown(bound)
	_ = n.web.Close()
	_ = n.hub.Close()
	_ = n.relay.Close()
}

// dial reaches servers by name, and one after the other as "lb".
func (c *cluster) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if port, ok := strings.CutPrefix(addr, "lb:"); ok {
		c.mu.Lock()
		n := c.nodes[int(c.turn.Add(1))%len(c.nodes)]
		c.mu.Unlock()
		addr = n.name + ":" + port
	}
	return c.net.Dial(ctx, network, addr)
}

func (c *cluster) node(name string) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func players(n *node) (count int) {
	for s := range n.hub.Sessions() {
		if i := s.Info(); i.Role == stream.RolePlay && i.Protocol == "http-flv" {
			count++
		}
	}
	return count
}

// publishing returns the server that has the stream's publisher.
func (c *cluster) publishing(name string) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		for s := range n.hub.Sessions() {
			if i := s.Info(); i.Role == stream.RolePublish && i.Protocol == "rtmp" && i.Stream == name {
				return n
			}
		}
	}
	return nil
}

// A viewer reads a stream over HTTP, and connects again when it ends.
type viewer struct {
	mu    sync.Mutex
	last  time.Time
	worst time.Duration
	at    string // the host that serves it
	moves int
}

func (v *viewer) watch(ctx context.Context, client *http.Client, url string) {
	for ctx.Err() == nil {
		if err := v.once(ctx, client, url); err != nil {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (v *viewer) once(ctx context.Context, client *http.Client, url string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := client.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	v.mu.Lock()
	v.at = r.Request.URL.Host
	v.moves++
	v.mu.Unlock()
	var b [16 << 10]byte
	for {
		_, err := r.Body.Read(b[:])
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		v.mu.Lock()
		now := time.Now()
		if !v.last.IsZero() {
			v.worst = max(v.worst, now.Sub(v.last))
		}
		v.last = now
		v.mu.Unlock()
	}
}

func (v *viewer) state() (at string, worst time.Duration, moves int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.last.IsZero() {
		v.worst = max(v.worst, time.Since(v.last))
	}
	return v.at, v.worst, v.moves
}

// TestRollingRestart: an encoder over RTMP and players over HTTP-FLV go from server
// to server while each is drained and restarted.
func TestRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, net: &streamtest.Net{Latency: 2 * time.Millisecond}}
		defer c.net.Close()
		for _, name := range []string{"a", "b", "c"} {
			c.start(name)
		}
		defer func() {
			for len(c.nodes) > 0 {
				c.end(c.nodes[0])
			}
		}()
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		defer clients.Wait()
		defer cancel()
		eventually := func(what string, done func() bool) {
			t.Helper()
			for range 300 {
				if done() {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Fatal(what)
		}

		// The encoder is a server of ours that forwards: it follows a 302 and a
		// reconnect request.
		log := slog.New(slog.DiscardHandler)
		studio := &relay.Relay{Hub: &stream.Hub{Log: log}, Log: log, DialContext: c.dial}
		defer studio.Hub.Close()
		clients.Go(func() { _ = (&streamtest.Source{}).Run(ctx, studio.Hub, "live/cam") })
		synctest.Wait()
		clients.Go(func() { _ = studio.Push(ctx, "live/cam", "rtmp://lb/live/cam?token=t") })
		eventually("nobody has the stream", func() bool { return c.publishing("live/cam") != nil })

		transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
		client := &http.Client{Transport: transport}
		var viewers []*viewer
		for range 6 {
			v := &viewer{}
			viewers = append(viewers, v)
			clients.Go(func() { v.watch(ctx, client, "http://lb/live/cam.flv?token=t") })
		}
		owner := c.publishing("live/cam").name
		eventually("the players are where the stream is", func() bool {
			for _, v := range viewers {
				if at, _, _ := v.state(); at != owner && at != "lb" { // who came to it at once
					return false
				}
			}
			return players(c.node(owner)) == len(viewers)
		})

		for _, name := range []string{"a", "b", "c"} {
			n := c.node(name)
			bound, stop := context.WithTimeout(ctx, 30*time.Second)
			began := time.Now()
			require.NoError(t, n.relay.Drain(bound))
			stop()
			t.Logf("%s drained in %v", name, time.Since(began))
			c.end(n)
			c.start(name)
			time.Sleep(3 * time.Second)
			require.NotNil(t, c.publishing("live/cam"))
		}
		for _, v := range viewers {
			at, worst, moves := v.state()
			t.Logf("a player at %s, %d connections, %v without media at most", at, moves, worst)
			require.Less(t, worst, 3*time.Second)
			require.Greater(t, moves, 1)
		}
		job := studio.Jobs()[0]
		require.True(t, job.Running)
		t.Logf("the encoder made %d attempts", job.Attempts)
		require.NotContains(t, job.URL, "token")
		cancel()
		clients.Wait()
	})
}
