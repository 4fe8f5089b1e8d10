package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeSource counts its fetches and answers after delay: with err, or with a
// stream that it feeds until it is cancelled.
type fakeSource struct {
	delay time.Duration
	slow  time.Duration // to return once cancelled
	fail  func(call int) error
	end   time.Duration // ends by itself after that long

	mu      sync.Mutex
	calls   int
	running int
	most    int
	ended   []time.Time
}

func (s *fakeSource) Fetch(ctx context.Context, h *Hub, key string) error {
	s.mu.Lock()
	s.calls++
	call := s.calls
	s.running++
	s.most = max(s.most, s.running)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running--
		s.ended = append(s.ended, time.Now())
		s.mu.Unlock()
	}()
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.fail != nil {
		if err := s.fail(call); err != nil {
			return err
		}
	}
	p, err := h.Publish(ctx, key, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.SetTracks(video); err != nil {
		return err
	}
	var over <-chan time.Time
	if s.end > 0 {
		over = time.After(s.end)
	}
	for i := 0; ; i++ {
		if err := p.Write(frame(video, 40*i, i%25 == 0)); err != nil {
			return err
		}
		select {
		case <-time.After(40 * ms):
		case <-over:
			return nil
		case <-ctx.Done():
			time.Sleep(s.slow)
			return ctx.Err()
		}
	}
}

func (s *fakeSource) get(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

func (s *fakeSource) ends() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// requireNobodyWaits checks that neither a reader's wait nor a fetch has left
// anything in h.
func requireNobodyWaits(t *testing.T, h *Hub) {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Empty(t, h.awaited)
	require.Empty(t, h.fetches)
}

func TestSourceSingleFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{delay: time.Second}
		h := Hub{Source: src}
		var all sync.WaitGroup
		start := time.Now()
		for i := range 50 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 10 * ms)
				r, err := h.Subscribe(context.Background(), "live/far", nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				n, err := r.Read(context.Background(), make([]*Frame, 1))
				if n != 1 || err != nil {
					t.Error(n, err)
				}
			})
		}
		all.Wait()
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, 1, src.get(&src.calls))

		// The linger ends the fetch after the last reader.
		synctest.Wait()
		time.Sleep(time.Minute)
		require.Equal(t, []time.Time{start.Add(11 * time.Second)}, src.ends())
		require.Nil(t, h.Stream("live/far"))
		requireNobodyWaits(t, &h)
	})
}

func TestLingerKeepsAStreamForANewReader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{}
		h := Hub{Source: src, Linger: 3 * time.Second}
		for range 10 {
			r := subscribe(t, &h, "live/far", nil)
			time.Sleep(time.Second)
			require.NoError(t, r.Close())
			time.Sleep(2900 * ms)
		}
		require.Equal(t, 1, src.get(&src.calls))
		r := subscribe(t, &h, "live/far", nil)
		time.Sleep(time.Hour)
		require.Equal(t, 1, src.get(&src.running), "nor does it end while somebody reads")
		a := subscribe(t, &h, "live/far", nil)
		require.NoError(t, r.Close())
		time.Sleep(time.Hour)
		require.Equal(t, 1, src.get(&src.running))
		require.NoError(t, a.Close())
		time.Sleep(2999 * ms)
		require.Equal(t, 1, src.get(&src.running))
		time.Sleep(2 * ms)
		require.Equal(t, 0, src.get(&src.running))

		r = subscribe(t, &h, "live/far", nil)
		require.Equal(t, 2, src.get(&src.calls))
		require.NoError(t, r.Close())
		require.NoError(t, h.Close())
	})
}

