package natsregistry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// BenchmarkClaim claims streams from 64 goroutines, as many publishers that
// come at once do: one stream an operation.
func BenchmarkClaim(b *testing.B) {
	r := registries(b, 1, time.Hour, node(b, &Embedded{}))[0]
	require.NoError(b, r.Announce(b.Context(), relay.Server{ID: "a"}))
	var n atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := r.Claim(context.Background(), "a", fmt.Sprint("live/", n.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
}

// BenchmarkRegistry has 100,000 streams in the registry: how long a server
// takes to know them, and then to find one, while 2,000 more come and go each
// second.
func BenchmarkRegistry(b *testing.B) {
	const streams = 100_000
	list := registries(b, 2, time.Minute, node(b, &Embedded{}))
	require.NoError(b, list[0].Announce(b.Context(), relay.Server{ID: "a", URL: "runnel://a"}))
	var wait sync.WaitGroup
	for i := range 64 {
		wait.Go(func() {
			for n := i; n < streams; n += 64 {
				if err := list[0].Claim(b.Context(), "a", fmt.Sprint("live/", n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	hub := &stream.Hub{}
	defer hub.Close()
	finder := &relay.Relay{Hub: hub, ID: "b", Registry: list[1]}
	ctx, cancel := context.WithCancel(b.Context())
	start := time.Now()
	wait.Go(func() { _ = finder.Run(ctx) })
	defer wait.Wait()
	defer cancel()
	for {
		if _, ok := finder.Find("live/0"); ok {
			break
		}
		time.Sleep(time.Millisecond)
	}
	warm := time.Since(start)
	for i := range 64 {
		wait.Go(func() {
			every := time.NewTicker(64 * time.Second / 2000)
			defer every.Stop()
			for n := 0; ; n++ {
				name := fmt.Sprint("more/", i, "/", n)
				select {
				case <-every.C:
				case <-ctx.Done():
					return
				}
				if err := list[0].Claim(ctx, "a", name); err == nil {
					_ = list[0].Release(ctx, "a", name)
				}
			}
		})
	}
	names := make([]string, streams)
	for i := range names {
		names[i] = fmt.Sprint("live/", i)
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		_, ok := finder.Find(names[i*7919%streams])
		took = append(took, time.Since(start))
		if !ok {
			b.Fatal("not found")
		}
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(warm.Seconds(), "warm-s")
}
