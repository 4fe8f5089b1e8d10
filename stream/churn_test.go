package stream

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Ten thousand streams come and go, with readers, sessions, a source, grace
// and its timers, and leave the hub as it was: goroutines, tables and heap.
func TestChurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: 3 * time.Second, Linger: time.Second, Log: slog.New(slog.DiscardHandler)}
		h.Source = sourceFunc(func(ctx context.Context, h *Hub, key string) error {
			if !strings.HasPrefix(key, "far/") {
				return ErrNotFound
			}
			p, err := h.Publish(ctx, key, nil)
			if err != nil {
				return err
			}
			<-ctx.Done()
			return p.Close()
		})
		listener, stop := context.WithCancel(t.Context())
		lost := h.Events(listener) // never read
		defer stop()

		cycle := func(i int) {
			key := fmt.Sprintf("live/%d", i)
			s := h.OpenSession(SessionInfo{Stream: key}, nil)
			p := publish(t, &h, key, &PublishOptions{Session: s, MixCorrect: i%2 == 0}, video, audio)
			p.SetMetadata(Metadata{"title": key})
			read := subscribe(t, &h, key, nil)
			idle := subscribe(t, &h, key, nil)
			for n := range 20 {
				write(t, p, frame(video, 40*n, n == 0), frame(audio, 40*n+5, true))
			}
			dst := make([]*Frame, 100)
			_, err := read.Read(t.Context(), dst)
			require.NoError(t, err)
			if i%3 == 0 {
				p = publish(t, &h, key, &PublishOptions{Replace: true}, video)
				write(t, p, frame(video, 0, true))
			}
			require.NoError(t, p.Close())
			read.Close()
			idle.Close()
			s.Close(nil)
			if i%10 == 0 {
				far := subscribe(t, &h, "far/"+key, nil)
				far.Close()
			}
			time.Sleep(10 * ms)
			if i%10 == 5 {
				_, err := h.Subscribe(t.Context(), key+"/none", &SubscribeOptions{Wait: time.Microsecond})
				require.ErrorIs(t, err, ErrNotFound)
			}
		}
		settle := func() (goroutines int, heap uint64) {
			time.Sleep(time.Minute) // grace and linger end
			synctest.Wait()
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return runtime.NumGoroutine(), m.HeapAlloc
		}
		for i := range 1100 { // fills the listener's queue, among others {
			cycle(-1 - i)
		}
		goroutines, heap := settle()
		for i := range 10_000 {
			cycle(i)
		}
		after, heapAfter := settle()
		require.Equal(t, goroutines, after)
		require.Less(t, heapAfter, heap+512<<10)
		require.Empty(t, h.streams)
		requireNobodyWaits(t, &h)
		require.Empty(t, h.sessions.all)
		runtime.KeepAlive(lost)
	})
}

// Readers that wait for streams that never come leave nothing behind.
func TestChurnOfWaiters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		for i := range 5000 {
			go h.Subscribe(context.Background(), fmt.Sprintf("live/%d", i%1000), &SubscribeOptions{Wait: time.Second})
		}
		synctest.Wait()
		require.Len(t, h.awaited, 1000)
		time.Sleep(2 * time.Second)
		requireNobodyWaits(t, &h)
	})
}

// The hot paths' allocations: a frame and its data by who writes it, nothing by Read.
func TestAllocs(t *testing.T) {
	h := Hub{Cache: Cache{Frames: 5000, Time: time.Hour}}
	p := publish(t, &h, "live/a", nil, video, audio)
	r := subscribe(t, &h, "live/a", nil)
	defer r.Close()
	i := 0
	writeOne := func() {
		if err := p.Write(frame(video, 40*i, i%25 == 0)); err != nil {
			t.Fatal(err)
		}
		i++
	}
	for range 200 { // the ring has its size
		writeOne()
	}
	require.LessOrEqual(t, testing.AllocsPerRun(1000, writeOne), 2.0, "a frame and its data")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dst := make([]*Frame, 1)
	_, err := r.Read(ctx, dst)
	require.NoError(t, err)
	for range 1500 {
		writeOne()
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := r.Read(ctx, dst); err != nil {
			t.Fatal(err)
		}
	}))

	mixed := publish(t, &h, "live/mixed", &PublishOptions{MixCorrect: true}, video, audio)
	at := 0
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		if mixed.Write(frame(video, at, true)) != nil || mixed.Write(frame(audio, at+5, true)) != nil {
			t.Fatal("refused")
		}
		at += 40
	}), 4.0)
	require.NoError(t, h.Close())
}

// Waking a reader that sleeps costs no allocation on either side.
func TestAllocsOfWaking(t *testing.T) {
	var h Hub
	p := publish(t, &h, "live/a", nil, video)
	r := subscribe(t, &h, "live/a", nil)
	got := make(chan struct{})
	go func() {
		defer close(got)
		dst := make([]*Frame, 4)
		for {
			n, err := r.Read(context.Background(), dst)
			if err == io.EOF {
				return
			}
			for range n {
				got <- struct{}{}
			}
		}
	}()
	f := make([]*Frame, 0, 2000)
	for i := range 2000 {
		f = append(f, frame(video, 40*i, i%25 == 0))
	}
	next := func() {
		if err := p.Write(f[0]); err != nil {
			t.Fatal(err)
		}
		f = f[1:]
		<-got
	}
	for range 100 {
		next()
	}
	require.Zero(t, testing.AllocsPerRun(1000, next))
	require.NoError(t, p.Close())
	<-got
}