// Who comes while a fetch that nobody read is being wound up gets a new one,
// not the ruins of the old.
func TestReaderDuringTheEndOfAFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{slow: time.Second}
		h := Hub{Source: src, Linger: time.Second}
		r := subscribe(t, &h, "live/far", nil)
		require.NoError(t, r.Close())
		time.Sleep(1500 * ms)
		require.NotNil(t, h.Stream("live/far"), "still there, but not for long")
		start := time.Now()
		r = subscribe(t, &h, "live/far", nil)
		require.Equal(t, 500*ms, time.Since(start))
		require.Equal(t, 2, src.get(&src.calls))
		require.Equal(t, 1, src.get(&src.most))
		time.Sleep(time.Minute)
		_, err := drain(t, r)
		require.NoError(t, err)
		require.NoError(t, h.Close())
		time.Sleep(time.Second)
	})
}

func TestSourceError(t *testing.T) {
	refused := errors.New("connection refused")
	for name, c := range map[string]struct{ fail, want error }{
		"other":             {refused, refused},
		"ErrNotFound":       {ErrNotFound, ErrNotFound},
		"wraps ErrNotFound": {fmt.Errorf("origin: %w", ErrNotFound), ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src := &fakeSource{delay: time.Second, fail: func(int) error { return c.fail }}
				h := Hub{Source: src, Log: slog.New(slog.DiscardHandler)}
				var all sync.WaitGroup
				for range 20 {
					all.Go(func() {
						_, err := h.Subscribe(context.Background(), "live/far", nil)
						if !errors.Is(err, ErrNotFound) || !errors.Is(err, c.want) {
							t.Error(err)
						}
					})
				}
				all.Wait()
				require.Equal(t, 1, src.get(&src.calls), "those who waited for a fetch that failed ask for no second")
				_, err := h.Subscribe(t.Context(), "live/far", nil)
				require.ErrorIs(t, err, ErrNotFound)
				require.Equal(t, 2, src.get(&src.calls), "but a later reader does")
				requireNobodyWaits(t, &h)
			})
		})
	}
}

// With Wait a reader outlasts a source that has nothing, and gets what is
// published here.
func TestSourceFailsThenPublished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{fail: func(int) error { return ErrNotFound }}
		h := Hub{Source: src, Log: slog.New(slog.DiscardHandler)}
		go func() {
			time.Sleep(5 * time.Second)
			h.Publish(context.Background(), "live/a", nil)
		}()
		start := time.Now()
		r, err := h.Subscribe(t.Context(), "live/a", &SubscribeOptions{Wait: time.Minute})
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.NoError(t, r.Close())
		require.Equal(t, 1, src.get(&src.calls))

		_, err = h.Subscribe(t.Context(), "live/b", &SubscribeOptions{Wait: time.Minute})
		require.ErrorIs(t, err, ErrNotFound)
		require.Equal(t, 65*time.Second, time.Since(start))
		require.NoError(t, h.Close())
	})
}

// A source whose streams end at once is not asked again by the same reader.
func TestSourceThatFlaps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		h := Hub{Source: sourceFunc(func(ctx context.Context, h *Hub, key string) error {
			calls++
			p, err := h.Publish(ctx, key, nil)
			if err != nil {
				return err
			}
			return p.Close()
		})}
		for range 100 {
			if r, err := h.Subscribe(t.Context(), "live/far", nil); err == nil {
				r.Close()
			} else {
				require.ErrorIs(t, err, ErrNotFound)
			}
		}
		require.LessOrEqual(t, calls, 100)
	})
}

type sourceFunc func(context.Context, *Hub, string) error

func (f sourceFunc) Fetch(ctx context.Context, h *Hub, key string) error { return f(ctx, h, key) }

// When all who waited have given up, the fetch is ended too.
func TestWaitersGiveUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{delay: time.Hour}
		h := Hub{Source: src, Linger: 2 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.Subscribe(ctx, "live/far", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = h.Subscribe(t.Context(), "live/far", &SubscribeOptions{Wait: time.Second})
		require.ErrorIs(t, err, ErrNotFound)
		require.Equal(t, 1, src.get(&src.running))
		time.Sleep(2*time.Second + ms)
		require.Zero(t, src.get(&src.running))
		require.Equal(t, 1, src.get(&src.calls))
		requireNobodyWaits(t, &h)
	})
}

