package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestMemoryRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &MemoryRegistry{Lease: 3 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		require.ErrorIs(t, m.Claim(ctx, "a", "s"), ErrUnknown)
		for _, id := range []string{"a", "b"} {
			require.NoError(t, m.Announce(ctx, Server{ID: id, URL: "runnel://" + id}))
		}
		// Of many at once one wins.
		var wins atomic.Int32
		var wait sync.WaitGroup
		for i := range 20 {
			wait.Go(func() {
				if err := m.Claim(ctx, []string{"a", "b"}[i%2], fmt.Sprint("s", i/2)); err == nil {
					wins.Add(1)
				} else if !errors.Is(err, ErrClaimed) || !errors.Is(err, stream.ErrBusy) {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		require.EqualValues(t, 10, wins.Load())

		var d directory
		wait.Go(func() { d.follow(ctx, m, (&Relay{}).backoff(), func(string, string) {}) })
		synctest.Wait()
		require.Len(t, d.all(), 2)
		owner, ok := d.find("s3")
		require.True(t, ok)
		other := map[string]string{"a": "b", "b": "a"}[owner.ID]
		require.NoError(t, m.Claim(ctx, owner.ID, "s3"), "its own")
		require.NoError(t, m.Release(ctx, other, "s3"))
		require.ErrorIs(t, m.Claim(ctx, other, "s3"), ErrClaimed)
		require.NoError(t, m.Release(ctx, owner.ID, "s3"))
		require.NoError(t, m.Claim(ctx, other, "s3"))
		synctest.Wait()
		owner, _ = d.find("s3")
		require.Equal(t, other, owner.ID)

		// A server that says nothing is forgotten with its claims.
		for range 4 {
			time.Sleep(time.Second)
			require.NoError(t, m.Announce(ctx, Server{ID: other, URL: "runnel://" + other, Load: 0.5}))
		}
		synctest.Wait()
		require.Equal(t, []Server{{ID: other, URL: "runnel://" + other, Load: 0.5}}, d.all())
		for i := range 10 {
			require.NoError(t, m.Claim(ctx, other, fmt.Sprint("s", i)))
		}
		require.NoError(t, m.Withdraw(ctx, other))
		require.NoError(t, m.Withdraw(ctx, other))
		synctest.Wait()
		require.Empty(t, d.all())
		require.Empty(t, d.owners)

		// Who is too slow is told, and begins again.
		require.NoError(t, m.Announce(ctx, Server{ID: "a"}))
		n := 0
		var last error
		for c, err := range m.Watch(ctx) {
			if last = err; n == 0 && err == nil {
				require.Equal(t, "a", c.Server.ID)
				for i := range maxBehind + 2 {
					require.NoError(t, m.Claim(ctx, "a", fmt.Sprint(i)))
				}
			}
			n++
		}
		require.ErrorIs(t, last, errBehind)
		synctest.Wait()
		require.Len(t, d.of("a"), maxBehind+2)
		cancel()
		wait.Wait()
		require.Empty(t, m.watchers)
		require.NoError(t, m.Withdraw(ctx, "a"))
	})
}

// A flaky registry can be away.
type flaky struct {
	*MemoryRegistry
	away atomic.Bool
}

var errAway = errors.New("away")

func (f *flaky) Announce(ctx context.Context, s Server) error {
	if f.away.Load() {
		return errAway
	}
	return f.MemoryRegistry.Announce(ctx, s)
}

func (f *flaky) Claim(ctx context.Context, server, name string) error {
	if f.away.Load() {
		return errAway
	}
	return f.MemoryRegistry.Claim(ctx, server, name)
}

func (f *flaky) Watch(ctx context.Context) iter.Seq2[Change, error] {
	if f.away.Load() {
		return func(yield func(Change, error) bool) { yield(Change{}, errAway) }
	}
	return f.MemoryRegistry.Watch(ctx)
}

func TestCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		shared := &MemoryRegistry{}
		var nodes []*node
		var registries []*flaky
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for i := range 3 {
			n := newNode(t, network, fmt.Sprint("n", i))
			registries = append(registries, &flaky{MemoryRegistry: shared})
			n.Registry, n.Advertise = registries[i], "runnel://"+n.host
			n.Hub.Source = n.Relay
			nodes = append(nodes, n)
			defer n.close()
			wait.Go(func() { require.NoError(t, n.Run(ctx)) })
		}
		synctest.Wait()
		require.Len(t, nodes[0].Servers(), 3)
		// ask is what ingest does before it publishes.
		ask := func(n *node, name string) error {
			_, err := n.Guard(auth.AllowAll).Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: name})
			return err
		}
		require.NoError(t, ask(nodes[0], "live/cam"))
		stop := nodes[0].publish("live/cam", 0)
		owner, ok := nodes[2].Find("live/cam")
		require.True(t, ok)
		require.Equal(t, "n0", owner.ID)
		require.ErrorIs(t, ask(nodes[1], "live/cam"), ErrClaimed)

		sub, err := nodes[1].Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		defer sub.Close()
		take(t, sub, 20)
		owner, _ = nodes[2].Find("live/cam")
		require.Equal(t, "n0", owner.ID, "a copy is no claim")

		// The publisher comes back elsewhere; the viewers go along.
		stop()
		synctest.Wait()
		require.NoError(t, ask(nodes[2], "live/cam"))
		stop = nodes[2].publish("live/cam", 0)
		gap, _ := longestGap(t.Context(), t, sub, 5*time.Second)
		require.Less(t, gap, 3*time.Second)
		require.Equal(t, 1, nodes[2].sessions(stream.RolePlay))

		// Who was not asked and loses is ended.
		ended := make(chan error, 1)
		s := nodes[0].Hub.OpenSession(stream.SessionInfo{Role: stream.RolePublish, Stream: "live/cam"}, func(err error) { ended <- err })
		pub, err := nodes[0].Hub.Publish(t.Context(), "live/cam", &stream.PublishOptions{Session: s})
		require.NoError(t, err)
		require.ErrorIs(t, <-ended, ErrClaimed)
		pub.Close()
		s.Close(nil)

		// A partition: what is there goes on, nothing new begins; a name that was
		// allowed and never published is free again in the end.
		require.NoError(t, ask(nodes[1], "live/never"))
		registries[2].away.Store(true)
		require.ErrorIs(t, ask(nodes[2], "live/new"), stream.ErrBusy)
		gap, _ = longestGap(t.Context(), t, sub, 10*time.Second)
		require.Less(t, gap, time.Second)
		require.Len(t, nodes[0].Servers(), 2, "n2's lease has ended")
		require.True(t, nodes[2].Hub.Stream("live/cam").Publishing())
		_, ok = nodes[0].Find("live/never")
		require.False(t, ok)
		registries[2].away.Store(false)
		time.Sleep(3 * time.Second)
		owner, ok = nodes[0].Find("live/cam")
		require.True(t, ok)
		require.Equal(t, "n2", owner.ID)
		require.NoError(t, ask(nodes[2], "live/new"))
		stop()
		cancel()
		wait.Wait()
		require.Empty(t, shared.servers)
	})
}

// Looking up in a directory of many streams asks nobody.
func BenchmarkFind(b *testing.B) {
	d := directory{servers: map[string]Server{"a": {ID: "a"}}, owners: map[string]string{}}
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprint("live/", i)
		d.owners[names[i]] = "a"
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := d.find(names[i%len(names)]); !ok {
			b.Fatal("not found")
		}
	}
}
