package hls

import (
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A snapshot is what there is of a rendition at a moment. It is immutable but
// for its playlists, which are rendered when somebody first asks.
type snapshot struct {
	p    *Packager
	r    Rendition
	conf *control // nil: nothing can be given out yet

	live    bool
	err     error // why there is no such rendition, if it is not live
	ended   bool
	version uint64 // counts the snapshots

	segs  []*Segment
	first int      // of segs: where the playlist begins
	cur   *Segment // in the making, or nil

	partsFrom  uint64 // first segment whose parts are listed
	parts      uint64 // made so far: the number of the next
	partTarget time.Duration
	frameStep  time.Duration   // usual time between frames; CMAF
	tracks     []*stream.Track // that it carries

	full, delta page
}

// publish replaces the snapshot.
func (o *output) publish() {
	s := &snapshot{
		p: o.p, r: o.r, conf: o.p.conf.Load(),
		live: o.live, err: o.err, ended: o.ended,
		segs: o.segs, first: o.first,
		partsFrom: o.listParts(), parts: o.parts, partTarget: o.partTarget,
		tracks: o.pack.carries(),
	}
	if c, ok := o.pack.(*cmafPacker); ok {
		s.frameStep = c.usual
	}
	if o.cur != nil {
		cur := *o.cur
		s.cur = &cur
	}
	o.dirty = false
	if old := o.snap.Load(); old != nil {
		s.version = old.version + 1
	}
	if s.conf != nil && s.live && o.p.waiters.any(o.r) {
		s.page(false) // or all who wake would stand in line for it
	}
	o.snap.Store(s)
}

// listParts returns the first segment whose parts are to be listed: those of the
// last three target durations (bis 6.2.2). It never goes back.
func (o *output) listParts() uint64 {
	if conf := o.p.conf.Load(); conf != nil {
		left := time.Duration(0)
		i := len(o.segs)
		for i > 0 && left <= 3*time.Duration(conf.target)*time.Second {
			i--
			left += o.segs[i].Duration
		}
		if len(o.segs) > 0 {
			o.partsFrom = max(o.partsFrom, o.segs[i].Sequence)
		}
	}
	return o.partsFrom
}

// listed returns the complete segments of the playlist.
func (s *snapshot) listed() []*Segment { return s.segs[s.first:len(s.segs):len(s.segs)] }

// listsParts reports whether the playlist has parts.
func (s *snapshot) listsParts() bool {
	return s.r != TS && s.conf != nil && s.conf.partHoldBack > 0
}

// listsPartsOf reports whether it lists those of a segment. A playlist that has
// ended lists none: nobody is close to its edge any longer, and hls.js 1.7, which
// takes a playlist with parts for played when the last of them is, never does so
// where the sound lasts a little longer than the picture.
func (s *snapshot) listsPartsOf(seg *Segment) bool {
	return s.listsParts() && seg.Sequence >= s.partsFrom && !s.ended
}

// next returns the Media Sequence Number of the segment in the making and how
// many parts of it are listed.
func (s *snapshot) next() (seq uint64, parts int) {
	if s.cur != nil {
		if s.listsParts() {
			parts = len(s.cur.Parts)
		}
		return s.cur.Sequence, parts
	}
	if n := len(s.segs); n > 0 {
		return s.segs[n-1].Sequence + 1, 0
	}
	return 0, 0
}

// find returns the stored segment with a number.
func (s *snapshot) find(seq uint64) *Segment {
	if len(s.segs) == 0 || seq < s.segs[0].Sequence || seq-s.segs[0].Sequence >= uint64(len(s.segs)) {
		return nil
	}
	return s.segs[seq-s.segs[0].Sequence] // numbers have no holes
}

// findPart returns the part with a number.
func (s *snapshot) findPart(number uint64) *Part {
	in := func(seg *Segment) *Part {
		if seg == nil || len(seg.Parts) == 0 || number < seg.Parts[0].Number || number-seg.Parts[0].Number >= uint64(len(seg.Parts)) {
			return nil
		}
		return seg.Parts[number-seg.Parts[0].Number]
	}
	if p := in(s.cur); p != nil {
		return p
	}
	for i := len(s.segs) - 1; i >= 0; i-- { // those asked for are young
		if p := in(s.segs[i]); p != nil {
			return p
		}
	}
	return nil
}

// each calls f for the segments from the youngest to the oldest, the one in the
// making first, until it returns false.
func (s *snapshot) each(f func(*Segment) bool) {
	if s.cur != nil && !f(s.cur) {
		return
	}
	for i := len(s.segs) - 1; i >= 0; i-- {
		if !f(s.segs[i]) {
			return
		}
	}
}

// newestInit returns the latest initialization segment, nil if there is none.
func (s *snapshot) newestInit() (i *Init) {
	s.each(func(seg *Segment) bool {
		i = seg.Init
		return i == nil
	})
	return i
}

// bandwidth returns the bit rates of the densest listed segment, and of all.
func (s *snapshot) bandwidth() (peak, average int) {
	var bits, length float64
	for short := range 2 { // segments cut short by a break say little: only if there is nothing else
		for _, seg := range s.listed() {
			d := seg.Duration.Seconds()
			if seg.Gap || short == 0 && seg.Duration < s.p.cfg.Segment/2 {
				continue
			}
			bits += float64(seg.size * 8)
			length += d
			peak = max(peak, int(float64(seg.size*8)/d))
		}
		if length > 0 {
			return peak, int(bits / length)
		}
	}
	return 0, 0
}

// A page is a playlist that is rendered once.
type page struct {
	once sync.Once
	Playlist
}

// page returns the rendered playlist. A delta update that would skip nothing is
// the playlist.
func (s *snapshot) page(delta bool) *Playlist {
	if skipped := s.skippable(); delta && skipped > 0 {
		s.delta.once.Do(func() { s.render(&s.delta.Playlist, skipped) })
		return &s.delta.Playlist
	}
	s.full.once.Do(func() { s.render(&s.full.Playlist, 0) })
	return &s.full.Playlist
}
