package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Source fetches streams that nobody publishes here: an edge asks its
// origin.
type Source interface {
	// Fetch publishes the stream in h and feeds it, and returns when it ends
	// or cannot be had (ErrNotFound, wrapped or not). ctx ends when nobody has
	// read the stream for Hub.Linger, or the hub is closed; who asks for the
	// stream between then and Fetch's return waits for a new Fetch. The hub
	// runs at most one Fetch per name at a time.
	Fetch(ctx context.Context, h *Hub, key string) error
}

// A fetch is one call of Source.Fetch. All but done is guarded by hub.mu.
type fetch struct {
	cancel context.CancelFunc
	ending bool          // it was cancelled because nobody reads
	done   chan struct{} // closed when Fetch has returned
	err    error         // valid then
	timer  *time.Timer   // runs while nobody reads
}

// An arrival wakes those who wait for a stream to be published.
type arrival struct {
	published chan struct{}
	waiters   int
}

// await attaches a reader to the live stream of that name, fetching it and
// waiting for it as far as Source and the options allow.
func (h *Hub) await(ctx context.Context, key string, o *SubscribeOptions) (*Subscriber, error) {
	var timeout <-chan time.Time
	var asked *fetch // the one that this call relies on; it asks for no second one
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return nil, ErrClosed
		}
		f := h.fetches[key]
		dying := f != nil && f.ending // what it publishes, too: wait for the end and fetch anew
		if s := h.streams[key]; s != nil && !dying {
			if r, orphan := s.attach(o); r != nil {
				if orphan && f == nil && h.Source != nil {
					h.startFetch(key)
				}
				h.mu.Unlock()
				return r, nil
			}
		}
		if f == nil && asked == nil && h.Source != nil {
			f = h.startFetch(key)
		}
		if f == nil && o.Wait <= 0 {
			defer h.mu.Unlock()
			return nil, asked.notFound()
		}
		var fetched <-chan struct{}
		if f != nil {
			fetched = f.done
			if !dying {
				asked = f
			}
		}
		a := h.awaited[key]
		if a == nil {
			a = &arrival{published: make(chan struct{})}
			if h.awaited == nil {
				h.awaited = make(map[string]*arrival)
			}
			h.awaited[key] = a
		}
		a.waiters++
		h.mu.Unlock()

		if timeout == nil && o.Wait > 0 {
			t := time.NewTimer(o.Wait)
			defer t.Stop()
			timeout = t.C
		}
		expired := false
		select {
		case <-a.published:
		case <-fetched:
		case <-timeout:
			expired = true
		case <-ctx.Done():
		}

		h.mu.Lock()
		if a.waiters--; a.waiters == 0 && h.awaited[key] == a {
			delete(h.awaited, key)
		}
		err := ctx.Err()
		if err == nil && expired {
			err = asked.notFound()
		}
		if err != nil {
			h.restFetch(key)
		}
		h.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// notFound returns ErrNotFound and why f, which may be nil, got nothing.
func (f *fetch) notFound() error {
	switch {
	case f == nil || f.err == nil:
		return ErrNotFound
	case errors.Is(f.err, ErrNotFound):
		return f.err
	}
	return fmt.Errorf("%w: %w", ErrNotFound, f.err)
}

// startFetch is called with h.mu held.
func (h *Hub) startFetch(key string) *fetch {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fetch{cancel: cancel, done: make(chan struct{})}
	if h.fetches == nil {
		h.fetches = make(map[string]*fetch)
	}
	h.fetches[key] = f
	go func() {
		defer cancel()
		err := h.Source.Fetch(ctx, h, key)
		if err != nil && ctx.Err() == nil {
			h.log().Info("stream: fetch failed", "stream", key, "error", err)
		}
		h.mu.Lock()
		f.err = err
		delete(h.fetches, key)
		if f.timer != nil {
			f.timer.Stop()
		}
		h.mu.Unlock()
		close(f.done)
	}()
	return f
}

// idle is told that the last reader of a stream has left.
func (h *Hub) idle(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restFetch(key)
}

// restFetch ends a fetch after Linger if nobody reads or awaits the stream by
// then. Called with h.mu held.
func (h *Hub) restFetch(key string) {
	f := h.fetches[key]
	if f == nil {
		return
	}
	if f.timer != nil {
		f.timer.Stop()
	}
	linger := h.Linger
	if linger <= 0 {
		linger = 10 * time.Second
	}
	f.timer = time.AfterFunc(linger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		s := h.streams[key]
		if h.awaited[key] == nil && (s == nil || s.readerCount() == 0) {
			f.ending = true
			f.cancel()
		}
	})
}
