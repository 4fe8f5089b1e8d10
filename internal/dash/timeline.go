package dash

import (
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
)

const (
	// maxLag is how far the presentation may fall behind the wall clock while
	// publishers are away, before a Period leaves a hole in front of it.
	// dash.js takes a hole in front of a Period that is not announced yet for
	// the end, and stays there.
	maxLag = time.Minute
	// maxSkew is how far the publisher's wall clock may be behind ours. A clock
	// that is wrong by more, or ahead, says only how far things are apart.
	maxSkew = 30 * time.Second
)

// A timeline places segments on the presentation timeline of the MPD, for good.
type timeline struct {
	periods   []period
	available time.Time     // availabilityStartTime: when presentation time 0 was
	zero      time.Time     // the same in terms of hls.Segment.Time
	ended     time.Duration // where the last of the Periods that are forgotten ended
	next      uint64        // Media Sequence Number after the last that was seen
	last      content       // of the segment before next
}

// A period is a Period of the MPD: segments in a row that one description and one
// mapping of time fit.
type period struct {
	first, end uint64 // Media Sequence Numbers, without end; first is the Period's id
	content

	start  time.Duration             // presentation time
	origin time.Duration             // what start is in the media's own time
	shift  [renditions]time.Duration // from the decoding time of a segment to its presentation time
	until  time.Duration             // presentation time at which its segments end so far
	lag    time.Duration             // of start behind the wall clock
}

// content is what must be the same throughout a Period.
type content struct {
	discontinuity uint64
	inits         [renditions]*hls.Init // nil: no media of the rendition
}

// fits reports whether a Period with c can have o too. Initialization segments
// are the same if their numbers are.
func (c *content) fits(o *content) bool {
	for r, a := range c.inits {
		b := o.inits[r]
		if (a == nil) != (b == nil) || a != nil && a.Number != b.Number {
			return false
		}
	}
	return c.discontinuity == o.discontinuity
}

// observe takes up the segments that are new, and forgets Periods that have left
// the window.
func (tl *timeline) observe(views [renditions]hls.View, now time.Time) {
	// A segment whose sibling is not complete yet is not listed: whether the
	// sibling will be a gap decides on the Period.
	from, to, any := uint64(0), uint64(0), false
	ended, target := true, time.Duration(0)
	for _, v := range views {
		if n := len(v.Segments); n > 0 {
			ended, target = ended && v.Ended, v.TargetDuration
			end := v.Segments[n-1].Sequence + 1
			from = max(from, v.Segments[0].Sequence)
			switch {
			case !any, v.Ended && end > to, !v.Ended && end < to:
				to = end
			}
			any = true
		}
	}
	at := func(seq uint64) (segs [renditions]*hls.Segment) {
		for r, v := range views {
			segs[r] = find(v, seq)
		}
		return segs
	}
	for seq := max(from, tl.next); seq < to; seq++ {
		segs := at(seq)
		if tl.scrap(segs, target) {
			last := seq+1 == to
			if last && !ended {
				to = seq // the next one tells
				break
			}
			if next := contentOf(at(seq + 1)); last || next.discontinuity != tl.last.discontinuity {
				continue
			}
		}
		tl.add(seq, segs, views, now)
	}
	tl.next = max(tl.next, to)

	oldest := to
	for _, v := range views {
		if len(v.Segments) > 0 {
			oldest = min(oldest, v.Segments[0].Sequence)
		}
	}
	if n := len(tl.periods); n > 0 {
		tl.ended = tl.periods[n-1].until
	}
	tl.periods = slices.DeleteFunc(tl.periods, func(p period) bool { return p.end <= oldest })
}

// find returns the segment with a number if there is one with media.
func find(v hls.View, seq uint64) *hls.Segment {
	if len(v.Segments) == 0 || seq < v.Segments[0].Sequence || seq-v.Segments[0].Sequence >= uint64(len(v.Segments)) {
		return nil
	}
	s := v.Segments[seq-v.Segments[0].Sequence] // numbers have no holes
	if s.Gap || s.Init == nil || len(s.Parts) == 0 {
		return nil
	}
	return s
}

// scrap reports whether segments are so little that nobody misses them, and
// without one of the renditions that were there before: what is left when a
// publisher is lost right after a key frame. A Period for them would be one that
// dash.js takes for the end.
func (tl *timeline) scrap(segs [renditions]*hls.Segment, target time.Duration) bool {
	c := contentOf(segs)
	less := false
	for r, s := range segs {
		switch {
		case s == nil:
			less = less || tl.last.inits[r] != nil
		case tl.last.inits[r] == nil || s.Duration > target/2:
			return false
		}
	}
	return less && c.inits != [renditions]*hls.Init{} && c.discontinuity == tl.last.discontinuity
}

