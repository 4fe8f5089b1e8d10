package relay

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// Every server of three is drained and restarted in turn: no publisher is away
// for longer than it takes to reconnect, and no player much longer.
func TestRollingRestart(t *testing.T) {
	for _, redirect := range []bool{true, false} {
		t.Run(fmt.Sprint("redirect ", redirect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 100)
				defer f.close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				set := func(v *vessel) { v.Redirect = redirect }
				for i := range 3 {
					f.launch(fmt.Sprint("n", i), set)
				}
				synctest.Wait()
				var names []string
				var encoders, players []*client
				for i := range 6 {
					names = append(names, fmt.Sprint("cam", i))
					encoders = append(encoders, f.encode(ctx, names[i]))
				}
				f.agreed(names, 10*time.Second)
				for i := range 30 {
					players = append(players, f.watch(ctx, names[i%6]))
				}
				time.Sleep(10 * time.Second)
				for _, c := range players {
					require.NotNil(t, c.where())
					c.gap()
				}
				for _, c := range encoders {
					c.gap()
				}
				for round := range 3 {
					v := f.at(fmt.Sprint("n", round))
					began := time.Now()
					bound, stop := context.WithTimeout(ctx, 30*time.Second)
					require.NoError(t, v.Drain(bound))
					stop()
					t.Logf("%s drained in %v", v.host, time.Since(began))
					require.Less(t, time.Since(began), 15*time.Second)
					require.Zero(t, v.sessions.Load())
					f.remove(v, false)
					f.launch(v.host, set)
					time.Sleep(5 * time.Second)
					f.agreed(names, 10*time.Second)
					for _, c := range encoders {
						require.LessOrEqual(t, c.gap(), 2*time.Second, "encoder of %s", c.name)
					}
					var worst time.Duration
					for _, c := range players {
						worst = max(worst, c.gap())
					}
					t.Log("worst player", worst)
					require.LessOrEqual(t, worst, 4*time.Second)
				}
				cancel()
			})
		})
	}
}

// A server that drains while nobody else is there keeps what it has, refuses the
// rest, and says so.
func TestDrainAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 100)
		defer f.close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := f.launch("n0", nil)
		require.Error(t, (&Relay{Hub: &stream.Hub{}}).Drain(ctx), "there is no cluster")
		synctest.Wait()
		c := f.encode(ctx, "cam")
		f.agreed([]string{"cam"}, 10*time.Second)
		bound, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		require.ErrorIs(t, v.Drain(bound), context.DeadlineExceeded)
		require.Equal(t, v, c.where())
		require.True(t, v.Members()[0].Draining)
		require.Equal(t, 1, v.Members()[0].Streams)
		require.True(t, v.Members()[0].Self)
		require.Equal(t, []string{"live/cam"}, v.Owned("n0"))
		for _, a := range []auth.Action{auth.Play, auth.Publish} {
			_, err := v.guard.Authorize(ctx, &auth.Request{Action: a, Protocol: "srt", Stream: "live/new"})
			require.ErrorIs(t, err, stream.ErrClosed)
		}
		// Another comes, and all goes there.
		other := f.launch("n1", nil)
		require.NoError(t, v.Drain(ctx))
		f.agreed([]string{"cam"}, 10*time.Second)
		require.Equal(t, other, c.where())
		require.LessOrEqual(t, c.gap(), 2*time.Second)
		cancel()
	})
}

// 200 times the publisher's server is killed; nothing is left of that.
func TestFailoverLeaksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 100)
		f.registry.Lease = 2 * time.Second
		defer f.close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 3 {
			f.launch(fmt.Sprint("n", i), nil)
		}
		synctest.Wait()
		enc := f.encode(ctx, "cam")
		player := f.watch(ctx, "cam")
		heap := func() uint64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		// The most of some cycles early on, and the least of some late: what is under
		// way differs from one to the next.
		var early, late uint64 = 0, math.MaxUint64
		var goroutines, left int = 0, math.MaxInt
		for cycle := range 200 {
			f.agreed([]string{"cam"}, 20*time.Second)
			require.LessOrEqual(t, player.gap(), 15*time.Second)
			v := enc.where()
			if v == nil {
				time.Sleep(time.Second)
				continue
			}
			host := v.host
			f.remove(v, true)
			f.launch(host, nil)
			time.Sleep(3 * time.Second)
			switch {
			case 20 <= cycle && cycle < 30:
				early, goroutines = max(early, heap()), max(goroutines, runtime.NumGoroutine())
			case cycle >= 190:
				late, left = min(late, heap()), min(left, runtime.NumGoroutine())
			}
		}
		t.Logf("heap %d KB, then %d KB; goroutines %d, then %d", early>>10, late>>10, goroutines, left)
		require.Less(t, late, early+2<<20)
		require.LessOrEqual(t, left, goroutines+5)
		require.Greater(t, enc.times(), 150)
		f.agreed([]string{"cam"}, 20*time.Second)
		require.Len(t, f.registry.servers, 3)
		require.Len(t, f.registry.owners, 1)
		f.registry.mu.Lock()
		require.LessOrEqual(t, len(f.registry.watchers), 3)
		f.registry.mu.Unlock()
		cancel()
	})
}
