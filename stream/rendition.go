package stream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Derivation says how other forms of a stream's media are made of it: sound
// in another codec, pictures in other sizes. Nothing runs before somebody reads
// one of them.
type Derivation struct {
	// Renditions are what is made, one at least.
	Renditions []RenditionInfo
	// Source is how Make's reader reads.
	Source SubscribeOptions
	// Linger is how long Make goes on after the last reader; default 10 s.
	Linger time.Duration
	// Make reads src and writes outs, one for each of Renditions, until src
	// ends or ctx does, and returns. It is called in a goroutine of its own
	// with the first reader, and again with the next once it has returned;
	// the outs end then, and src is closed. It states the tracks of the outs;
	// their timestamps are src's and are not repaired.
	Make func(ctx context.Context, src *Subscriber, outs []*Publisher) error
	// Info, if set, says what is known of a rendition now, by its name; else
	// that is what Renditions said. It must not call the stream.
	Info func(name string) RenditionInfo
	// OnKeyRequest, if set, is called as PublishOptions.OnKeyRequest is, for the
	// rendition of that name; else the stream's publisher is asked.
	OnKeyRequest func(name string)
}

// RenditionInfo is what is known of a rendition before it is made.
type RenditionInfo struct {
	Name      string   // unique within the stream, without a slash: "opus", "720p"
	Tracks    []*Track // what it will have; Config may be missing
	Bandwidth int64    // bits a second; 0: unknown
	Width     int      // of its pictures; 0: unknown, or none
	Height    int
	FPS       float64 // 0: unknown, or none
	Idle      bool    // nothing of it comes at present, whoever reads it
}

// A Rendition is one form of a stream's media beside the one that is published.
type Rendition struct {
	info  RenditionInfo
	group *derived
	out   *Stream // its media, which no hub lists; guarded by group.mu; nil until somebody reads
}

// derived is a Derivation at work on a stream.
type derived struct {
	Derivation
	source     *Stream
	renditions []*Rendition

	// mu is taken before that of a Stream.
	mu      sync.Mutex
	removed bool
	cancel  context.CancelFunc // of the Make that runs; nil: none
	run     int                // which one that is
	rest    *time.Timer
}

var errRendition = errors.New("stream: a derivation needs renditions with names of their own, and Make")

// Derive adds renditions to the stream, until it ends or remove is called. Their
// readers get io.EOF then.
func (s *Stream) Derive(d *Derivation) (remove func(), err error) {
	if d.Make == nil || len(d.Renditions) == 0 {
		return nil, errRendition
	}
	g := &derived{Derivation: *d, source: s}
	if g.Linger <= 0 {
		g.Linger = 10 * time.Second
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.made != nil {
		return nil, ErrClosed
	}
	for _, info := range d.Renditions {
		taken := func(r *Rendition) bool { return r.info.Name == info.Name }
		if info.Name == "" || strings.Contains(info.Name, "/") || slices.ContainsFunc(s.renditions, taken) || slices.ContainsFunc(g.renditions, taken) {
			return nil, errRendition
		}
		g.renditions = append(g.renditions, &Rendition{info: info, group: g})
	}
	// A new slice: Renditions hands it out.
	s.renditions = append(slices.Clip(s.renditions), g.renditions...)
	s.hub.emit(RenditionsChanged{Time: time.Now(), Stream: s.name})
	return g.remove, nil
}

// Renditions returns the forms of the stream's media that there are beside the
// published one. The slice is not to be modified.
func (s *Stream) Renditions() []*Rendition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renditions
}

// Rendition returns the rendition of that name, or nil.
func (s *Stream) Rendition(name string) *Rendition {
	for _, r := range s.Renditions() {
		if r.info.Name == name {
			return r
		}
	}
	return nil
}

// Info returns what is known of the rendition: what was said when it was added,
// or what Derivation.Info says now.
func (r *Rendition) Info() RenditionInfo {
	if r.group.Info == nil {
		return r.info
	}
	info := r.group.Info(r.info.Name)
	info.Name = r.info.Name
	return info
}

// Name returns the rendition's name within its stream.
func (r *Rendition) Name() string { return r.info.Name }

// Tracks returns the tracks in force, or those of Info while nobody reads. The
// slice is not to be modified.
func (r *Rendition) Tracks() []*Track {
	r.group.mu.Lock()
	out := r.out
	r.group.mu.Unlock()
	if out != nil {
		if tracks := out.Tracks(); len(tracks) > 0 {
			return tracks
		}
	}
	return r.info.Tracks
}

// Subscribe attaches a reader, the first of which starts what makes the
// rendition. Its Stream is one of its own, of the same name, which lives as long
// as it is made. ErrNotFound says that the rendition, or what it is made of, is
// gone.
func (r *Rendition) Subscribe(o *SubscribeOptions) (*Subscriber, error) {
	if o == nil {
		o = &SubscribeOptions{}
	}
	g := r.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancel == nil {
		if err := g.start(); err != nil {
			return nil, err
		}
	}
	if sub, _ := r.out.attach(o); sub != nil {
		return sub, nil
	}
	return nil, ErrNotFound // Make has closed what it wrote to
}

// start is called with g.mu held and nothing running.
func (g *derived) start() error {
	if g.removed {
		return ErrNotFound
	}
	s := g.source
	src, _ := s.attach(&g.Source)
	if src == nil {
		return ErrNotFound
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.run++
	run := g.run
	outs := make([]*Publisher, len(g.renditions))
	for i, r := range g.renditions {
		r.out = newStream(s.hub, s.name)
		r.out.made = g
		ask := s.RequestKey
		if g.OnKeyRequest != nil {
			ask = func() { g.OnKeyRequest(r.info.Name) }
		}
		outs[i] = newPublisher(r.out, &PublishOptions{Jitter: JitterOff, OnKeyRequest: ask})
		r.out.publisher = outs[i]
	}
	go func() {
		err := g.Make(ctx, src, outs)
		if err != nil && ctx.Err() == nil {
			s.hub.log().Warn("stream: rendition failed", "stream", s.name, "rendition", g.renditions[0].info.Name, "error", err)
		}
		src.Close()
		g.mu.Lock()
		if g.run == run {
			g.stop()
		}
		g.mu.Unlock()
		for _, p := range outs {
			p.Close()
		}
		cancel()
	}()
	return nil
}

// stop ends what runs, if anything does. The next reader begins anew. Called
// with g.mu held.
func (g *derived) stop() {
	if g.cancel != nil {
		g.cancel()
		g.cancel = nil
	}
	if g.rest != nil {
		g.rest.Stop()
		g.rest = nil
	}
}

// idle is told that the last reader of a rendition has left.
func (g *derived) idle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancel == nil {
		return
	}
	if g.rest != nil {
		g.rest.Stop()
	}
	run := g.run
	g.rest = time.AfterFunc(g.Linger, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.run == run && !slices.ContainsFunc(g.renditions, func(r *Rendition) bool { return r.out.readerCount() > 0 }) {
			g.stop()
		}
	})
}

// remove takes the renditions off their stream.
func (g *derived) remove() {
	s := g.source
	s.mu.Lock()
	before := len(s.renditions)
	// Not in place: Renditions has handed the slice out.
	s.renditions = slices.DeleteFunc(slices.Clone(s.renditions), func(r *Rendition) bool { return r.group == g })
	if len(s.renditions) != before && !s.ended {
		s.hub.emit(RenditionsChanged{Time: time.Now(), Stream: s.name})
	}
	s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removed = true
	g.stop()
}
