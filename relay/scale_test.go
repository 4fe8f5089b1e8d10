package relay

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHundredServers runs the relay of a hundred servers, with their clients, in
// virtual time: what placement, claims, fetches, drains and leases do is the real
// thing, only the network, the media and the registry are in memory.
func TestHundredServers(t *testing.T) {
	const (
		servers = 100
		rivals  = 10 // streams that two encoders fight for
	)
	// Two fifths of all room is taken, by 1260 clients; it is the same with a third
	// of that, in a third of the time.
	streams, players, capacity := 40, 360, 10
	if os.Getenv("RUNNEL_SOAK") != "" {
		streams, players, capacity = 60, 1200, 30
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, int64(capacity))
		f.registry.Lease = 5 * time.Second
		defer f.close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range servers {
			f.launch(fmt.Sprint("n", i), func(v *vessel) {
				if i%20 == 7 { // a slow machine far away
					v.slow, v.link.delay = 200*time.Millisecond, 500*time.Millisecond
				}
			})
		}
		time.Sleep(3 * time.Second)
		require.Len(t, f.at("n0").Servers(), servers)

		var names []string
		var encoders, viewers []*client
		for i := range streams {
			names = append(names, fmt.Sprint("cam", i))
			encoders = append(encoders, f.encode(ctx, names[i]))
		}
		f.agreed(names, 20*time.Second)
		var fighters []*client
		for i := range rivals {
			fighters = append(fighters, f.encode(ctx, names[i]))
		}
		// Most watch few streams.
		for i := range players {
			viewers = append(viewers, f.watch(ctx, names[min(i%streams, i*i/players%streams)]))
		}

		// Of several publishers one has the stream, always; but while a part of the
		// servers is cut off, that part keeps what it had.
		var mu sync.Mutex
		split := false // guarded by mu
		double := 0
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			for ctx.Err() == nil {
				time.Sleep(500 * time.Millisecond)
				for _, name := range names {
					if n := f.holders("live/" + name); n > 1 {
						mu.Lock()
						if !split {
							double++
						}
						mu.Unlock()
					}
				}
			}
		}()
		// all waits for a while, and returns the longest time that a player and an
		// encoder, of those not fought for, were without media in it.
		all := func(d time.Duration) (player, encoder time.Duration) {
			time.Sleep(d)
			for _, c := range viewers {
				player = max(player, c.gap())
			}
			for _, c := range encoders[rivals:] {
				encoder = max(encoder, c.gap())
			}
			for _, c := range slices.Concat(encoders[:rivals], fighters) {
				c.gap()
			}
			return player, encoder
		}
		spread := func(when string) {
			var most, sum int64
			alive := f.alive()
			for _, v := range alive {
				n := v.sessions.Load()
				most, sum = max(most, n), sum+n
			}
			mean := float64(sum) / float64(len(alive))
			t.Logf("%s: %d servers, %d clients, %.1f a server, %d at most", when, len(alive), sum, mean, most)
			require.LessOrEqual(t, most, int64(2*capacity+3), "load %s", when)
		}
		report := func(what string, player, encoder, most time.Duration) {
			t.Logf("%s: a player was without media for %v at most, an encoder for %v", what, player, encoder)
			require.LessOrEqual(t, player, most, what)
			require.LessOrEqual(t, encoder, most, what)
		}

		all(20 * time.Second)
		spread("in the beginning")
		player, encoder := all(10 * time.Second)
		report("in peace", player, encoder, 2*time.Second)

		// A fifth is cut off from the registry and from the others for 20 s.
		mu.Lock()
		split = true
		mu.Unlock()
		var apart []*vessel
		for i := range servers / 5 {
			apart = append(apart, f.at(fmt.Sprint("n", i)))
		}
		f.partition(true, apart...)
		player, encoder = all(20 * time.Second)
		report("partition of 20 s", player, encoder, 20*time.Second)
		f.partition(false, apart...)
		player, encoder = all(15 * time.Second)
		report("after it", player, encoder, 15*time.Second)
		f.agreed(names, 5*time.Second)
		mu.Lock()
		split = false
		mu.Unlock()
		spread("after the partition")

		// A third of the servers dies at once.
		for i := range servers / 3 {
			f.remove(f.at(fmt.Sprint("n", servers-1-i)), true)
		}
		player, encoder = all(20 * time.Second)
		report("a third killed", player, encoder, 15*time.Second)
		f.agreed(names, 5*time.Second)
		spread("without a third")

		// They come back, and ten others are drained at a time.
		for i := range servers / 3 {
			f.launch(fmt.Sprint("n", servers-1-i), nil)
		}
		time.Sleep(5 * time.Second)
		var drained sync.WaitGroup
		for i := range 10 {
			v := f.at(fmt.Sprint("n", i))
			drained.Go(func() {
				bound, stop := context.WithTimeout(ctx, time.Minute)
				defer stop()
				if err := v.Drain(bound); err != nil {
					t.Error(v.host, err)
				}
				f.remove(v, false)
			})
		}
		drained.Wait()
		player, encoder = all(10 * time.Second)
		report("ten drained", player, encoder, 5*time.Second)
		f.agreed(names, 5*time.Second)
		spread("in the end")
		for _, c := range viewers {
			require.NotNil(t, c.where(), "everybody is served")
		}
		cancel()
		<-watching
		require.Zero(t, double, "two publishers of a stream at a time")
	})
}
