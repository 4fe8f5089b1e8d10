package hlscheck

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Reloads follows one media playlist through its reloads. The zero value is
// ready. It is not safe for concurrent use.
type Reloads struct {
	// Grows allows the target duration to rise. The draft does not (6.2.1), but
	// a live server that cuts at key frames which it cannot foresee has no
	// better choice.
	Grows bool

	// Slack is by how much a new segment or part may be late, where times are
	// given; 0: 500 ms.
	Slack time.Duration

	last      *Playlist // merged, if it was a delta update
	segmentAt time.Time // when the newest segment was first seen
	partAt    time.Time
}

// Playlist returns the playlist as it was last, with the segments that a delta
// update skipped; nil before the first.
func (r *Reloads) Playlist() *Playlist { return r.last }

// Add checks the next answer by itself and against those before it. at is when it
// came; with the zero time the rules about times are left out, as they must be
// unless each update was asked for as soon as the one before had come.
func (r *Reloads) Add(at time.Time, text []byte) []error {
	p, list := Media(text)
	if p == nil {
		return list
	}
	found := problems{list: list}
	if p.Skipped > 0 {
		merged, err := Merge(r.last, p)
		if err != nil {
			found.add("6.2.5.1", "a delta update can be merged into the playlist before it", 0, "%v", err)
			return found.list
		}
		skippedEnd := p.Duration()
		if until := p.Control.CanSkipUntil; skippedEnd < until-epsilon {
			found.add("6.2.5.1", "only what is beyond the Skip Boundary is skipped", 0, "%.3f s are left, boundary %v", skippedEnd, until)
		}
		p = merged
	}
	if r.last != nil {
		found.compare(r.last, p, r.Grows)
	}
	r.times(&found, at, p)
	r.last = p
	return found.list
}

// Asked is Add for the answer to a blocking reload: it must hold part, or with -1
// all, of segment msn (6.2.5.2).
func (r *Reloads) Asked(at time.Time, msn uint64, part int, text []byte) []error {
	found := problems{list: r.Add(at, text)}
	p := r.last
	if p == nil || p.Ended {
		return found.list
	}
	segment, inSegment, index := p.Last()
	ok := segment >= msn && len(p.Segments) > 0
	if part >= 0 {
		ok = ok || inSegment == msn && index >= part
	}
	// Beyond the last part of a segment is the first of the next.
	if i := slices.IndexFunc(p.Segments, func(s Segment) bool { return s.Sequence == msn }); ok && part >= 0 && i >= 0 {
		s := &p.Segments[i]
		if s.Complete() && len(s.Parts) > 0 && part >= len(s.Parts) && i == len(p.Segments)-1 {
			ok = false
		}
	}
	if !ok {
		found.add("6.2.5.2", "a blocking reload waits for what was asked for", 0, "segment %d part %d, and the playlist ends with segment %d, part %d of %d",
			msn, part, segment, index, inSegment)
	}
	return found.list
}

// Merge puts the segments that a delta update skips, which are taken from the
// playlist before it, back in front of those it has.
func Merge(before, delta *Playlist) (*Playlist, error) {
	if delta.Skipped == 0 {
		return delta, nil
	}
	if before == nil {
		return nil, fmt.Errorf("there is none before it")
	}
	from := slices.IndexFunc(before.Segments, func(s Segment) bool { return s.Sequence == delta.MediaSequence })
	if from < 0 || from+delta.Skipped > len(before.Segments) {
		return nil, fmt.Errorf("segments %d and %d more are skipped, and the playlist before it has %d from %d on",
			delta.MediaSequence, delta.Skipped-1, len(before.Segments), before.MediaSequence)
	}
	p := *delta
	p.Skipped = 0
	p.Segments = slices.Clone(before.Segments[from : from+delta.Skipped])
	for i := range p.Segments {
		if !p.Segments[i].Complete() {
			return nil, fmt.Errorf("segment %d was not complete before", p.Segments[i].Sequence)
		}
		p.Segments[i].Parts = nil
	}
	last := &p.Segments[len(p.Segments)-1]
	disc := last.DiscontinuitySequence
	for _, s := range delta.Segments {
		if s.Discontinuity {
			disc++
		}
		s.DiscontinuitySequence = disc
		if s.Map == "" {
			s.Map, s.MapKey = last.Map, last.MapKey
		}
		if s.Key == (Key{}) {
			s.Key = last.Key
		}
		p.Segments = append(p.Segments, s)
	}
	return &p, nil
}

