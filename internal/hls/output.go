package hls

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// maxRagged is how much renditions may differ in the length of what is before a
// discontinuity. Players realign there.
const maxRagged = 200 * time.Millisecond

// An output makes and keeps the segments of one rendition. All but snap belongs to
// the goroutine that calls Add.
type output struct {
	p    *Packager
	r    Rendition
	pack packer

	snap atomic.Pointer[snapshot]

	live bool     // it has begun, and is never left out again
	err  error    // why it cannot begin
	cur  *Segment // in the making; nil before the first and after a break
	segs []*Segment
	// segs[:first] have left the playlist and are kept for those who have an
	// older one. The slice is replaced, not modified: snapshots share it.
	first int
	clock time.Duration // of the last of segs

	partsFrom  uint64 // first segment whose parts are listed
	key        *Key
	parts      uint64        // made so far
	partTarget time.Duration // PART-TARGET; 0: not known yet

	dirty bool // something has changed since the last snapshot
	ended bool
}

// A packer makes the bytes of a rendition.
type packer interface {
	// accepts reports whether the rendition can begin with, or take up, a
	// frame; if so, the packer is ready for its track.
	accepts(f *stream.Frame) bool
	// begin is called for a new segment, before its frames.
	begin()
	// frame takes a frame of the segment.
	frame(f *stream.Frame)
	// empty reports whether the segment has no frame yet.
	empty() bool
	// end completes the segment's bytes. next is the DTS that follows. silent
	// tells that the last frame does not last until then.
	end(next time.Duration, silent bool)
	// naturalEnd is when the last frame ends.
	naturalEnd() time.Duration
	// carries returns the tracks that the segment carries, in a slice that is
	// not modified later.
	carries() []*stream.Track
}

// add takes a frame that belongs to the rendition, and reports whether it was
// of use.
func (o *output) add(f *stream.Frame) bool {
	if !o.live {
		if o.r == TS || !o.join(f) {
			return false
		}
	}
	if o.cur == nil || !o.pack.accepts(f) {
		return false
	}
	if o.r != TS {
		o.follow(f.DTS)
	}
	if f.DTS < o.cur.from && o.pack.empty() && o.r != TS {
		return false // from before the segment, which was given up waiting for it
	}
	if o.pack.empty() {
		s := o.cur
		if s.loose {
			s.from = max(s.from, f.DTS)
		}
		s.Start, s.PTS = f.DTS, f.PTS
		s.Time = s.Time.Add(s.from + f.PTS - f.DTS)
		s.Independent = isKey(f)
	}
	o.pack.frame(f)
	return true
}

// join begins a CMAF rendition with the segment that f falls into.
func (o *output) join(f *stream.Frame) bool {
	c := &o.p.cutter
	i := len(c.bounds) - 1
	for i >= 0 && c.bounds[i].at > f.DTS {
		i--
	}
	if i < 0 || !o.pack.accepts(f) {
		o.dirty = o.dirty || o.err != nil
		return false
	}
	o.live = true
	o.beginFirst(c.bounds[i], f.DTS)
	return true
}

// follow moves on to the segment that a frame at dts belongs to.
func (o *output) follow(dts time.Duration) {
	c := &o.p.cutter
	for {
		b, ok := c.bound(o.cur.Sequence + 1)
		if !ok || dts < b.at {
			return
		}
		end := dts
		then, more := c.bound(b.seq + 1)
		silent := more && dts >= then.at || dts-b.at >= c.p.cfg.Segment/4
		switch {
		case silent:
			end = o.after(b.at)
		case b.broken: // the last frame does not stay for what comes
			if natural := o.after(o.cur.from); end-natural < maxRagged {
				end = min(end, natural)
			} else {
				silent = true
			}
		}
		o.complete(end, silent || o.r == Audio)
		o.begin(b, end)
	}
}

// bounded is told that a segment begins.
func (o *output) bounded(b bound) {
	switch {
	case o.r != TS:
		if o.live && o.cur == nil {
			o.begin(b, b.at)
		}
	case !o.live:
		if o.p.cfg.TS != nil && o.p.wantTS.Load() {
			if o.pack.(*tsPacker).configure(); o.err != nil {
				o.dirty = true
				return
			}
			o.live = true
			o.beginFirst(b, b.at)
		}
	default:
		o.begin(b, b.at) // declare has completed the one before
	}
}

// catchUp completes segments up to the newest bound: no frames are expected.
func (o *output) catchUp() {
	for {
		b, ok := o.p.cutter.bound(o.cur.Sequence + 1)
		if !ok {
			return
		}
		end := o.after(b.at)
		o.complete(end, true)
		o.begin(b, end)
	}
}