// contentOf returns what the segments of a Media Sequence Number are.
func contentOf(segs [renditions]*hls.Segment) (c content) {
	for r, s := range segs {
		if s != nil {
			c.discontinuity, c.inits[r] = s.DiscontinuitySequence, s.Init
		}
	}
	return c
}

func (tl *timeline) add(seq uint64, segs [renditions]*hls.Segment, views [renditions]hls.View, now time.Time) {
	c := contentOf(segs)
	if c.inits != [renditions]*hls.Init{} && (!c.fits(&tl.last) || len(tl.periods) == 0) {
		tl.begin(seq, c, segs, views, now)
	}
	tl.last = c
	for _, s := range segs {
		if s != nil {
			p := &tl.periods[len(tl.periods)-1]
			p.end = seq + 1
			p.until = max(p.until, p.presentation(s.Rendition, endOf(s)))
		}
	}
}

// begin begins a Period with the segments of a Media Sequence Number.
func (tl *timeline) begin(seq uint64, c content, segs [renditions]*hls.Segment, views [renditions]hls.View, now time.Time) {
	p := period{first: seq, content: c}
	var wall time.Time // of origin
	end := time.Duration(0)
	for r, s := range segs {
		if s == nil {
			continue
		}
		// The shift is that of the first picture; segments begin with the
		// frame that is shown first.
		p.shift[r] = s.PTS - s.Start
		if wall.IsZero() || s.PTS < p.origin {
			p.origin, wall = s.PTS, s.Time
		}
		end = max(end, endOf(s)+p.shift[r])
	}
	lasts := end - p.origin
	if tl.available.IsZero() {
		tl.zero = wall
		// What is complete must count as available.
		latest := now.Add(wall.Sub(newest(views)))
		tl.available = wall
		if wall.After(latest) || latest.Sub(wall) > maxSkew {
			tl.available = latest
		}
		tl.available = tl.available.Truncate(time.Millisecond)
	}
	if n := len(tl.periods); n > 0 {
		p.start = tl.periods[n-1].until
	} else {
		p.start = tl.ended
	}
	at := min(wall.Sub(tl.zero), now.Sub(tl.available)-lasts)
	if p.lag = max(0, at-p.start); p.lag > maxLag {
		p.start, p.lag = at, 0
	}
	p.start = ceilMilli(p.start)
	p.until = p.start
	tl.periods = append(tl.periods, p)
}

// newest returns the wall clock at the end of the newest segment.
func newest(views [renditions]hls.View) (t time.Time) {
	for _, v := range views {
		if n := len(v.Segments); n > 0 {
			if end := v.Segments[n-1].Time.Add(v.Segments[n-1].Duration); end.After(t) {
				t = end
			}
		}
	}
	return t
}

// presentation returns the presentation time of a decoding time.
func (p *period) presentation(r hls.Rendition, dts time.Duration) time.Duration {
	return p.start + dts + p.shift[r] - p.origin
}

// listed returns the segments of a rendition that the Period lists. They have
// numbers in a row, the same in all renditions that the Period has.
func (p *period) listed(views [renditions]hls.View, r hls.Rendition) []*hls.Segment {
	if p.inits[r] == nil {
		return nil
	}
	from := p.first
	for r, v := range views {
		if p.inits[r] == nil {
			continue
		}
		if len(v.Segments) == 0 {
			return nil
		}
		from = max(from, v.Segments[0].Sequence)
	}
	list := make([]*hls.Segment, 0, max(p.end, from)-from)
	for seq := from; seq < p.end; seq++ {
		s := find(views[r], seq)
		if s == nil { // of what nobody looked at while it was new
			return nil
		}
		list = append(list, s)
	}
	return list
}

// endOf returns the decoding time at which the media of a segment ends.
// Segment.Duration counts from the end of the one before it, which may have been
// earlier than Start, to the next, before which the track may have fallen silent.
func endOf(s *hls.Segment) time.Duration {
	last := s.Parts[0]
	for _, p := range s.Parts {
		if !p.Gap {
			last = p
		}
	}
	return last.Start + last.Duration
}

// ceilMilli rounds up to what MPDs are written with.
func ceilMilli(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}
