package hls

import (
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A bound is where a segment begins in all renditions.
type bound struct {
	seq     uint64
	at      time.Duration // no frame of the segment has a DTS before it
	broken  bool          // a discontinuity
	discSeq uint64
	zero    time.Time // wall clock at DTS 0
}

// zero returns the wall clock at DTS 0. After a break it is what the frame says,
// else what it was, brought closer to that by so little that dates and
// durations agree: publishers' clocks drift, and arrival times wander.
func (c *cutter) zero(f *stream.Frame, fresh bool) time.Time {
	now := f.Time
	if now.IsZero() {
		now = time.Now()
	}
	if c.follows(f) && f.Cut {
		now = f.Segment.Time
	}
	now = now.Round(0).Add(-f.DTS)
	if fresh { // dates must not overlap (bis 6.2.1)
		end := c.p.lastDate()
		if n := len(c.bounds); n > 0 {
			end = c.bounds[n-1].zero.Add(f.DTS)
		}
		if now.Add(f.DTS).Before(end) {
			now = end.Add(-f.DTS)
		}
		return now
	}
	if c.follows(f) && f.Cut {
		return now
	}
	const most = 5 * time.Millisecond
	zero := c.bounds[len(c.bounds)-1].zero
	return zero.Add(min(max(now.Sub(zero)/8, -most), most))
}

// lastDate returns where the dates of the segments so far end.
func (p *Packager) lastDate() (end time.Time) {
	for _, o := range p.out {
		if n := len(o.segs); n > 0 {
			if e := o.segs[n-1].Time.Add(o.segs[n-1].Duration); e.After(end) {
				end = e
			}
		}
	}
	return end
}

// prune forgets bounds that no rendition will ask for: all have passed them, and
// none that begins late would go back so far.
func (c *cutter) prune() {
	n := 0
	for n+1 < len(c.bounds) && c.bounds[n+1].at <= c.newest-goneAfter && c.passed(c.bounds[n+1].seq) {
		n++
	}
	c.bounds = slices.Delete(c.bounds, 0, n)
}

// passed reports whether no rendition is still at a segment before seq.
func (c *cutter) passed(seq uint64) bool {
	for _, o := range c.p.out {
		if o.cur != nil && o.cur.Sequence < seq {
			return false
		}
	}
	return true
}

// bound returns the bound where segment seq begins, if that has been declared.
func (c *cutter) bound(seq uint64) (b bound, ok bool) {
	if len(c.bounds) == 0 || seq < c.bounds[0].seq || seq >= c.nextSeq {
		return bound{}, false
	}
	return c.bounds[seq-c.bounds[0].seq], true
}
