package natsregistry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/registrytest"
)

// node starts a NATS node that listens on loopback.
func node(t testing.TB, e *Embedded) *Embedded {
	t.Helper()
	e.Log = slog.New(slog.DiscardHandler)
	if e.Dir == "" {
		e.Dir = t.TempDir()
	}
	require.NoError(t, e.Start())
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// registries returns what servers have that each connect to one of the nodes.
func registries(t testing.TB, servers int, lease time.Duration, nodes ...*Embedded) []*Registry {
	t.Helper()
	var list []*Registry
	for i := range servers {
		conn, err := nodes[i%len(nodes)].Connect()
		require.NoError(t, err)
		t.Cleanup(conn.Close)
		list = append(list, &Registry{Conn: conn, Lease: lease})
	}
	return list
}

func TestRegistryConforms(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, func(t *testing.T, lease time.Duration) []relay.Registry {
		var list []relay.Registry
		for _, r := range registries(t, 3, lease, node(t, &Embedded{})) {
			list = append(list, r)
		}
		return list
	})
}

// TestKilledServer: the claims of a server that is gone without a word are there
// for the taking at once; those of one that NATS still hears are not.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	list := registries(t, 3, time.Hour, node(t, &Embedded{}))
	for i, r := range list {
		require.NoError(t, r.Announce(t.Context(), relay.Server{ID: fmt.Sprint("n", i)}))
	}
	require.NoError(t, list[0].Claim(t.Context(), "n0", "live/cam"))
	require.ErrorIs(t, list[1].Claim(t.Context(), "n1", "live/cam"), relay.ErrClaimed)
	list[0].Conn.Close()
	require.NoError(t, list[1].Claim(t.Context(), "n1", "live/cam"))
	require.ErrorIs(t, list[2].Claim(t.Context(), "n2", "live/cam"), relay.ErrClaimed)

	// The next process by its name is another server, with nothing of the old
	// one's but what it claims itself.
	conn, err := nats.Connect("", nats.InProcessServer(list[2].Conn.Opts.InProcessServer))
	require.NoError(t, err)
	defer conn.Close()
	next := &Registry{Conn: conn, Lease: time.Hour}
	require.NoError(t, list[1].Claim(t.Context(), "n1", "live/own"))
	require.NoError(t, next.Announce(t.Context(), relay.Server{ID: "n0"}))
	require.ErrorIs(t, next.Claim(t.Context(), "n0", "live/own"), relay.ErrClaimed)
	require.NoError(t, next.Claim(t.Context(), "n0", "live/next"))

	// Two processes of one name at once are a mistake.
	require.ErrorContains(t, (&Registry{Conn: list[2].Conn, Lease: time.Hour}).Announce(t.Context(), relay.Server{ID: "n1"}), "another server n1")
}

// TestSilentServer: who is connected and does not answer keeps what it has.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	list := registries(t, 2, time.Hour, node(t, &Embedded{}))
	for i, r := range list {
		require.NoError(t, r.Announce(t.Context(), relay.Server{ID: fmt.Sprint("n", i)}))
	}
	require.NoError(t, list[0].Claim(t.Context(), "n0", "live/cam"))
	// In place of the answer there is silence.
	l := list[0].mine["n0"]
	require.NoError(t, l.alive.Unsubscribe())
	_, err := list[0].Conn.Subscribe(list[0].aliveSubject("n0", l.session), func(*nats.Msg) {})
	require.NoError(t, err)
	require.NoError(t, list[0].Conn.Flush())
	require.ErrorIs(t, list[1].Claim(t.Context(), "n1", "live/cam"), relay.ErrClaimed)
}

// TestBucketLost: a registry that has lost everything is made anew.
func TestBucketLost(t *testing.T) {
	t.Parallel()
	r := registries(t, 1, time.Hour, node(t, &Embedded{}))[0]
	s := relay.Server{ID: "n0", URL: "runnel://n0"}
	require.NoError(t, r.Announce(t.Context(), s))
	require.NoError(t, r.Claim(t.Context(), "n0", "live/cam"))
	require.NoError(t, r.js.DeleteKeyValue(t.Context(), "runnel"))
	require.NoError(t, r.Announce(t.Context(), s))
	require.NoError(t, r.Claim(t.Context(), "n0", "live/cam"))
}

