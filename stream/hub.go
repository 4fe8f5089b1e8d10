package stream

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/events"
	"github.com/runnel-media/runnel/internal/name"
)

// A Hub holds the live streams of a server by name. The zero Hub works. Set
// its fields before first use; all methods may be called from many goroutines
// at once.
type Hub struct {
	Log    *slog.Logger  // nil: slog.Default()
	Source Source        // asked for a stream that nobody publishes here; nil: there is none
	Cache  Cache         // what each stream keeps
	Grace  time.Duration // how long a stream outlives its publisher, its readers attached; 0: not at all
	Linger time.Duration // how long a stream that Source fetched outlives its last reader; default 10 s

	// Segment has streams cut into segments that last so long at least and begin
	// with key frames, the same for all outputs of this server and of those that
	// relay it by the protocol that passes on the cuts. 0: outputs cut for
	// themselves, but for streams that another server has cut.
	Segment time.Duration

	Latency Histogram // of all streams: from a frame's arrival to its socket write

	// Locks are taken in this order: mu, one Stream's mu, a leaf (events,
	// sessions). What other code runs, runs without any.
	mu       sync.Mutex
	closed   bool
	streams  map[string]*Stream
	awaited  map[string]*arrival // names that somebody waits for
	fetches  map[string]*fetch
	declared map[string]*Declaration // values are never modified
	counts   map[string]counted      // segments of streams that have ended
	events   events.Bus[Event]
	sessions sessionTable
}

// Stream returns the live stream of that name, or nil.
func (h *Hub) Stream(key string) *Stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[key]
}

// Streams yields the streams that are live when it is called, in no order.
func (h *Hub) Streams() iter.Seq[*Stream] {
	h.mu.Lock()
	all := make([]*Stream, 0, len(h.streams))
	for _, s := range h.streams {
		all = append(all, s)
	}
	h.mu.Unlock()
	return func(yield func(*Stream) bool) {
		for _, s := range all {
			if !yield(s) {
				return
			}
		}
	}
}

// PublishOptions are what a publisher may choose. The zero value is right for
// most.
type PublishOptions struct {
	Replace    bool   // take the stream over from its publisher instead of failing with ErrBusy
	Jitter     Jitter // how far timestamps are repaired
	MixCorrect bool   // put audio and video into one order by DTS, at the price of a short delay

	Session *Session // counted and closed by the caller; nil: none

	// OnKeyRequest, if set, is called from a goroutine of a reader that can't
	// go on without a key frame, which the peer can be asked for (WebRTC). It
	// must not block, and bounds how often it asks.
	OnKeyRequest func()

	// OnEvict is called once, from a goroutine of its own, when somebody else
	// ends the publisher (ErrReplaced, ErrKicked, ErrClosed): close the
	// peer's connection there.
	OnEvict func(error)
}

// Publish makes the caller the publisher of a stream, which appears if it does
// not exist. Of several at once exactly one wins, the others get ErrBusy; with
// PublishOptions.Replace the last one wins. It never blocks; ctx bounds
// nothing but the call.
func (h *Hub) Publish(ctx context.Context, key string, o *PublishOptions) (*Publisher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := name.Check(key); err != nil {
		return nil, err
	}
	if o == nil {
		o = &PublishOptions{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if s := h.streams[key]; s != nil {
		if d := h.declared[key]; d != nil && d.Replace && !o.Replace {
			replacing := *o
			replacing.Replace = true
			o = &replacing
		}
		if p, err := s.takeOver(o); !errors.Is(err, errEnded) {
			return p, err
		}
	}
	s := newStream(h, key)
	s.cut = cutter{length: h.Segment, before: h.recall(key)}
	p := newPublisher(s, o)
	s.publisher = p
	if h.streams == nil {
		h.streams = make(map[string]*Stream)
	}
	h.streams[key] = s
	if a := h.awaited[key]; a != nil {
		close(a.published)
		delete(h.awaited, key)
	}
	h.emit(StreamStarted{Time: s.started, Stream: key, Session: o.Session.ID()})
	return p, nil
}

// remove takes an ended stream off the table. Called without s.mu.
func (h *Hub) remove(s *Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.name] == s {
		delete(h.streams, s.name)
		s.mu.Lock()
		h.remember(s.name, s.cut.counted())
		s.mu.Unlock()
	}
}

// Close ends every stream, publisher, reader and session. Publish and
// Subscribe fail with ErrClosed from then on.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	for _, f := range h.fetches {
		f.cancel()
	}
	for key, a := range h.awaited {
		close(a.published)
		delete(h.awaited, key)
	}
	h.mu.Unlock()
	for s := range h.Streams() {
		s.End(ErrClosed)
	}
	for s := range h.Sessions() {
		s.Kick(ErrClosed)
	}
	h.events.Close()
	return nil
}

func (h *Hub) log() *slog.Logger {
	if h.Log != nil {
		return h.Log
	}
	return slog.Default()
}
