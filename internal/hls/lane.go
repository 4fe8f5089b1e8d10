package hls

import (
	"time"

	"github.com/runnel-media/runnel/stream"
)

const (
	// goneAfter is how far a track may fall behind the other before it counts
	// as silent, and how far the stream may step forward before it is a break.
	// Publishers interleave within a second.
	goneAfter = 3 * time.Second
	// maxBack is how far a timestamp may step back before it is a jump.
	maxBack = time.Second
)

// A lane is the frames of one kind.
type lane struct {
	track   *stream.Track
	begun   bool // last is valid
	last    time.Duration
	step    time.Duration // between the last two frames
	gone    bool          // no frame for long, while the other lane goes on
	needKey bool          // nothing before the next key frame can be used
	waits   bool          // audio of a new configuration, which begins with the next segment
}

// patience is how long a lane may be silent before it is gone. Slide shows get more.
func (l *lane) patience(limit time.Duration) time.Duration {
	return min(max(goneAfter, 3*l.step), max(limit, goneAfter))
}

// present reports whether frames of the lane are to be expected.
func (l *lane) present() bool { return l.begun && !l.gone }

func (c *cutter) lane(f *stream.Frame) *lane {
	switch f.Track.Kind() {
	case stream.Video:
		return &c.video
	case stream.Audio:
		return &c.audio
	}
	return nil
}

func (c *cutter) laneOf(r Rendition) *lane {
	if r == Audio {
		return &c.audio
	}
	return &c.video
}

// announces reports whether the publisher announced tracks, and of that kind.
func (c *cutter) announces(k stream.Kind) (known, yes bool) {
	for _, t := range c.announced {
		if t.Kind() == k {
			return true, true
		}
	}
	return len(c.announced) > 0, false
}

// expects reports whether t is the first track of its kind that was announced, or
// none of that kind was.
func (c *cutter) expects(t *stream.Track) bool {
	for _, a := range c.announced {
		if a.Kind() == t.Kind() {
			return a.ID == t.ID
		}
	}
	return true
}

// follow adopts the frame's track and looks for breaks in time. It reports
// whether the frame is one of the tracks that are packaged.
func (c *cutter) follow(l *lane, f *stream.Frame) bool {
	video := l == &c.video
	switch {
	case l.track == f.Track:
	case l.track == nil:
		if !c.expects(f.Track) {
			return false
		}
		l.track, l.needKey = f.Track, video
	case l.track.Same(f.Track):
		l.track = f.Track
	case l.track.ID == f.Track.ID || c.succeeds(l, f.Track):
		l.track, l.needKey = f.Track, video
		if video || !c.justBroken(f) {
			c.broken = true
			l.waits = !video && c.open && c.video.present()
		}
	default:
		return false
	}
	if f.Discontinuity && (!c.follows(f) || f.Cut) {
		c.broken = true
	}
	if !l.begun {
		return true
	}
	step := f.DTS - l.last
	patience := l.patience(c.p.cfg.MaxSegment)
	if c.follows(f) && !f.Discontinuity {
		patience = max(patience, c.p.cfg.MaxSegment) // what is missing are whole segments
	}
	if step < -maxBack || c.open && f.DTS-c.newest > patience {
		l.step = max(step, 0)
		c.breakOff()
		return true
	}
	return step > 0
}

// justBroken reports whether audio f belongs to a segment that begins with a
// discontinuity and has no audio yet: then the break is its own too.
func (c *cutter) justBroken(f *stream.Frame) bool {
	if !c.open {
		return false
	}
	b, a := c.bounds[len(c.bounds)-1], c.p.out[Audio]
	return b.broken && f.DTS >= b.at && (a.cur == nil || a.cur.Sequence < b.seq || a.pack.empty())
}

// succeeds reports whether track t takes the place of a lane's track, which has
// another ID.
func (c *cutter) succeeds(l *lane, t *stream.Track) bool {
	if l.gone || !l.begun {
		return true
	}
	old, young := false, false
	for _, a := range c.announced {
		old = old || a.ID == l.track.ID && a.Kind() == t.Kind()
		young = young || a.ID == t.ID && a.Kind() == t.Kind()
	}
	return young && !old
}

// note records that a lane has a frame, unless that is of no use.
func (c *cutter) note(l *lane, f *stream.Frame) bool {
	if l.needKey && !f.Key {
		c.blind = true
		return false
	}
	if l.begun {
		l.step = f.DTS - l.last
	}
	l.begun, l.last, l.needKey, l.gone = true, f.DTS, false, false
	c.newest = max(c.newest, f.DTS)
	for _, other := range []*lane{&c.video, &c.audio} {
		if other.begun && !other.gone && c.newest-other.last > other.patience(c.p.cfg.MaxSegment) {
			other.gone = true
			other.needKey = other == &c.video
		}
	}
	return true
}
