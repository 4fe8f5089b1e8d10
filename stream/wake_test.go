package stream

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// The publisher wakes a few readers itself and leaves a longer list to the
// goroutine, one at a time.
func TestPublisherWakesFewReadersInline(t *testing.T) {
	for _, n := range []int{0, 1, wakers, wakers + 1, 5000} {
		var h Hub
		s := newStream(&h, "live/a")
		s.sleepers.busy = true // the goroutine is about to run
		var all []*Subscriber
		for range n {
			r := &Subscriber{stream: s, wake: make(chan struct{}, 1)}
			s.sleepers.add(r)
			all = append(all, r)
		}
		s.mu.Lock()
		s.unlockAndWake()
		woken := 0
		for _, r := range all {
			woken += len(r.wake)
		}
		if n <= wakers {
			require.Equal(t, n, woken)
			require.Empty(t, s.sleepers.list)
			continue
		}
		require.Zero(t, woken)
		s.wakeAll()
		for _, r := range all {
			require.Len(t, r.wake, 1)
		}
		require.Empty(t, s.sleepers.list)
		require.False(t, s.sleepers.busy)
	}
}

func TestManyReadersGetEveryFrame(t *testing.T) {
	for _, n := range []int{1, wakers, wakers + 1, 5000} {
		bubble(t, func(t *testing.T) {
			var h Hub
			p := publish(t, &h, "live/a", nil, video)
			s := p.Stream()
			var readers sync.WaitGroup
			for range n {
				r := subscribe(t, &h, "live/a", nil)
				readers.Go(func() {
					defer r.Close()
					dst := make([]*Frame, 4)
					for i := range 3 {
						n, err := r.Read(context.Background(), dst)
						if n != 1 || err != nil || int(dst[0].DTS/ms) != 40*i {
							t.Errorf("frame %d: %d %v", i, n, err)
						}
					}
				})
			}
			for i := range 3 {
				synctest.Wait()
				require.Len(t, s.sleepers.list, n)
				write(t, p, frame(video, 40*i, i == 0))
			}
			readers.Wait()
			synctest.Wait()
			require.Empty(t, s.sleepers.list)
			require.Empty(t, s.readers)
			require.False(t, s.sleepers.busy)
		})
	}
}

// A frame that is written between a reader's look and its sleep wakes it. Under
// the race detector this is also the check of the lists.
func TestNoLostWakeup(t *testing.T) {
	var h Hub
	p := publish(t, &h, "live/a", nil, video)
	const frames, n = 2000, 3 * wakers // the cache takes them all
	var readers sync.WaitGroup
	for i := range n {
		r := subscribe(t, &h, "live/a", nil)
		readers.Go(func() {
			defer r.Close()
			dst := make([]*Frame, 1+i%3)
			next := 0
			for next < frames {
				n, err := r.Read(context.Background(), dst)
				if err != nil {
					t.Error(err)
					return
				}
				for _, f := range dst[:n] {
					if next > 0 && int(f.DTS/ms) != next {
						t.Errorf("%v after frame %d", f.DTS, next-1)
					}
					next = int(f.DTS/ms) + 1
				}
			}
		})
	}
	for i := range frames {
		write(t, p, frame(video, i, i == 0))
	}
	readers.Wait()
	require.NoError(t, p.Close())
}

// Readers that come and go while nothing is written leave nothing behind.
func TestSleepersLeaveTheList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		s := p.Stream()
		ctx, cancel := context.WithCancel(t.Context())
		var asleep []*Subscriber
		for range 100 {
			asleep = append(asleep, subscribe(t, &h, "live/a", nil))
			go asleep[len(asleep)-1].Read(ctx, make([]*Frame, 1))
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		for i, r := range asleep {
			require.Len(t, s.sleepers.list, 100-i)
			if i%2 == 0 { // again: it is on the list once
				times(t, r)
			}
			require.NoError(t, r.Close())
		}
		require.Empty(t, s.sleepers.list)
		require.Empty(t, s.readers)
	})
}

func TestSleepersList(t *testing.T) {
	var w sleepers
	rs := make([]*Subscriber, 5)
	for i := range rs {
		rs[i] = &Subscriber{}
		w.add(rs[i])
		w.add(rs[i])
	}
	w.remove(rs[1])
	w.remove(rs[1])
	w.remove(rs[4])
	require.ElementsMatch(t, []*Subscriber{rs[0], rs[2], rs[3]}, w.list)
	all := w.take()
	require.Len(t, all, 3)
	w.add(rs[2])
	w.giveBack(all)
	require.Equal(t, []*Subscriber{rs[2]}, w.list)
	require.Equal(t, 1, rs[2].bed)
	require.Nil(t, w.spare[:3][0])
}