// compare applies 6.2.1 and 6.2.2 to a playlist and its successor.
func (f *problems) compare(a, b *Playlist, grows bool) {
	if a.TargetDuration != b.TargetDuration && (!grows || b.TargetDuration < a.TargetDuration) {
		f.add("6.2.1", "the target duration does not change", 0, "%d, then %d", a.TargetDuration, b.TargetDuration)
	}
	if a.TargetDuration == b.TargetDuration && (a.Control != b.Control || a.PartTarget != b.PartTarget) {
		f.add("6.2.1", "EXT-X-SERVER-CONTROL and EXT-X-PART-INF do not change", 0, "%+v %v, then %+v %v", a.Control, a.PartTarget, b.Control, b.PartTarget)
	}
	if b.MediaSequence < a.MediaSequence {
		f.add("6.2.2", "EXT-X-MEDIA-SEQUENCE does not decrease", 0, "%d, then %d", a.MediaSequence, b.MediaSequence)
	}
	if a.Type == "EVENT" && (b.MediaSequence > a.MediaSequence || b.Type == "") {
		f.add("6.2.1", "a playlist of type EVENT loses no segments", 0, "it began with %d, then with %d", a.MediaSequence, b.MediaSequence)
	}
	if b.DiscontinuitySequence < a.DiscontinuitySequence {
		f.add("6.2.2", "EXT-X-DISCONTINUITY-SEQUENCE does not decrease", 0, "%d, then %d", a.DiscontinuitySequence, b.DiscontinuitySequence)
	}
	aLast, aPart, aIndex := a.Last()
	bLast, bPart, bIndex := b.Last()
	if bLast < aLast || bPart < aPart || bPart == aPart && bIndex < aIndex && len(b.Segments) > 0 && !b.Segments[len(b.Segments)-1].Complete() {
		f.add("6.2.1", "a playlist only grows at its end", 0, "it ended with segment %d (part %d of %d), then with %d (part %d of %d)", aLast, aIndex, aPart, bLast, bIndex, bPart)
	}
	if b.MediaSequence > a.MediaSequence && !b.Ended && b.Duration() < 3*float64(b.TargetDuration)-epsilon {
		f.add("6.2.2", "no segment is removed if less than three target durations would be left", 0, "%.3f s are left", b.Duration())
	}
	if a.Ended && !reflect.DeepEqual(a, b) {
		f.add("4.4.3.4", "a playlist that has ended does not change", 0, "it did")
	}
	for i := range a.Segments {
		old := &a.Segments[i]
		if old.Sequence < b.MediaSequence {
			continue
		}
		if at := old.Sequence - b.MediaSequence; at < uint64(len(b.Segments)) {
			f.same(old, &b.Segments[at])
		}
	}
	f.hinted(a, b)
}

// same checks that a segment is what it was.
func (f *problems) same(old, now *Segment) {
	o, n := *old, *now
	o.Parts, n.Parts, o.Line, n.Line = nil, nil, 0, 0
	if !o.Complete() { // what it had when it was in the making
		n.URI, n.Duration, n.Gap = o.URI, o.Duration, o.Gap
	}
	if !o.Time.Equal(n.Time) {
		f.add("6.2.1", "what is listed does not change", now.Line, "segment %d: date %v, then %v", old.Sequence, o.Time, n.Time)
	}
	o.Time, n.Time = time.Time{}, time.Time{}
	if !reflect.DeepEqual(o, n) {
		f.add("6.2.1", "what is listed does not change", now.Line, "segment %d: %+v, then %+v", old.Sequence, o, n)
	}
	for i, part := range now.Parts {
		if i >= len(old.Parts) {
			if old.Complete() {
				f.add("6.2.1", "a complete segment gets no more parts", part.Line, "%s", part.URI)
			}
			break
		}
		part.Line = old.Parts[i].Line
		if part != old.Parts[i] {
			f.add("6.2.1", "parts that are listed do not change", now.Line, "%+v, then %+v", old.Parts[i], part)
		}
	}
	if len(now.Parts) < len(old.Parts) && (len(now.Parts) > 0 || !now.Complete()) {
		f.add("6.2.2", "parts are removed with all of their segment", now.Line, "segment %d had %d, then %d", old.Sequence, len(old.Parts), len(now.Parts))
	}
}

