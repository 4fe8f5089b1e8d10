package natsregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/relay"
)

// patience is for elections in NATS, which take 4 to 9 s, on a machine that is
// busy.
const patience = time.Minute

// A wire carries one node's routes to another, and can be cut.
type wire struct {
	listener net.Listener

	mu     sync.Mutex
	target string // "": nobody is there
	cut    bool
	conns  map[net.Conn]struct{}
}

func newWire(t *testing.T) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{listener: l, conns: make(map[net.Conn]struct{})}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.set("", true)
		wait.Wait()
	})
	return w
}

// set says where the wire leads, and cuts or mends it.
func (w *wire) set(target string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if target != "" {
		w.target = target
	}
	w.cut = cut
	if cut {
		for c := range w.conns {
			c.Close()
		}
	}
}

func (w *wire) hold(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cut && w.target != "" {
		w.conns[c] = struct{}{}
		return true
	}
	return false
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	if !w.hold(c) {
		return
	}
	d, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer d.Close()
	if !w.hold(d) {
		return
	}
	go func() {
		_, _ = io.Copy(d, c)
		d.Close()
	}()
	_, _ = io.Copy(c, d)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	delete(w.conns, d)
}

// three are nodes that keep a registry together, with a wire for each pair and
// direction.
type three struct {
	nodes [3]*Embedded
	wires [3][3]*wire
}

func startThree(t *testing.T) *three {
	var c three
	for i := range c.wires {
		for j := range c.wires[i] {
			if i != j {
				c.wires[i][j] = newWire(t)
			}
		}
	}
	for i := range c.nodes {
		e := &Embedded{Name: fmt.Sprint("node", i), Peers: "127.0.0.1:0", Token: "secret", unlisted: true}
		for j, w := range c.wires[i] {
			if i != j {
				e.Routes = append(e.Routes, w.listener.Addr().String())
			}
		}
		c.nodes[i] = node(t, e)
		for j := range c.wires {
			if i != j {
				c.wires[j][i].set(e.PeerAddr().String(), false)
			}
		}
	}
	return &c
}

// isolate cuts a node off the others, or mends what was cut.
func (c *three) isolate(node int, cut bool) {
	for i := range c.wires {
		if i != node {
			c.wires[i][node].set("", cut)
			c.wires[node][i].set("", cut)
		}
	}
}

// eventually repeats what may fail until it does not.
func eventually(t *testing.T, what string, f func(ctx context.Context) error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > patience {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func announcing(r *Registry, id string) func(context.Context) error {
	return func(ctx context.Context) error { return r.Announce(ctx, relay.Server{ID: id, URL: "runnel://" + id}) }
}

func claiming(r *Registry, id, stream string) func(context.Context) error {
	return func(ctx context.Context) error { return r.Claim(ctx, id, stream) }
}

// refused waits for the answer that another server has a stream.
func refused(t *testing.T, r *Registry, id, stream string) {
	t.Helper()
	eventually(t, "a refusal", func(ctx context.Context) error {
		err := r.Claim(ctx, id, stream)
		require.Error(t, err)
		if errors.Is(err, relay.ErrClaimed) {
			return nil
		}
		return err
	})
}

// TestThreeNodes: the registry goes on without any one of its nodes, whether it
// ended, was killed or is cut off; who is cut off can change nothing.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	list := registries(t, 3, time.Hour, c.nodes[:]...)
	took := eventually(t, "the first announcement", announcing(list[0], "n0"))
	t.Logf("three nodes had a registry %v after the start", took.Round(time.Millisecond))
	for i := 1; i < 3; i++ {
		eventually(t, "announcement", announcing(list[i], fmt.Sprint("n", i)))
	}
	eventually(t, "the bucket on three nodes", func(ctx context.Context) error {
		kv, err := list[0].open(ctx)
		if err != nil {
			return err
		}
		status, err := kv.Status(ctx)
		if err == nil {
			require.Equal(t, 3, status.Config().Replicas)
		}
		return err
	})
	eventually(t, "a claim", claiming(list[2], "n2", "live/two"))
	refused(t, list[0], "n0", "live/two")

	// Node 2 is cut off.
	c.isolate(2, true)
	eventually(t, "a claim of the majority", claiming(list[0], "n0", "live/new"))
	for _, change := range []func(context.Context) error{claiming(list[2], "n2", "live/minority"), announcing(list[2], "n2")} {
		bounded, cancel := context.WithTimeout(t.Context(), time.Second)
		require.Error(t, change(bounded))
		cancel()
	}
	took = eventually(t, "to take over what the minority has", claiming(list[1], "n1", "live/two"))
	t.Logf("a stream of a server that was cut off was taken over %v after the cut", took.Round(time.Millisecond))
	c.isolate(2, false)
	took = eventually(t, "the return of the minority", announcing(list[2], "n2"))
	t.Logf("the server that was cut off was back %v after the mending", took.Round(time.Millisecond))
	eventually(t, "the nodes to find each other", func(ctx context.Context) error {
		if there, err := list[2].listening(ctx, "n1", list[1].mine["n1"].session); err != nil || there {
			return err
		}
		return errors.New("n1 is not heard")
	})
	refused(t, list[2], "n2", "live/two") // the later claim holds
	eventually(t, "a claim of the returned", claiming(list[2], "n2", "live/minority"))

	// Node 0 ends; its server is gone with it.
	require.NoError(t, c.nodes[0].Close())
	took = eventually(t, "a claim without node 0", claiming(list[1], "n1", "live/later"))
	t.Logf("claims went on %v after the end of a node", took.Round(time.Millisecond))
	took = eventually(t, "to take over from node 0", claiming(list[2], "n2", "live/new"))
	t.Logf("and its server's stream was taken over %v later", took.Round(time.Millisecond))
	refused(t, list[1], "n1", "live/new")
}
