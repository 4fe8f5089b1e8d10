package deliver

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A clockedConn notes when it is written to, and takes no time for it.
type clockedConn struct {
	mu    sync.Mutex
	times []time.Time
	bytes int
}

func (c *clockedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, time.Now())
	c.bytes += len(b)
	return len(b), nil
}

func (c *clockedConn) SetWriteDeadline(time.Time) error { return nil }

// take returns when, since the last call, it was written to, and how much.
func (c *clockedConn) take() (times []time.Time, bytes int) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	times, bytes = slices.Compact(c.times), c.bytes
	c.times, c.bytes = nil, 0
	return times, bytes
}

// held runs test with a feed that has a group of pictures and one player.
func held(t *testing.T, interval time.Duration, test func(t *testing.T, src *source, f *feed, c *clockedConn)) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		src := publish(t, hub, "live/x", &streamtest.Pattern{})
		src.write(20)
		sub, err := hub.Subscribe(t.Context(), "live/x", nil)
		require.NoError(t, err)
		f := (&Server{Hub: hub, WriteInterval: interval}).newFeed(feedKey{stream: sub.Stream(), container: containerRTMP})
		ctx, cancel := context.WithCancel(t.Context())
		f.cancel = cancel
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { f.run(ctx, sub) })
		c := &clockedConn{}
		p := f.log.Attach(c, fanout.Options{})
		defer p.Detach()
		times, _ := c.take()
		require.Equal(t, []time.Time{time.Now()}, times, "what was there is not held back")
		test(t, src, f, c)
	})
}

// Frames are held back for others as long as WriteInterval says, and a
// sixteenth, from the first that waits on, however long none came before it.
func TestHold(t *testing.T) {
	for _, interval := range []time.Duration{0, 40 * time.Millisecond, 350 * time.Millisecond} {
		t.Run(interval.String(), func(t *testing.T) {
			held(t, interval, func(t *testing.T, src *source, f *feed, c *clockedConn) {
				hold := interval + interval/16
				for range 3 {
					time.Sleep(10 * time.Second)
					began := time.Now()
					var want []time.Time
					for range 3 {
						src.write(1)
						if interval == 0 {
							want = append(want, time.Now())
						}
						time.Sleep(10 * time.Millisecond)
					}
					if interval > 0 {
						want = []time.Time{began.Add(hold)}
					}
					time.Sleep(time.Second)
					times, _ := c.take()
					require.Equal(t, want, times)
				}

				// In a stream of a frame every 10 ms.
				const frames = 500
				for range frames {
					src.write(1)
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(time.Second)
				times, _ := c.take()
				each := max(hold/(10*time.Millisecond)+1, 1) // taken at once
				require.Len(t, times, int((frames+each-1)/each))
				for i := range times[1:] {
					require.Equal(t, each*10*time.Millisecond, times[i+1].Sub(times[i]))
				}
				require.LessOrEqual(t, f.server.Hub.Latency.Quantile(1), 2*hold+time.Millisecond) // of the bucket
			})
		})
	}
}

// What waits goes at once when the feed is to end, and is not lost when the
// stream does.
func TestHoldEnds(t *testing.T) {
	for name, end := range map[string]func(*source, *feed){
		"the feed":   func(_ *source, f *feed) { f.cancel() },
		"the stream": func(src *source, _ *feed) { src.pub.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			const hold = 1700 * time.Millisecond
			held(t, 1600*time.Millisecond, func(t *testing.T, src *source, f *feed, c *clockedConn) {
				began := time.Now()
				size := 0
				for range 100 { // more than are read at once
					src.write(1)
					size += len(src.written[len(src.written)-1].Data)
					synctest.Wait()
				}
				end(src, f)
				want := began
				if name == "the stream" {
					time.Sleep(hold)
					want = began.Add(hold)
				}
				times, bytes := c.take()
				require.Equal(t, []time.Time{want}, times)
				require.Greater(t, bytes, size)
				require.Less(t, bytes, size+100*30)
			})
		})
	}
}
