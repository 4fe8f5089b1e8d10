package stream

import (
	"errors"
	"sync"
	"time"
)

// A Stream is live media under one name: the frames of one publisher, on their
// way to any number of readers. It ends with its publisher, after Hub.Grace.
type Stream struct {
	hub     *Hub
	name    string
	started time.Time
	made    *derived // of a rendition: what makes it; nil: it is published, and in the hub's table

	// Latency is from a frame's arrival to its socket write.
	Latency Histogram

	mu         sync.Mutex
	publisher  *Publisher // nil while the stream waits for one to come back
	graceEnd   *time.Timer
	ended      bool
	tracks     []*Track
	hasVideo   bool
	metadata   Metadata
	renditions []*Rendition
	ring       ring
	line       timeline
	cut        cutter
	stats      meter
	readers    map[*Subscriber]struct{}
	sleepers   sleepers
	noVideo    int // frames since the last picture
}

func newStream(h *Hub, key string) *Stream {
	return &Stream{
		hub:     h,
		name:    key,
		started: time.Now(),
		ring:    ring{limits: h.Cache.withDefaults()},
		readers: make(map[*Subscriber]struct{}),
	}
}

// Name returns the hub key.
func (s *Stream) Name() string { return s.name }

// Started returns when the stream came up.
func (s *Stream) Started() time.Time { return s.started }

// Tracks returns the tracks in force. The slice is not to be modified.
func (s *Stream) Tracks() []*Track {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tracks
}

// Metadata returns what the publisher said of the stream, nil if nothing.
func (s *Stream) Metadata() Metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metadata
}

// Publishing reports whether the stream has a publisher now, rather than
// waiting for one to come back.
func (s *Stream) Publishing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publisher != nil
}

// RequestKey asks the publisher for a key frame, if it can be asked
// (PublishOptions.OnKeyRequest).
func (s *Stream) RequestKey() {
	s.mu.Lock()
	p := s.publisher
	s.mu.Unlock()
	if p != nil && p.onKey != nil {
		p.onKey()
	}
}

// End ends the stream, its publisher with err (ErrClosed if nil), and its
// readers with io.EOF once they have read what there is. It does not wait for
// them.
func (s *Stream) End(err error) {
	s.mu.Lock()
	if p := s.publisher; p != nil {
		p.evict(err)
		s.publisher = nil
	}
	s.finish(err)
}

// finish ends the stream; called with s.mu held, which it releases.
func (s *Stream) finish(err error) {
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	if s.graceEnd != nil {
		s.graceEnd.Stop()
		s.graceEnd = nil
	}
	if s.made != nil {
		s.unlockAndWake()
		return
	}
	// Under s.mu, so that it comes before the StreamStarted of a successor.
	s.hub.emit(StreamEnded{Time: time.Now(), Stream: s.name, Err: err, Stats: s.statsLocked()})
	s.unlockAndWake()
	s.hub.remove(s)
}

// idle is told that the last reader has left. Called without s.mu.
func (s *Stream) idle() {
	if s.made != nil {
		s.made.idle()
		return
	}
	s.hub.idle(s.name)
}

// errEnded is takeOver's answer for a stream that is about to leave the table.
var errEnded = errors.New("stream: ended")

// takeOver gives a stream that exists a new publisher. Called with hub.mu held.
func (s *Stream) takeOver(o *PublishOptions) (*Publisher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, errEnded
	}
	if s.publisher != nil {
		if !o.Replace {
			return nil, ErrBusy
		}
		s.publisher.evict(ErrReplaced)
	}
	if s.graceEnd != nil {
		s.graceEnd.Stop()
		s.graceEnd = nil
	}
	p := newPublisher(s, o)
	s.publisher = p
	s.line.restart()
	s.hub.emit(PublisherChanged{Time: time.Now(), Stream: s.name, Session: o.Session.ID()})
	return p, nil
}

// leave is the end of the stream's publisher by its own will or its
// connection's loss. Called with s.mu held, which it releases.
func (s *Stream) leave() {
	s.publisher = nil
	if s.hub.Grace <= 0 || s.made != nil {
		s.finish(nil)
		return
	}
	var t *time.Timer
	t = time.AfterFunc(s.hub.Grace, func() {
		s.mu.Lock()
		if s.graceEnd != t { // somebody else has taken care of the stream
			s.mu.Unlock()
			return
		}
		s.finish(nil)
	})
	s.graceEnd = t
	s.unlockAndWake()
}

// attach adds a reader, or returns nil if the stream has ended. orphan tells
// that nobody publishes it at present. Called with hub.mu held.
func (s *Stream) attach(o *SubscribeOptions) (r *Subscriber, orphan bool) {
	r = &Subscriber{stream: s, opts: *o, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, false
	}
	if !o.Live && !s.ring.limits.Off && s.ring.hasKey {
		r.next, r.begun = s.ring.key, true
	} else {
		r.next, r.needKey = s.ring.head, true
	}
	s.readers[r] = struct{}{}
	return r, s.publisher == nil
}

// append adds a frame. Called with s.mu held; follow it with unlockAndWake.
func (s *Stream) append(f *Frame) {
	access := s.isAccess(f)
	s.ring.append(f, access)
	if !access {
		return
	}
	for r := range s.readers {
		if r.needKey { // also of a reader that is late to Read: it is to miss nothing from here on
			r.skipTo(s.ring.key)
			r.needKey = false
		}
	}
	s.ring.trim(s.needed())
}

const (
	// videoGone is after how many frames without a picture a stream is
	// treated as if it had no video.
	videoGone = 150
	// audioAccess is how far apart the access points of audio are, of media.
	audioAccess = time.Second
)

// isAccess reports whether a reader may start at f: at a key frame, or, if there
// is no video, at any frame. Of those one a second is chosen, which keeps late
// joiners close to the live edge and the cache short. A stream that announces
// video and sends none is audio too, unless the cache still has a picture.
func (s *Stream) isAccess(f *Frame) bool {
	if f.Track.Kind() == Video {
		s.noVideo = 0
		return f.Key
	}
	s.noVideo++
	if s.leadsVideo() || s.hasVideo && s.ring.hasKey && s.ring.at(s.ring.key).f.Track.Kind() == Video {
		return false
	}
	return !s.ring.hasKey || f.DTS-s.ring.accessDTS >= audioAccess
}

// needed returns the oldest frame that is still of use: the start of the
// newest group of pictures or the position of the slowest reader that will not
// skip.
func (s *Stream) needed() uint64 {
	need := s.ring.head
	if s.ring.hasKey {
		need = s.ring.key
	}
	for r := range s.readers {
		if r.next < need && !r.needKey && !r.behind() {
			need = r.next
		}
	}
	return need
}

// leadsVideo reports whether pictures are to be expected.
func (s *Stream) leadsVideo() bool { return s.hasVideo && s.noVideo < videoGone }
