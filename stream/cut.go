package stream

import "time"

// A Segment is a stretch of a stream that all outputs in segments, such as HLS
// and DASH, make one of, on whatever server: it is numbered where the stream
// was published first, and the relay protocol passes that on. It is immutable.
type Segment struct {
	Number uint64    // goes up by one, for as long as the hub remembers the stream's name
	Time   time.Time // wall clock of its first frame

	Discontinuity   bool   // the timeline or a track's configuration was broken before it
	Discontinuities uint64 // how often that was so, this one included

	Target time.Duration // none of those before it is longer, nor Hub.Segment

	// Shift has been added to the DTS and PTS of its frames since the stream was
	// cut: without it they are the same on all servers.
	Shift time.Duration
}

const (
	// maxSegment is how long a segment gets before it ends without a key frame.
	maxSegment = 30 * time.Second
	// minSegment is how long one lasts that another server has cut, but for breaks:
	// whoever counts faster has no say.
	minSegment = 200 * time.Millisecond
	// missable is how many more segments than time has passed for may be missing
	// behind a break.
	missable = 2
	// remembered is how long a name's numbers are known after its stream has ended,
	// and maxRemembered of how many names.
	remembered    = time.Hour
	maxRemembered = 4096
)

// A cutter numbers the segments of a stream. It is guarded by stream.mu.
type cutter struct {
	length time.Duration // Hub.Segment
	before counted       // of the stream that had the name before

	cur     *Segment // nil: the stream is not cut, or not yet
	at      time.Duration
	zero    time.Time // wall clock at DTS 0
	newest  time.Duration
	last    time.Duration // DTS of the last frame of the kind that is cut
	step    time.Duration // before it
	cutAt   time.Time     // arrival of the last that was cut for another server
	broken  bool
	current [Data + 1]*Track        // the first of each kind
	seen    [Data + 1]time.Duration // newest when it came last

	given *Segment // what cur is made of, if another server has cut
	shift uint64   // from its numbers to ours
	more  uint64   // discontinuities that it does not know of
}

// counted is how far a stream's segments were counted.
type counted struct {
	next, discontinuities uint64
	at                    time.Time // when that was; zero: nothing is known
}

// place says which segment f belongs to. leads tells that segments begin with
// frames of its kind, moved is what has been added to its timestamps.
func (c *cutter) place(f *Frame, leads bool, moved time.Duration) {
	if c.length <= 0 && c.cur == nil && f.Segment == nil {
		f.Cut = false
		return
	}
	if f.Track.Kind() == Data {
		f.Segment, f.Cut = c.cur, false
		return
	}
	c.broken = c.broken || f.Discontinuity || c.changes(f.Track)
	if f.Segment != nil {
		c.adopt(f, leads, moved)
	} else {
		c.cut(f, leads)
	}
	c.newest = max(c.newest, f.DTS)
}

// changes notes the track, and reports whether it is another than before in the same
// place.
func (c *cutter) changes(t *Track) bool {
	was := &c.current[t.Kind()]
	if *was == t {
		c.seen[t.Kind()] = c.newest
		return false
	}
	if *was != nil && (*was).ID != t.ID && c.newest-c.seen[t.Kind()] < maxGap {
		return false // a second one beside it
	}
	changed := *was != nil && !(*was).Same(t)
	*was, c.seen[t.Kind()] = t, c.newest
	return changed
}

// cut decides on a frame of a publisher of ours.
func (c *cutter) cut(f *Frame, leads bool) {
	c.given = nil
	f.Segment, f.Cut = c.cur, false
	if !leads || f.Track != c.current[f.Track.Kind()] {
		return
	}
	step := f.DTS - c.last
	if c.cur != nil && (step > max(maxGap, 3*c.step) || step < -maxBack) {
		c.broken = true // as who makes the segments sees it
	}
	c.last, c.step = f.DTS, max(step, 0)
	length, early := c.length, 10*time.Millisecond
	if length <= 0 {
		length = 2 * time.Second // another server has cut it so far
	}
	if f.Track.Kind() == Video {
		early = length / 20 // timestamps of key frames are
	}
	since := f.DTS - c.at
	key := f.Key || f.Track.Kind() == Audio
	switch {
	case c.cur == nil && !key, c.cur != nil && since == 0:
		return
	case c.cur == nil, key && (c.broken || since >= length-early), since > maxSegment:
	default:
		return
	}
	s := &Segment{Discontinuity: c.broken, Target: length}
	if old := c.cur; old != nil {
		s.Number, s.Discontinuities, s.Target = old.Number+1, old.Discontinuities, old.Target
		if !c.broken {
			s.Target = max(s.Target, since)
		}
	} else {
		s.Number, s.Discontinuities = c.before.next, c.before.discontinuities
		s.Discontinuity = s.Number > 0
	}
	if s.Discontinuity {
		s.Discontinuities++
	}
	s.Time = c.clock(f)
	c.begin(s, f)
	f.Segment, f.Cut = s, true
}

