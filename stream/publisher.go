package stream

import (
	"errors"
	"time"
)

// A Publisher writes the frames of one stream. Its methods may be called from
// several goroutines, but frames keep their order only when one writes them.
type Publisher struct {
	stream  *Stream
	session *Session
	onEvict func(error)
	onKey   func()
	jitter  Jitter
	mix     *mixer

	// guarded by stream.mu
	err    error // set once the publisher has ended
	tracks []*Track
}

func newPublisher(s *Stream, o *PublishOptions) *Publisher {
	p := &Publisher{stream: s, session: o.Session, onEvict: o.OnEvict, onKey: o.OnKeyRequest, jitter: o.Jitter}
	if o.MixCorrect {
		p.mix = &mixer{}
	}
	return p
}

// Stream returns the stream that p publishes.
func (p *Publisher) Stream() *Stream { return p.stream }

// Session returns the session given in PublishOptions, or nil.
func (p *Publisher) Session() *Session { return p.session }

var (
	errTracks  = errors.New("stream: tracks need distinct non-zero IDs and known codecs")
	errForeign = errors.New("stream: frame of a track that SetTracks did not name")
)

// SetTracks states the tracks in force from the next frame on. Call it again
// with all of them when one appears, goes or changes. A track that Same calls
// unchanged may be given by its old pointer or an equal one; the pointer in
// the frames decides what readers see.
func (p *Publisher) SetTracks(tracks ...*Track) error {
	video := false
	for i, t := range tracks {
		if t == nil || t.ID == 0 || t.Codec == 0 || t.Codec >= codecEnd {
			return errTracks
		}
		for _, o := range tracks[:i] {
			if o.ID == t.ID {
				return errTracks
			}
		}
		video = video || t.Kind() == Video
	}
	set := append([]*Track(nil), tracks...)
	s := p.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.tracks, s.tracks, s.hasVideo = set, set, video
	if s.made != nil {
		return nil
	}
	s.hub.emit(TracksChanged{Time: time.Now(), Stream: s.name, Tracks: set})
	return nil
}

// SetMetadata states what is known of the stream beside its tracks. It takes
// ownership of m.
func (p *Publisher) SetMetadata(m Metadata) {
	s := p.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.err == nil {
		s.metadata = m
	}
}

// Write appends a frame to the stream. It never blocks for readers and takes
// ownership of f and f.Data: timestamps are repaired as PublishOptions.Jitter
// says, Time is filled in if zero, and neither may be touched afterwards.
// f.Track must be one of SetTracks'. Once the publisher has ended Write
// returns why: ErrClosed, ErrReplaced, ErrKicked.
func (p *Publisher) Write(f *Frame) error {
	f.arrived = time.Now()
	if f.Time.IsZero() {
		f.Time = f.arrived
	}
	s := p.stream
	s.mu.Lock()
	if p.err != nil {
		s.mu.Unlock()
		return p.err
	}
	if !p.knows(f.Track) {
		s.mu.Unlock()
		return errForeign
	}
	given := f.DTS
	s.line.repair(f, p.jitter)
	if s.made == nil {
		s.cut.place(f, f.Track.Kind() == Video || !s.leadsVideo(), f.DTS-given)
	}
	s.stats.add(f)
	if p.mix == nil {
		s.append(f)
	} else {
		p.mix.push(f)
		for len(p.mix.held) > 0 && (len(p.tracks) < 2 || p.mix.due()) {
			s.append(p.mix.pop())
		}
	}
	s.unlockAndWake()
	return nil
}

func (p *Publisher) knows(t *Track) bool {
	for _, k := range p.tracks {
		if k == t {
			return true
		}
	}
	return false
}

// Close ends the publisher. The stream ends too, after Hub.Grace, unless
// another publisher comes. Frames that MixCorrect still holds are written.
func (p *Publisher) Close() error {
	s := p.stream
	s.mu.Lock()
	if p.err != nil {
		s.mu.Unlock()
		return nil
	}
	p.err = ErrClosed
	if p.mix != nil {
		for len(p.mix.held) > 0 {
			s.append(p.mix.pop())
		}
	}
	s.leave()
	return nil
}

// evict ends the stream's publisher by somebody else's will. Called with
// stream.mu held.
func (p *Publisher) evict(err error) {
	if err == nil {
		err = ErrClosed
	}
	p.err = err
	if p.onEvict != nil {
		go p.onEvict(err)
	}
}
