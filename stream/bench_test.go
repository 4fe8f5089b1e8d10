package stream

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkWrite is what a frame costs its publisher, frame and data included,
// while so many readers sleep, wake and read. With many readers the time is
// that of Write alone: what they do beside it is theirs.
func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{0, 1, 16, 5000} {
		b.Run(fmt.Sprintf("readers=%d", n), func(b *testing.B) {
			var h Hub
			p := publish(b, &h, "live/a", nil, video)
			var readers sync.WaitGroup
			for range n {
				r := subscribe(b, &h, "live/a", nil)
				readers.Go(func() {
					dst := make([]*Frame, 16)
					for {
						if _, err := r.Read(context.Background(), dst); err != nil {
							return
						}
					}
				})
			}
			b.ReportAllocs()
			i := 0
			var writing, longest time.Duration
			for b.Loop() {
				f := frame(video, 40*i, i%50 == 0)
				start := time.Now()
				if err := p.Write(f); err != nil {
					b.Fatal(err)
				}
				took := time.Since(start)
				writing += took
				longest = max(longest, took)
				i++
				if n > wakers {
					// No publisher sends more than some hundred frames a
					// second: let the readers come to rest.
					for start := time.Now(); !p.Stream().sleeping(n) && time.Since(start) < 40*ms; {
						time.Sleep(200 * time.Microsecond)
					}
				}
			}
			b.ReportMetric(float64(writing.Nanoseconds())/float64(i), "write-ns/op")
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
			p.Close()
			readers.Wait()
		})
	}
}

func (s *Stream) sleeping(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sleepers.list) == n && !s.sleepers.busy
}

// BenchmarkRead is what a frame costs its reader, one by one and in batches.
func BenchmarkRead(b *testing.B) {
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			h := Hub{Cache: Cache{Frames: 1024, Time: 1000 * time.Hour}}
			p := publish(b, &h, "live/a", nil, video)
			for i := range 1024 {
				write(b, p, frame(video, 40*i, i == 0))
			}
			r := subscribe(b, &h, "live/a", nil)
			dst := make([]*Frame, batch)
			ctx := b.Context()
			b.ReportAllocs()
			left := 1024
			for i := 0; i < b.N; i++ {
				if left == 0 {
					r.next, left = p.Stream().ring.tail, 1024
				}
				n, err := r.Read(ctx, dst[:min(batch, b.N-i)])
				if err != nil {
					b.Fatal(err)
				}
				left -= n
				i += n - 1
			}
		})
	}
}

// BenchmarkPublish is a stream that comes and goes.
func BenchmarkPublish(b *testing.B) {
	var h Hub
	b.ReportAllocs()
	for b.Loop() {
		p, err := h.Publish(b.Context(), "live/a", nil)
		if err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}