// clock returns the wall clock of a frame that begins a segment: what it says
// itself after a break, else what follows from the last, brought closer to that by
// so little that dates and durations agree. Publishers' clocks drift, and arrival
// times wander.
func (c *cutter) clock(f *Frame) time.Time {
	const most = 5 * time.Millisecond
	now := f.Time.Round(0).Add(-f.DTS)
	switch {
	case c.cur == nil:
		c.zero = now
	case c.broken:
		if end := c.zero.Add(c.newest); now.Add(f.DTS).Before(end) {
			now = end.Add(-f.DTS)
		}
		c.zero = now
	default:
		c.zero = c.zero.Add(min(max(now.Sub(c.zero)/8, -most), most))
	}
	return c.zero.Add(f.DTS)
}

func (c *cutter) begin(s *Segment, f *Frame) {
	c.cur, c.at, c.broken = s, f.DTS, false
	c.zero = s.Time.Add(-f.DTS)
}

// adopt takes over what another server has cut. Its numbers are ours unless they go
// back, or on by more than can be.
func (c *cutter) adopt(f *Frame, leads bool, moved time.Duration) {
	g := f.Segment
	breaks := c.broken && leads && (f.Key || f.Track.Kind() == Audio)
	if g == c.given && !f.Cut && !breaks {
		f.Segment = c.cur
		return
	}
	c.given = g
	s := *g
	s.Discontinuity = breaks || f.Cut && s.Discontinuity
	begins := f.Cut || breaks
	if old := c.cur; old != nil {
		number, since := g.Number+c.shift, f.DTS-c.at
		soon := since < minSegment && (!s.Discontinuity || f.arrived.Sub(c.cutAt) < minSegment)
		if soon || number == old.Number && !begins {
			f.Segment, f.Cut = old, false
			return
		}
		if number <= old.Number || number-old.Number > 1+missable+uint64(max(0, since/minSegment)) {
			c.shift = old.Number + 1 - g.Number
		}
		least := old.Discontinuities
		if s.Discontinuity {
			least++
		}
		if known := s.Discontinuities + c.more; known < least {
			c.more += least - known
		}
	}
	s.Shift += moved
	s.Number += c.shift
	s.Discontinuities += c.more
	if breaks && !f.Cut {
		s.Time = c.clock(f) // g's is that of its beginning, which has not come
	}
	if f.Cut = begins; begins {
		c.cutAt = f.arrived
		f.Discontinuity = s.Discontinuity
	}
	broken := c.broken && !begins
	if c.begin(&s, f); !begins {
		c.broken, c.zero = broken, f.Time.Round(0).Add(-f.DTS)
	}
	f.Segment = &s
}

// counted returns how far the segments have been counted.
func (c *cutter) counted() counted {
	if c.cur == nil {
		return c.before
	}
	return counted{next: c.cur.Number + 1, discontinuities: c.cur.Discontinuities, at: time.Now()}
}

// remember notes how far the segments of a stream that has ended were counted.
// Called with h.mu held.
func (h *Hub) remember(key string, n counted) {
	if n.at.IsZero() {
		return
	}
	if len(h.counts) >= maxRemembered {
		for k := range h.counts { // any of them
			delete(h.counts, k)
			break
		}
	}
	if h.counts == nil {
		h.counts = make(map[string]counted)
	}
	h.counts[key] = n
}

// recall returns what is remembered of a name, which is forgotten: the stream that
// is to have the name counts on. Called with h.mu held.
func (h *Hub) recall(key string) counted {
	n, ok := h.counts[key]
	delete(h.counts, key)
	if !ok || time.Since(n.at) > remembered {
		return counted{}
	}
	return n
}
