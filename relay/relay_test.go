package relay

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A node is a server of the test's: a hub with a relay before it, on a network
// in memory.
type node struct {
	*Relay
	t    *testing.T
	net  *streamtest.Net
	host string

	mu  sync.Mutex
	web *http.Server
}

func newNode(t *testing.T, network *streamtest.Net, host string, origins ...string) *node {
	n := &node{t: t, net: network, host: host}
	hub := &stream.Hub{Log: slog.New(slog.DiscardHandler), Linger: 2 * time.Second}
	n.Relay = &Relay{
		Hub: hub, ID: host, Origins: origins, Auth: auth.AllowAll, DialContext: network.Dial,
		Log: slog.New(slog.DiscardHandler),
	}
	if origins != nil {
		hub.Source = n.Relay
	}
	n.up()
	return n
}

// up has the node answer.
func (n *node) up() {
	l, err := n.net.Listen(n.host + ":80")
	require.NoError(n.t, err)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.web = &http.Server{Handler: n.Relay}
	web := n.web
	go web.Serve(l)
}

// down has it answer no more, and breaks its connections.
func (n *node) down() {
	n.mu.Lock()
	web := n.web
	n.mu.Unlock()
	web.Close()
}

func (n *node) close() {
	n.down()
	n.Hub.Close()
	n.Relay.Close()
}

// publish feeds the test clip until the function that it returns is called.
func (n *node) publish(name string, start time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&streamtest.Source{Start: start}).Run(ctx, n.Hub, name)
	}()
	synctest.Wait()
	return func() { cancel(); <-done }
}

func (n *node) sessions(role stream.Role) (k int) {
	for s := range n.Hub.Sessions() {
		if s.Info().Role == role {
			k++
		}
	}
	return k
}

// take reads n frames.
func take(t *testing.T, sub *stream.Subscriber, n int) (frames []*stream.Frame) {
	t.Helper()
	var batch [16]*stream.Frame
	for len(frames) < n {
		k, err := sub.Read(t.Context(), batch[:min(len(batch), n-len(frames))])
		require.NoError(t, err, "after %d frames", len(frames))
		frames = append(frames, batch[:k]...)
	}
	return frames
}

// In a bubble a goroutine that is left over fails the test.
func TestNothingLeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		origin := newNode(t, network, "origin")
		defer origin.close()
		edge := newNode(t, network, "edge", "runnel://origin")
		defer edge.close()
		defer origin.publish("live/cam", 0)()
		for i := range 200 {
			sub, err := edge.Hub.Subscribe(t.Context(), "live/cam", nil)
			require.NoError(t, err, "cycle %d", i)
			take(t, sub, 3)
			sub.Close()
			if i%10 == 9 {
				origin.down()
				origin.up()
			}
			time.Sleep(3 * time.Second)
			require.Empty(t, edge.Jobs())
		}
		require.Zero(t, origin.sessions(stream.RolePlay))
	})
}
