// Package events hands what happens in a server to those who listen, each at
// its own pace.
package events

import (
	"context"
	"iter"
	"slices"
	"sync"
)

// Backlog is how many events a slow listener may be behind.
const Backlog = 1024

// A Bus hands events on. The zero value is ready. It never waits for a
// listener, and is a leaf in the order of locks: Emit may be called under any
// other. All methods are safe for concurrent use.
type Bus[E any] struct {
	mu     sync.Mutex
	queues []*queue[E]
	closed bool
}

type queue[E any] struct {
	ready chan struct{} // capacity 1

	mu     sync.Mutex
	events []E
	lost   int
	ended  bool
}

// Listen returns the events from now on, in order, until ctx ends or the Bus is
// closed; what came before that is still yielded at a Close. A listener that is
// more than Backlog events behind gets what lost makes of their number in place
// of those that came beyond. The sequence can be ranged over once.
func (b *Bus[E]) Listen(ctx context.Context, lost func(n int) E) iter.Seq[E] {
	q := &queue[E]{ready: make(chan struct{}, 1)}
	b.attach(q)
	stop := context.AfterFunc(ctx, func() { b.detach(q) })
	return func(yield func(E) bool) {
		defer b.detach(q)
		defer stop()
		for {
			batch, n, ended := q.take()
			if n > 0 {
				batch = append(batch, lost(n))
			}
			for _, e := range batch {
				if ctx.Err() != nil || !yield(e) {
					return
				}
			}
			if len(batch) > 0 {
				continue
			}
			if ended {
				return
			}
			select {
			case <-q.ready:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Emit hands an event to all who listen.
func (b *Bus[E]) Emit(e E) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queues {
		q.put(e)
	}
}

// Close ends all that Listen returned, and will return.
func (b *Bus[E]) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, q := range b.queues {
		q.end()
	}
	b.queues = nil
}

// Listeners returns how many listen.
func (b *Bus[E]) Listeners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queues)
}

func (b *Bus[E]) attach(q *queue[E]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q.ended = b.closed
	if !b.closed {
		b.queues = append(b.queues, q)
	}
}

func (b *Bus[E]) detach(q *queue[E]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queues = slices.DeleteFunc(b.queues, func(other *queue[E]) bool { return other == q })
	q.end() // for who ranges over it after all
}

func (q *queue[E]) put(e E) {
	q.mu.Lock()
	if len(q.events) < Backlog {
		q.events = append(q.events, e)
	} else {
		q.lost++
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue[E]) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue[E]) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns what has come since the last call, and how many were lost after
// it.
func (q *queue[E]) take() (batch []E, lost int, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, lost = q.events, q.lost
	q.events, q.lost = nil, 0
	return batch, lost, q.ended
}