// hinted checks that the part that came is the one that was announced (4.4.5.3).
func (f *problems) hinted(a, b *Playlist) {
	i := slices.IndexFunc(a.Hints, func(h Hint) bool { return h.Type == "PART" })
	if i < 0 || len(a.Segments) == 0 {
		return
	}
	_, seq, index := a.Last()
	for k := range b.Segments {
		s := &b.Segments[k]
		for n, part := range s.Parts {
			if s.Sequence > seq || s.Sequence == seq && n > index {
				if part.URI != a.Hints[i].URI {
					f.add("4.4.5.3", "the next part has the URI that was hinted at", part.Line, "%s, the hint was %s", part.URI, a.Hints[i].URI)
				}
				return
			}
		}
	}
}

// times applies the rules on how soon there must be something new (6.2.1).
func (r *Reloads) times(f *problems, at time.Time, p *Playlist) {
	if at.IsZero() {
		return
	}
	slack := r.Slack
	if slack == 0 {
		slack = 500 * time.Millisecond
	}
	if r.last == nil {
		r.segmentAt, r.partAt = at, at
		return
	}
	aLast, aPart, aIndex := r.last.Last()
	bLast, bPart, bIndex := p.Last()
	target := time.Duration(p.TargetDuration) * time.Second
	if late := at.Sub(r.segmentAt); !p.Ended && late > target*3/2+slack {
		f.add("6.2.1", "there is a new segment within 1.5 target durations", 0, "none for %v", late)
	}
	if late := at.Sub(r.partAt); !p.Ended && p.PartTarget > 0 && late > time.Duration(p.PartTarget*float64(time.Second))+slack {
		f.add("6.2.1", "there is a new part within the part target duration", 0, "none for %v", late)
	}
	if bLast > aLast {
		r.segmentAt = at
	}
	if bPart > aPart || bIndex > aIndex {
		r.partAt = at
	}
}

// Siblings checks what the renditions of a presentation must agree on (6.2.4).
func Siblings(list ...*Playlist) []error {
	var f problems
	for _, b := range list[min(1, len(list)):] {
		a := list[0]
		if a.TargetDuration != b.TargetDuration {
			f.add("6.2.4", "renditions have the same target duration", 0, "%d and %d", a.TargetDuration, b.TargetDuration)
		}
		if a.Control != b.Control {
			f.add("6.2.4", "renditions have the same EXT-X-SERVER-CONTROL", 0, "%+v and %+v", a.Control, b.Control)
		}
		for i := range a.Segments {
			for k := range b.Segments {
				s, t := &a.Segments[i], &b.Segments[k]
				if !s.overlaps(t) {
					continue
				}
				if s.DiscontinuitySequence != t.DiscontinuitySequence {
					f.add("6.2.4", "matching content has matching Discontinuity Sequence Numbers", s.Line, "%d for %s, %d for %s",
						s.DiscontinuitySequence, s.URI, t.DiscontinuitySequence, t.URI)
				}
			}
		}
	}
	return f.list
}

// overlaps reports whether two segments hold the same stretch of time, by their
// dates, for more than half of the shorter one.
func (s *Segment) overlaps(t *Segment) bool {
	if s.Time.IsZero() || t.Time.IsZero() {
		return false
	}
	offset := t.Time.Sub(s.Time).Seconds()
	a, b := s.length(), t.length()
	common := min(a, offset+b) - max(0, offset)
	return common > min(a, b)/2
}

// length returns how long a segment is, or is so far.
func (s *Segment) length() (d float64) {
	if s.Complete() {
		return s.Duration
	}
	for _, part := range s.Parts {
		d += part.Duration
	}
	return d
}
