package relay

import (
	"context"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Writer takes what a Transport pulls over one connection, and publishes it.
// Its methods are for one goroutine.
type Writer struct {
	pull *pull
	ctx  context.Context

	// owned by the Transport's goroutine
	epoch    string
	metadata stream.Metadata
	tracks   []*stream.Track
	begun    bool // this connection's tracks are in force in the hub
	overlaps bool // it began with frames that had come before
	media    bool
	touched  time.Time

	watch *time.Timer // ends ctx
}

// A line maps the timestamps of a source that keeps them to the hub's stream.
type line struct {
	epoch  string
	shift  time.Duration
	newest time.Duration
	last   map[uint8]time.Duration // DTS by track ID

	given, moved *stream.Segment // the newest, as it came and with shift
}

// KeepTime has timestamps go into the hub as they are instead of being repaired
// and begun at zero. epoch names the timeline: after a reconnect within the
// same one the stream goes on without a seam. Call it before the first frame.
func (w *Writer) KeepTime(epoch string) { w.epoch = epoch }

// SetMetadata states what is known of the stream beside its tracks.
func (w *Writer) SetMetadata(m stream.Metadata) {
	w.metadata = m
	if w.begun {
		w.pull.pub.SetMetadata(m)
	}
}

// SetTracks states the tracks in force from the next frame on, as
// stream.Publisher.SetTracks.
func (w *Writer) SetTracks(tracks ...*stream.Track) error {
	w.tracks = append([]*stream.Track(nil), tracks...)
	if w.begun {
		return w.pull.pub.SetTracks(w.tracks...)
	}
	return nil
}

// Write publishes a frame, of which it takes ownership.
func (w *Writer) Write(f *stream.Frame) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	now := time.Now()
	if now.Sub(w.touched) > 100*time.Millisecond {
		w.touched = now
		w.watch.Reset(w.pull.relay.idleTimeout())
	}
	if !w.begun {
		if err := w.begin(); err != nil {
			return err
		}
	}
	p := w.pull
	if w.epoch != "" && !w.place(f) {
		return nil
	}
	n := len(f.Data)
	if err := p.pub.Write(f); err != nil {
		return err
	}
	p.job.session.AddIn(n)
	if !w.media {
		w.media = true
		p.job.running(true, nil)
	}
	return nil
}

// begin makes the stream appear, or the next connection be its source. It is
// put off until the first frame, so that nobody waits at a stream that never
// begins.
func (w *Writer) begin() error {
	p := w.pull
	if p.pub == nil || w.epoch == "" || p.line.epoch == "" {
		// A publisher of its own marks the break for the hub, which keeps the
		// line of time going.
		o := &stream.PublishOptions{Replace: p.pub != nil, Session: p.job.session}
		if w.epoch != "" {
			o.Jitter = stream.JitterOff
			p.line = line{last: make(map[uint8]time.Duration)}
		}
		p.publisher.Add(1)
		turn := p.publisher.Load()
		o.OnEvict = func(err error) {
			if p.publisher.Load() == turn { // not by the next of our own
				p.cancel(err)
			}
		}
		pub, err := p.hub.Publish(w.ctx, p.job.stream, o)
		if err != nil {
			return err
		}
		p.pub = pub
		p.line.epoch = w.epoch
	}
	w.begun = true
	if err := p.pub.SetTracks(w.tracks...); err != nil {
		return err
	}
	if w.metadata != nil {
		p.pub.SetMetadata(w.metadata)
	}
	return nil
}

// place puts the frame of a kept timeline where it belongs, and reports whether
// it is new: after a reconnect the source begins with what it still has.
func (w *Writer) place(f *stream.Frame) bool {
	l := &w.pull.line
	if l.epoch != w.epoch { // the source has begun anew: go on behind what there was
		l.epoch = w.epoch
		l.shift = l.newest + 40*time.Millisecond - f.DTS
		clear(l.last)
		f.Discontinuity = true
	}
	f.DTS += l.shift
	f.PTS += l.shift
	if f.Segment != nil && l.shift != 0 {
		if f.Segment != l.given {
			moved := *f.Segment
			moved.Shift += l.shift
			l.given, l.moved = f.Segment, &moved
		}
		f.Segment = l.moved
	}
	if last, ok := l.last[f.Track.ID]; ok && f.DTS <= last {
		w.overlaps = true
		return false
	}
	if len(l.last) > 0 && !w.media && !w.overlaps && f.DTS > l.newest+time.Second && f.Segment == nil {
		f.Discontinuity = true // more was lost than the source still had; where it cuts, the numbers tell
	}
	l.last[f.Track.ID] = f.DTS
	l.newest = max(l.newest, f.DTS)
	return true
}