// beginFirst begins the rendition's first segment. If it is not the first of all,
// nothing is before it that it could be broken off from.
func (o *output) beginFirst(b bound, from time.Duration) {
	b.broken = b.broken && b.seq == o.p.cutter.firstSeq
	o.begin(b, from)
}

func (o *output) begin(b bound, from time.Duration) {
	o.cur = &Segment{
		Rendition: o.r, Sequence: b.seq, Start: from, PTS: from, from: from,
		Time:          b.zero, // up to the first frame
		Discontinuity: b.broken, DiscontinuitySequence: b.discSeq,
		name: name{r: o.r, number: b.seq}.String(),
	}
	o.cur.loose = b.broken
	if o.p.cfg.Encrypt {
		if n := b.seq / uint64(o.p.cfg.KeySegments); o.key == nil || o.key.Number != n {
			o.key = newKey(o.r, n)
		}
		o.cur.Key = o.key
	}
	o.pack.begin()
}

// complete ends the segment in the making. silent is as in packer.end.
func (o *output) complete(end time.Duration, silent bool) {
	s := o.cur
	if s.Gap = o.pack.empty(); s.Gap {
		s.Time = s.Time.Add(s.from)
		s.Independent = true
	} else {
		o.pack.end(end, silent)
	}
	s.Duration = max(end-s.from, time.Millisecond)
	o.clock += s.Duration
	s.clock = o.clock
	s.text, s.date = s.lines(o.p.mediaPrefix()), appendDate(nil, s.Time)
	o.cur = nil
	o.segs = append(slices.Clip(o.segs), s)
	o.p.grow(o, s.Duration)
	o.trim()
	o.dirty = true
	if o.p.cfg.OnSegment != nil {
		o.p.cfg.OnSegment(s)
	}
}

// trim takes segments out of the window, and drops those whose time is up: one
// that was listed stays available for its own duration and that of the longest
// playlist that listed it (bis 6.2.2).
func (o *output) trim() {
	window := o.p.windowLength()
	listed := time.Duration(0)
	for _, s := range o.segs[o.first:] {
		listed += s.Duration
	}
	for listed-o.segs[o.first].Duration >= window {
		listed -= o.segs[o.first].Duration
		o.first++
	}
	n := 0
	for n < o.first && o.clock-o.segs[n].clock >= listed+2*o.segs[n].Duration {
		n++
	}
	if n > 0 {
		o.drop(n)
	}
	o.dropParts()
}

// drop forgets the oldest n segments.
func (o *output) drop(n int) {
	for _, s := range o.segs[:n] {
		o.p.bytes.Add(-s.held)
	}
	o.segs = slices.Clone(o.segs[n:])
	o.first = max(o.first-n, 0)
	o.dirty = true
}

// dropParts frees parts that have bytes of their own, because they are encrypted,
// three target durations after they left the playlist (bis 6.2.2).
func (o *output) dropParts() {
	conf := o.p.conf.Load()
	if conf == nil || !o.p.cfg.Encrypt || o.r == TS {
		return
	}
	keep := 7 * time.Duration(conf.target) * time.Second
	for i, s := range o.segs {
		if o.clock-s.clock < keep {
			return
		}
		if len(s.Parts) == 0 || s.Parts[0].data == nil {
			continue
		}
		freed := int64(0)
		bare := *s
		bare.Parts = make([]*Part, len(s.Parts))
		for j, part := range s.Parts {
			freed += int64(len(part.data))
			p := *part
			p.data = nil
			bare.Parts[j] = &p
		}
		bare.held -= freed
		o.p.bytes.Add(-freed)
		o.segs = slices.Clone(o.segs)
		o.segs[i] = &bare
	}
}

// append takes bytes of the segment in the making.
func (o *output) append(b []byte) {
	o.cur.size += int64(len(b))
	if o.p.cfg.OnData != nil {
		o.p.cfg.OnData(o.cur, b)
		return
	}
	o.cur.data = append(o.cur.data, b)
	o.hold(len(b))
}

// hold accounts for bytes of the segment in the making.
func (o *output) hold(n int) {
	o.cur.held += int64(n)
	o.p.bytes.Add(int64(n))
}

// after returns at, or when the segment in the making ends by itself if that is
// later.
func (o *output) after(at time.Duration) time.Duration {
	if o.cur == nil || o.pack.empty() {
		return at
	}
	return max(at, o.pack.naturalEnd())
}

// breakOff completes the segment in the making, and those that the rendition is
// behind by. end is where the stream breaks.
func (o *output) breakOff(end time.Duration) {
	if o.cur == nil {
		return
	}
	o.catchUp()
	if !o.pack.empty() {
		end = o.pack.naturalEnd()
	}
	o.complete(max(end, o.cur.from), false)
}
