package stream

import "time"

// Jitter says how far a publisher's timestamps are repaired. The names are
// SRS's (time_jitter).
type Jitter uint8

const (
	// JitterFull starts the stream at zero and keeps it continuous: a track
	// that jumps, steps back, wraps or drifts seconds away from the others
	// continues where the stream is.
	JitterFull Jitter = iota
	// JitterZero starts the stream at zero and leaves the rest to the publisher.
	JitterZero
	// JitterOff leaves timestamps alone.
	JitterOff
)

const (
	// maxGap is how far a timestamp may stray from the newest of the stream
	// before it counts as a jump. Forward, the time that really passed is
	// added, so that a slide show with a picture a minute is no jump.
	maxGap = 3 * time.Second
	// maxBack is how far a track may step back behind its own last frame.
	maxBack = time.Second
	// restep is the distance put between a frame and what came before a break.
	restep = 40 * time.Millisecond
)

// timeline maps the publisher's timestamps to the stream's. It is guarded by
// stream.mu.
type timeline struct {
	begun   bool // a frame has passed since the stream came up
	stale   bool // the publisher has changed: the next frame sets new offsets
	newest  time.Duration
	arrived time.Time // when newest was set
	offset  time.Duration
	clocks  []clock // few: one per track ID
}

type clock struct {
	id     uint8
	data   bool // its times are often zero or made up: others do not follow it
	offset time.Duration
	last   time.Duration // DTS given out last
	begun  bool
}

// restart announces another publisher.
func (l *timeline) restart() { l.stale = true }

func (l *timeline) repair(f *Frame, j Jitter) {
	first := !l.begun || l.stale
	if first {
		f.Discontinuity = f.Discontinuity || l.begun
		l.offset = 0
		if j != JitterOff {
			l.offset = -f.DTS
			if l.begun {
				l.offset += l.newest + restep
			}
		}
		for i := range l.clocks {
			l.clocks[i].offset = l.offset
		}
		l.begun, l.stale = true, false
	}
	c := l.clock(f.Track)
	cts := f.PTS - f.DTS
	out := f.DTS + c.offset
	if j == JitterFull && !first && l.jumps(c, out, f.arrived) {
		c.offset = l.rejoin(c, f)
		out = f.DTS + c.offset
	}
	if j != JitterOff {
		out = max(out, 0)
	}
	if j == JitterFull && c.begun && out <= c.last {
		out = c.last + time.Microsecond
	}
	c.last, c.begun = out, true
	if out > l.newest || first {
		l.newest, l.arrived = out, f.arrived
	}
	f.DTS, f.PTS = out, out+cts
}

func (l *timeline) jumps(c *clock, out time.Duration, now time.Time) bool {
	return out > l.newest+maxGap+max(0, now.Sub(l.arrived)) ||
		out < l.newest-maxGap ||
		c.begun && out < c.last-maxBack
}

// rejoin returns the offset that puts a frame that jumped back on the stream's
// line: that of another track which jumped before it, so that the two stay in
// step, or else a new one.
func (l *timeline) rejoin(c *clock, f *Frame) time.Duration {
	for i := range l.clocks {
		o := &l.clocks[i]
		if o != c && !o.data && !l.jumps(c, f.DTS+o.offset, f.arrived) {
			return o.offset
		}
	}
	f.Discontinuity = f.Discontinuity || !c.data
	return l.newest + restep - f.DTS
}

// clock returns the state of a track; a new one starts in step with the others.
func (l *timeline) clock(t *Track) *clock {
	offset, found := l.offset, false
	for i := range l.clocks {
		c := &l.clocks[i]
		if c.id == t.ID {
			c.data = t.Kind() == Data
			return c
		}
		if !c.data && !found {
			offset, found = c.offset, true
		}
	}
	l.clocks = append(l.clocks, clock{id: t.ID, data: t.Kind() == Data, offset: offset})
	return &l.clocks[len(l.clocks)-1]
}