// The one who asked gives up just as the stream comes: nobody reads it, so it
// is ended like any other.
func TestWaiterGivesUpAsTheStreamComes(t *testing.T) {
	for range 50 {
		bubble(t, func(t *testing.T) {
			src := &fakeSource{delay: time.Second}
			h := Hub{Source: src}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if r, err := h.Subscribe(ctx, "live/far", nil); err == nil {
				r.Close()
			}
			time.Sleep(time.Minute)
			require.Zero(t, src.get(&src.running))
		})
	}
}

// A fetch that publishes anew while its first stream's readers leave is ended
// when they are gone.
func TestFetchThatRetriesIsEndedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		start := time.Now()
		h := Hub{Linger: 5 * time.Second}
		h.Source = sourceFunc(func(ctx context.Context, h *Hub, key string) error {
			defer func() { ended <- time.Since(start) }()
			for ctx.Err() == nil {
				p, err := h.Publish(ctx, key, nil)
				if err != nil {
					return err
				}
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
				p.Close()
			}
			return ctx.Err()
		})
		r := subscribe(t, &h, "live/far", nil)
		_, err := r.Read(t.Context(), make([]*Frame, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, r.Close())
		require.Equal(t, 6*time.Second, <-ended)
	})
}

// A stream in its grace time is fetched for who comes then.
func TestGraceStreamIsFetchedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{end: 10 * time.Second}
		h := Hub{Source: src, Grace: 20 * time.Second}
		r := subscribe(t, &h, "live/far", nil)
		time.Sleep(15 * time.Second)
		require.Equal(t, 0, src.get(&src.running))
		late := subscribe(t, &h, "live/far", nil)
		require.Same(t, r.Stream(), late.Stream())
		synctest.Wait()
		require.Equal(t, 1, src.get(&src.running))
		require.True(t, late.Stream().Publishing())
		require.NoError(t, h.Close())
	})
}

// A local publisher who is there first wins, and the waiters get its stream.
func TestPublishedWhileFetching(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{delay: 2 * time.Second}
		h := Hub{Source: src, Log: slog.New(slog.DiscardHandler)}
		time.AfterFunc(time.Second, func() { h.Publish(context.Background(), "live/a", nil) })
		start := time.Now()
		r := subscribe(t, &h, "live/a", nil)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(10 * time.Second)
		require.Zero(t, src.get(&src.running), "it was told ErrBusy")
		_, err := drain(t, r)
		require.NoError(t, err)
	})
}

func TestHubCloseEndsFetches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := &fakeSource{delay: time.Hour}
		h := Hub{Source: src}
		got := make(chan error)
		go func() {
			_, err := h.Subscribe(context.Background(), "live/far", nil)
			got <- err
		}()
		synctest.Wait()
		require.NoError(t, h.Close())
		require.ErrorIs(t, <-got, ErrClosed)
		synctest.Wait()
		require.Zero(t, src.get(&src.running))
	})
}

func TestWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		_, err := h.Subscribe(t.Context(), "live/a", nil)
		require.Equal(t, ErrNotFound, err)

		start := time.Now()
		_, err = h.Subscribe(t.Context(), "live/a", &SubscribeOptions{Wait: 3 * time.Second})
		require.ErrorIs(t, err, ErrNotFound)
		require.Equal(t, 3*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = h.Subscribe(ctx, "live/a", &SubscribeOptions{Wait: 3 * time.Second})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireNobodyWaits(t, &h)

		time.AfterFunc(time.Second, func() { h.Publish(context.Background(), "live/b", nil) })
		time.AfterFunc(2*time.Second, func() { h.Publish(context.Background(), "live/a", nil) })
		var all sync.WaitGroup
		start = time.Now()
		for range 20 {
			all.Go(func() {
				r, err := h.Subscribe(context.Background(), "live/a", &SubscribeOptions{Wait: 3 * time.Second})
				if err != nil || time.Since(start) != 2*time.Second {
					t.Error(err, time.Since(start))
				}
				r.Close()
			})
		}
		all.Wait()
		requireNobodyWaits(t, &h)
	})
}