// TestSweep: claims that nobody holds are removed by one of those who watch.
func TestSweep(t *testing.T) {
	t.Parallel()
	list := registries(t, 2, time.Hour, node(t, &Embedded{}))
	for i, r := range list {
		require.NoError(t, r.Announce(t.Context(), relay.Server{ID: fmt.Sprint("n", i)}))
		require.NoError(t, r.Claim(t.Context(), fmt.Sprint("n", i), fmt.Sprint("live/", i)))
	}
	require.NoError(t, list[0].Withdraw(t.Context(), "n0"))
	kv, err := list[1].open(t.Context())
	require.NoError(t, err)
	v := newView()
	look := func() {
		f, err := list[1].listen()
		require.NoError(t, err)
		defer f.stop()
		for range f.initial {
			_, err := v.apply(<-f.entries)
			require.NoError(t, err)
		}
	}
	look()
	require.Len(t, v.claims, 2)
	require.Len(t, v.void(), 1)
	other := sweeper{registry: list[0], kv: kv}
	ours := sweeper{registry: list[1], kv: kv}
	for range 2 {
		other.next(t.Context(), v)
		ours.next(t.Context(), v)
	}
	require.Nil(t, other.done, "that is for n1")
	<-ours.done
	other.stop()
	ours.stop()
	v = newView()
	look()
	require.Len(t, v.claims, 1)
	require.Empty(t, v.void())
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	require.ErrorIs(t, (&Registry{}).Announce(ctx, relay.Server{ID: "a"}), errNoConn)
	conn := registries(t, 1, 0, node(t, &Embedded{}))[0].Conn
	require.ErrorIs(t, (&Registry{Conn: conn, Name: "a.b"}).Announce(ctx, relay.Server{ID: "a"}), errName)
	r := &Registry{Conn: conn, Name: "other"}
	require.ErrorIs(t, r.Announce(ctx, relay.Server{}), errKey)
	require.ErrorIs(t, r.Announce(ctx, relay.Server{ID: "a", URL: string(make([]byte, maxValue))}), errTooLarge)
	require.NoError(t, r.Announce(ctx, relay.Server{ID: "a"}))
	require.ErrorIs(t, r.Claim(ctx, "a", ""), errKey)
	require.ErrorIs(t, r.Claim(ctx, "a", string(make([]byte, maxStream+1))), errKey)
	require.ErrorIs(t, r.Release(ctx, "a", ""), errKey)
	_, err := conn.JetStream()
	require.NoError(t, err)
	done, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, r.Claim(done, "a", "live/cam"), context.Canceled)
	for d, want := range map[time.Duration]time.Duration{0: 15 * time.Second, time.Millisecond: time.Second, 2400 * time.Millisecond: 2 * time.Second} {
		require.Equal(t, want, (&Registry{Lease: d}).TTL())
	}
}

// TestEmbeddedIsClosed: a node lets in whom it was told to.
func TestEmbeddedIsClosed(t *testing.T) {
	t.Parallel()
	for _, e := range []*Embedded{
		{Listen: ":0"}, {Listen: "0.0.0.0:0"}, {Listen: "[::]:0"}, {Peers: "192.0.2.1:0", Routes: []string{"192.0.2.2:1"}}, {Listen: "host.example:0"},
		{Listen: ":0", TLS: &tls.Config{}},
	} {
		require.ErrorIs(t, e.Start(), errOpen, e.Listen+e.Peers)
	}
	for _, e := range []*Embedded{{Listen: "x"}, {Listen: "127.0.0.1:x"}, {Routes: []string{"127.0.0.1:1"}}, {Peers: "127.0.0.1:0"}, {Peers: "127.0.0.1:0", Routes: []string{"x"}}} {
		require.Error(t, e.Start())
	}
	e := node(t, &Embedded{Listen: "127.0.0.1:0", Token: "secret"})
	dial := func(opts ...nats.Option) error {
		conn, err := nats.Connect("nats://"+e.ClientAddr().String(), opts...)
		if err == nil {
			conn.Close()
		}
		return err
	}
	require.ErrorIs(t, dial(), nats.ErrAuthorization)
	require.ErrorIs(t, dial(nats.Token("wrong")), nats.ErrAuthorization)
	require.NoError(t, dial(nats.Token("secret")))
	require.Nil(t, e.PeerAddr())

	// A node of several listens for nodes, and for nobody else.
	several := node(t, &Embedded{Peers: "127.0.0.1:0", Routes: []string{newWire(t).listener.Addr().String()}})
	require.Nil(t, several.ClientAddr())
	require.NotNil(t, several.PeerAddr())
	_, err := nats.Connect("nats://" + several.server.Addr().String())
	require.ErrorIs(t, err, nats.ErrAuthorization)
	conn, err := several.Connect()
	require.NoError(t, err)
	conn.Close()

	// What is taken is an error.
	require.ErrorContains(t, (&Embedded{Listen: e.ClientAddr().String(), Log: slog.New(slog.DiscardHandler)}).Start(), "in use")
	_, err = (&Embedded{}).Connect()
	require.ErrorIs(t, err, errNoConn)
	require.NoError(t, (&Embedded{}).Close())
}

// TestConnectLater: a Registry comes to life when NATS does.
func TestConnectLater(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	conn, err := Connect("nats://" + w.listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	r := &Registry{Conn: conn, Lease: time.Hour}
	bounded, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, r.Announce(bounded, relay.Server{ID: "a"}))
	for _, err := range r.Watch(bounded) {
		require.Error(t, err)
	}
	e := node(t, &Embedded{Listen: "127.0.0.1:0"})
	w.set(e.ClientAddr().String(), false)
	eventually(t, "announcement", announcing(r, "a"))

	// The watch survives a lost connection.
	changes := make(chan relay.Change, 100)
	watching, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for c, err := range r.Watch(watching) {
			if err != nil {
				ended <- err
				return
			}
			changes <- c
		}
	}()
	for c := range changes {
		if c == (relay.Change{}) {
			break
		}
	}
	w.set("", true)
	w.set("", false)
	eventually(t, "a claim", claiming(r, "a", "live/cam"))
	select {
	case c := <-changes:
		require.Equal(t, relay.Change{Stream: "live/cam", Owner: "a"}, c)
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("the change did not come")
	}
	stop()
	require.True(t, errors.Is(<-ended, context.Canceled))
}

// TestWatchEndsInSilence: a watch of a registry that has nothing to say any more says so.
func TestWatchEndsInSilence(t *testing.T) {
	t.Parallel()
	list := registries(t, 2, time.Second, node(t, &Embedded{}))
	require.NoError(t, list[0].Announce(t.Context(), relay.Server{ID: "a"}))
	var last error
	for _, err := range list[0].Watch(t.Context()) { // the lease ends, and nobody renews it
		last = err
	}
	require.ErrorIs(t, last, errSilent)
}
