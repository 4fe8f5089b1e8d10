package hls

import (
	"time"

	"github.com/runnel-media/runnel/stream"
)

// maxMissing is how many segments of which nothing came are listed as gaps. If
// there are more, the numbers do not follow.
const maxMissing = 64

// follows reports whether f says where segments begin.
func (c *cutter) follows(f *stream.Frame) bool { return c.p.cfg.FollowCuts && f.Segment != nil }

// unshifted returns f with the timestamps that it has for all who package the
// stream.
func (c *cutter) unshifted(f *stream.Frame) *stream.Frame {
	if c.follows(f) {
		c.moved = f.Segment.Shift
	}
	if c.moved == 0 {
		return f
	}
	g := *f
	g.DTS -= c.moved
	g.PTS -= c.moved
	return &g
}

// opens reports whether the first segment, or the first after a break, may begin
// with f. It is whole then, as all who package the stream have it; it may be less
// where nothing whole has come for long, and behind what was missed.
func (c *cutter) opens(f *stream.Frame) bool {
	if !c.follows(f) || f.Cut {
		return true
	}
	if c.sought == nil || f.DTS < c.sought.DTS {
		c.sought = f
	}
	return c.mark != nil && f.Segment.Number+c.shift >= c.nextSeq || f.DTS-c.sought.DTS >= c.p.cfg.MaxSegment
}

// cutHere reports whether a segment begins with f, which says where they do. leads
// tells that one can.
func (c *cutter) cutHere(f *stream.Frame, leads bool) bool {
	if f.Cut && f.Segment.Number+c.shift < c.nextSeq { // we had to cut ourselves
		c.shift = c.nextSeq - f.Segment.Number
	}
	return f.Segment.Number+c.shift >= c.nextSeq && (f.Cut || leads && isKey(f))
}

// fill declares the segments before the one that begins with f, of which nothing
// came.
func (c *cutter) fill(f *stream.Frame) {
	if !c.follows(f) {
		return
	}
	number := f.Segment.Number + c.shift
	switch {
	case c.mark == nil && number >= c.nextSeq:
		return // nothing was before it
	case number < c.nextSeq, number-c.nextSeq > maxMissing:
		c.shift = c.nextSeq - f.Segment.Number
		return
	}
	missing := number - c.nextSeq
	if missing == 0 {
		return
	}
	from := c.reached + time.Millisecond
	step := (max(f.DTS-from, 0) / time.Duration(missing)).Truncate(time.Millisecond) // as dates have it
	zero := f.Segment.Time.Add(-f.DTS)
	if n := len(c.bounds); n > 0 {
		zero = c.bounds[n-1].zero
	} else { // the timeline is a new one
		step = 100 * time.Millisecond
		from = f.DTS - time.Duration(missing)*step
	}
	breaks := f.Segment.Discontinuities + c.more - c.discSeq // there were in the meantime
	if f.Cut && f.Segment.Discontinuity {
		breaks--
	}
	for i := range time.Duration(missing) {
		b := bound{seq: c.nextSeq, at: min(from+step*i, f.DTS), broken: c.broken, discSeq: c.discSeq, zero: zero}
		if 0 < breaks && breaks <= missing {
			b.broken = true
			breaks--
		}
		if b.broken {
			b.discSeq++
		}
		c.broken = false
		c.endTS(b.at)
		c.bind(b)
	}
}

// adopt gives a bound the numbers that f says. first tells that it is the first
// of all.
func (c *cutter) adopt(b *bound, f *stream.Frame, first bool) {
	s := f.Segment
	c.mark = s
	b.broken = b.broken || f.Cut && s.Discontinuity
	b.seq, b.discSeq = c.nextSeq, c.discSeq
	known := s.Discontinuities + c.more
	if first {
		b.seq = max(b.seq, s.Number+c.shift)
		c.firstSeq = b.seq
	} else {
		b.broken = b.broken || known > c.discSeq // in what is missing
	}
	if b.broken {
		b.discSeq++
	}
	if first {
		b.discSeq = max(b.discSeq, known)
	}
	c.more = b.discSeq - s.Discontinuities // one tag is one discontinuity
}
