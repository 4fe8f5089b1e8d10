package turn

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// An Event is something that happened to a session. See the types that
// implement it.
type Event interface{ event() }

// A Session is whom an Event is about.
type Session struct {
	ID        uint64            `json:"id"`
	Realm     string            `json:"realm"`
	User      string            `json:"user"`
	Labels    map[string]string `json:"labels,omitempty"` // of the grant; not to be changed
	Transport string            `json:"transport"`        // of the client
	Client    netip.AddrPort    `json:"client"`
	Server    netip.AddrPort    `json:"server"`
	Network   string            `json:"network"` // of the relayed addresses: "udp" or "tcp"
	Relayed   []netip.AddrPort  `json:"relayed"`
}

// Session is the part that events carry.
func (i AllocationInfo) Session() Session {
	return Session{
		ID: i.ID, Realm: i.Realm, User: i.User, Labels: i.Labels, Transport: i.Transport,
		Client: i.Client, Server: i.Server, Network: i.Network, Relayed: i.Relayed,
	}
}

// AllocationCreated: a session began.
type AllocationCreated struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
	Expires time.Time `json:"expires"`
}

// AllocationFailed: a client that is known did not get an allocation.
type AllocationFailed struct {
	Time   time.Time      `json:"time"`
	Realm  string         `json:"realm"`
	User   string         `json:"user"`
	Client netip.AddrPort `json:"client"`
	Code   int            `json:"code"` // of the error answer
}

// AllocationRefreshed: a client asked for more time.
type AllocationRefreshed struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
	Expires time.Time `json:"expires"`
}

// AllocationMoved: a client came with a new address (RFC 8016), and used it.
type AllocationMoved struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
}

// AllocationEnded: a session is over.
type AllocationEnded struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
	Reason  EndReason `json:"reason"`
	Usage   Usage     `json:"usage"`
}

// EventsLost: the listener was too slow for Count events.
type EventsLost struct {
	Time  time.Time `json:"time"`
	Count int       `json:"count"`
}

func (AllocationCreated) event()   {}
func (AllocationFailed) event()    {}
func (AllocationRefreshed) event() {}
func (AllocationMoved) event()     {}
func (AllocationEnded) event()     {}
func (EventsLost) event()          {}

// An EndReason is why a session ended.
type EndReason string

// The reasons.
const (
	EndRefreshed    EndReason = "refresh"      // the client said so: Refresh with a LIFETIME of 0
	EndExpired      EndReason = "expired"      // it was not refreshed
	EndCredential   EndReason = "credential"   // what Auth granted has run out
	EndDisconnected EndReason = "disconnected" // the client's connection ended
	EndClosed       EndReason = "closed"       // Allocation.Close
	EndServerClosed EndReason = "server"       // the server, or its socket, was closed
	EndFailed       EndReason = "failed"       // the relay socket could not be read
)

// eventBacklog is how many events a slow listener may be behind.
const eventBacklog = 1024

// Events returns the events from now on, in order, until ctx ends or the server
// is closed. The server never waits for a listener: one that is too slow gets
// EventsLost. The sequence can be ranged over once.
func (s *Server) Events(ctx context.Context) iter.Seq[Event] {
	q := &eventQueue{ready: make(chan struct{}, 1)}
	s.events.attach(q)
	stop := context.AfterFunc(ctx, func() { s.events.detach(q) })
	return func(yield func(Event) bool) {
		defer s.events.detach(q)
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
	if !q.closed {
		q.queues = append(q.queues, n)
	}
}

func (q *eventQueues) detach(n *eventQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queues = slices.DeleteFunc(q.queues, func(x *eventQueue) bool { return x == n })
	n.end()
}

func (q *eventQueues) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, n := range q.queues {
		n.end()
	}
	q.queues = nil
}

func (q *eventQueues) emit(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.queues {
		n.push(e)
	}
}

func (q *eventQueue) push(e Event) {
	q.mu.Lock()
	if len(q.events) < eventBacklog {
		q.events = append(q.events, e)
	} else {
		q.lost++
	}
	q.mu.Unlock()
	q.signal()
}

func (q *eventQueue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.signal()
}

func (q *eventQueue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns what has come since the last call, and EventsLost behind it if
// something was lost.
func (q *eventQueue) take() (events []Event, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, q.events = q.events, nil
	if q.lost > 0 {
		events = append(events, EventsLost{Time: time.Now(), Count: q.lost})
		q.lost = 0
	}
	return events, q.ended
}
