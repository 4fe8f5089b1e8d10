package stream

import (
	"context"
	"iter"
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

// RenditionsChanged: a stream has other Renditions.
type RenditionsChanged struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
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

func (StreamStarted) event()     {}
func (PublisherChanged) event()  {}
func (TracksChanged) event()     {}
func (RenditionsChanged) event() {}
func (StreamEnded) event()       {}
func (SessionOpened) event()     {}
func (SessionClosed) event()     {}
func (EventsLost) event()        {}

// Events returns the events from now on, in order, until ctx ends or the hub
// is closed. The hub never waits for a listener: one that is too slow gets
// EventsLost. The sequence can be ranged over once.
func (h *Hub) Events(ctx context.Context) iter.Seq[Event] {
	return h.events.Listen(ctx, func(n int) Event { return EventsLost{Count: n} })
}

func (h *Hub) emit(e Event) { h.events.Emit(e) }
