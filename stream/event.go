package stream

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// An Event is something that happened in a Hub: one of the structs below.
type Event interface{ event() }

// StreamStarted: a stream has its first publisher.
type StreamStarted struct {
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Session string    `json:"session,omitempty"` // of the publisher
}

// PublisherChanged: a stream that exists has a new publisher, after a loss or
// by PublishOptions.Replace.
type PublisherChanged struct {
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Session string    `json:"session,omitempty"`
}

// TracksChanged: the publisher has stated its tracks, for the first time or anew.
type TracksChanged struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	Tracks []*Track  `json:"-"` // not to be modified
}

// StreamEnded: a stream is gone, with Err if somebody ended it.
type StreamEnded struct {
	Time   time.Time   `json:"time"`
	Stream string      `json:"stream"`
	Err    error       `json:"-"`
	Stats  StreamStats `json:"stats"`
}

// SessionOpened: a peer may publish or play.
type SessionOpened struct {
	Time    time.Time   `json:"time"`
	Session SessionInfo `json:"session"`
}

// SessionClosed: it has stopped, with Err if not by its own will.
type SessionClosed struct {
	Time    time.Time    `json:"time"`
	Session SessionInfo  `json:"session"`
	Err     error        `json:"-"`
	Stats   SessionStats `json:"stats"`
}

// EventsLost stands in for events that a listener was too slow to take.
type EventsLost struct {
	Count int `json:"count"`
}

func (StreamStarted) event()    {}
func (PublisherChanged) event() {}
func (TracksChanged) event()    {}
func (StreamEnded) event()      {}
func (SessionOpened) event()    {}
func (SessionClosed) event()    {}
func (EventsLost) event()       {}

// eventBacklog is how many events a slow listener may be behind.
const eventBacklog = 1024

// Events returns the events from now on, in order, until ctx ends or the hub
// is closed. The hub never waits for a listener: one that is too slow gets
// EventsLost. The sequence can be ranged over once.
func (h *Hub) Events(ctx context.Context) iter.Seq[Event] {
	q := &eventQueue{ready: make(chan struct{}, 1)}
	h.events.attach(q)
	stop := context.AfterFunc(ctx, func() { h.events.detach(q) })
	return func(yield func(Event) bool) {
		defer h.events.detach(q)
		defer stop()
		for {
			batch, ended := q.take()
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

func (h *Hub) emit(e Event) { h.events.emit(e) }

// eventQueues is a leaf in the order of locks: emit is called under any other.
type eventQueues struct {
	mu     sync.Mutex
	queues []*eventQueue
	closed bool
}

type eventQueue struct {
	ready chan struct{} // capacity 1

	mu     sync.Mutex
	events []Event
	lost   int
	ended  bool
}

func (q *eventQueues) attach(n *eventQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n.ended = q.closed
	q.queues = append(q.queues, n)
}

func (q *eventQueues) detach(n *eventQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queues = slices.DeleteFunc(q.queues, func(o *eventQueue) bool { return o == n })
}

func (q *eventQueues) emit(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.queues {
		n.put(e)
	}
}

func (q *eventQueues) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, n := range q.queues {
		n.put(nil)
	}
}

// put appends an event, or ends the queue if e is nil.
func (q *eventQueue) put(e Event) {
	q.mu.Lock()
	switch {
	case e == nil:
		q.ended = true
	case len(q.events) >= eventBacklog:
		q.lost++
	default:
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() (batch []Event, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch = q.events
	q.events = nil
	if q.lost > 0 {
		batch = append(batch, EventsLost{Count: q.lost})
		q.lost = 0
	}
	return batch, q.ended
}
