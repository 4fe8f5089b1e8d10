package stream

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/runnel-media/runnel/internal/name"
)

// SubscribeOptions are what a reader may choose. The zero value starts at the
// newest key frame that the stream still has and falls back by as much as the
// stream's Cache allows.
type SubscribeOptions struct {
	Live bool          // start at the next key frame instead of the newest one there is
	Wait time.Duration // how long to wait for a stream that is not published yet; 0: fail with ErrNotFound

	// Rendition names the form of the stream's media to read; "": the one
	// that is published. ErrNotFound, if there is none of that name.
	Rendition string

	// A reader that is further behind than this skips to the newest key
	// frame. 0: only the stream's Cache bounds it.
	MaxBytes int64
	MaxLag   time.Duration // of media

	// MaxSkips is how often in a row a reader may skip; the next time Read
	// fails with ErrSlow. It starts anew when the reader has caught up, that
	// is when a Read had to wait for a frame. 0: it may skip for ever.
	MaxSkips int
}

// A Subscriber reads the frames of a stream at its own pace. The publisher
// never waits for it.
type Subscriber struct {
	stream *Stream
	opts   SubscribeOptions
	wake   chan struct{} // capacity 1

	// guarded by stream.mu
	next    uint64 // sequence number of the next frame to read
	needKey bool   // nothing is delivered before an access point
	begun   bool   // it has been at an access point
	bed     int    // place in stream.sleepers, from 1; 0: awake
	skips   int    // since it last caught up
	dropped uint64
	err     error // ErrSlow or ErrClosed: the end
}

// Subscribe attaches a reader to a stream. If nobody publishes it, Hub.Source
// is asked for it, and SubscribeOptions.Wait may wait for it; else the error is
// ErrNotFound, which wraps what Source said. ctx bounds the waiting only. Close
// the Subscriber when done.
func (h *Hub) Subscribe(ctx context.Context, key string, o *SubscribeOptions) (*Subscriber, error) {
	if err := name.Check(key); err != nil {
		return nil, err
	}
	if o == nil {
		o = &SubscribeOptions{}
	}
	r, err := h.await(ctx, key, o)
	if err != nil || o.Rendition == "" {
		return r, err
	}
	defer r.Close() // a fetched stream stays: what makes the rendition reads it
	if made := r.stream.Rendition(o.Rendition); made != nil {
		return made.Subscribe(o)
	}
	return nil, ErrNotFound
}

// Stream returns the stream that r reads.
func (r *Subscriber) Stream() *Stream { return r.stream }

// Tracks returns the stream's tracks now; those of a frame are in the frame.
func (r *Subscriber) Tracks() []*Track { return r.stream.Tracks() }

// Metadata returns the stream's metadata now.
func (r *Subscriber) Metadata() Metadata { return r.stream.Metadata() }

// Dropped returns how many frames r skipped because it was too slow.
func (r *Subscriber) Dropped() uint64 {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	return r.dropped
}

// Read fills dst, which is not empty, with the frames that are due and returns
// their number, at least one unless the error is set. It blocks while there is
// none. The error is ctx's when that has ended, io.EOF at the end of the stream,
// ErrSlow if MaxSkips was exceeded, ErrClosed after Close. Only one goroutine may
// Read at a time.
func (r *Subscriber) Read(ctx context.Context, dst []*Frame) (int, error) {
	s := r.stream
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		s.mu.Lock()
		n, err := r.poll(dst)
		if n > 0 || err != nil {
			s.mu.Unlock()
			return n, err
		}
		if !r.needKey {
			r.skips = 0
		}
		s.sleepers.add(r)
		s.mu.Unlock()
		select {
		case <-r.wake:
		case <-ctx.Done():
		}
	}
}

// TryRead is Read without waiting: it returns 0 and no error while no frame is
// due. A reader that collects frames for a while takes them all by it, and is
// not woken for each meanwhile.
func (r *Subscriber) TryRead(dst []*Frame) (int, error) {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	return r.poll(dst)
}

// poll returns what Read does, or 0 and no error if there is nothing yet. Called
// with stream.mu held.
func (r *Subscriber) poll(dst []*Frame) (int, error) {
	r.catchUp()
	if r.err != nil {
		return 0, r.err
	}
	n := r.take(dst)
	if n == 0 && r.stream.ended {
		return 0, io.EOF
	}
	return n, nil
}

// take moves the frames that are due to dst. Called with stream.mu held.
func (r *Subscriber) take(dst []*Frame) int {
	if r.needKey {
		return 0
	}
	ring := &r.stream.ring
	n := 0
	for n < len(dst) && r.next < ring.head {
		dst[n] = ring.at(r.next).f
		r.next++
		n++
	}
	return n
}

// behind reports whether r has lost its place, or is further behind than its
// options allow. Called with stream.mu held.
func (r *Subscriber) behind() bool {
	ring := &r.stream.ring
	if r.next < ring.tail {
		return true
	}
	if r.opts.MaxBytes <= 0 && r.opts.MaxLag <= 0 {
		return false
	}
	bytes, media := ring.lag(r.next)
	return r.opts.MaxBytes > 0 && bytes > r.opts.MaxBytes || r.opts.MaxLag > 0 && media > r.opts.MaxLag
}

// catchUp moves a reader that is behind, or has yet to begin, to an access
// point. Called with stream.mu held.
func (r *Subscriber) catchUp() {
	ring := &r.stream.ring
	if r.needKey || r.err != nil || !r.behind() {
		return
	}
	switch {
	case ring.hasKey && ring.key > r.next:
		r.skipTo(ring.key)
	case r.next < ring.tail:
		r.skipTo(ring.head)
		r.needKey = true
	default:
		return // within the group of pictures it would skip to: reading on is as good
	}
	r.skips++
	if r.opts.MaxSkips > 0 && r.skips > r.opts.MaxSkips {
		r.err = ErrSlow
	}
}

// skipTo moves r forward. What it passes counts as dropped, but for the frames
// between its arrival and its first access point.
func (r *Subscriber) skipTo(seq uint64) {
	if r.begun {
		r.dropped += seq - r.next
	}
	r.next, r.begun = seq, true
}

// Frames yields frame after frame until the stream ends (no error is yielded
// for that), ctx ends or the reader fails. Leaving the loop does not Close r.
func (r *Subscriber) Frames(ctx context.Context) iter.Seq2[*Frame, error] {
	return func(yield func(*Frame, error) bool) {
		var one [1]*Frame // no more: a frame read ahead would be lost to whoever leaves the loop
		for {
			_, err := r.Read(ctx, one[:])
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(one[0], err) || err != nil {
				return
			}
		}
	}
}

// Close detaches r. A Read that is under way returns ErrClosed.
func (r *Subscriber) Close() error {
	s := r.stream
	s.mu.Lock()
	if _, attached := s.readers[r]; !attached {
		s.mu.Unlock()
		return nil
	}
	r.err = ErrClosed
	delete(s.readers, r)
	s.sleepers.remove(r)
	s.stats.dropped += r.dropped
	idle := len(s.readers) == 0
	s.mu.Unlock()
	r.signal()
	if idle {
		s.idle()
	}
	return nil
}

// signal wakes r, or keeps it from falling asleep. It never blocks.
func (r *Subscriber) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
