package hlscheck

import (
	"math"
	"path"
	"strings"
	"time"
)

// maxDrift is how far a date may be from the end of the segment before, seconds.
// Servers may correct for a drifting clock by overlaps of less than a second
// (6.2.1); more than half of that a player would notice.
const maxDrift = 0.5

// check applies the rules to what has been read.
func (r *reader) check() {
	p := r.p
	target := float64(p.TargetDuration)
	if p.TargetDuration < 1 {
		r.add("4.4.3.1", "EXT-X-TARGETDURATION is required and at least 1", 0, "%d", p.TargetDuration)
	}
	r.checkControl(target)
	if p.Skipped > 0 && p.Control.CanSkipUntil == 0 {
		r.add("6.2.5.1", "a server that skips says so by CAN-SKIP-UNTIL", 0, "it does not")
	}
	hints := map[string]int{}
	for _, h := range p.Hints {
		if hints[h.Type]++; hints[h.Type] > 1 {
			r.add("6.2.6", "there is one EXT-X-PRELOAD-HINT of a TYPE", 0, "%d of %s", hints[h.Type], h.Type)
		}
	}
	if p.Ended && len(p.Hints) > 0 {
		r.add("4.4.5.3", "a playlist that has ended hints at nothing", 0, "%v", p.Hints)
	}
	if p.PartTarget > 0 && !p.Ended && hints["PART"] == 0 {
		r.add("B.1", "a low-latency playlist hints at its next part", 0, "no EXT-X-PRELOAD-HINT")
	}
	left := p.Duration()
	for i := range p.Segments {
		s := &p.Segments[i]
		left -= s.Duration
		r.checkSegment(s, target)
		r.checkParts(s, i == len(p.Segments)-1)
		if len(s.Parts) > 0 && s.Complete() && left > 3*target+epsilon {
			r.add("6.2.2", "parts more than three target durations from the end are removed", s.Line, "segment %d, %.3f s from the end", s.Sequence, left)
		}
		for _, part := range s.Parts {
			for _, h := range p.Hints {
				if h.URI == part.URI {
					r.add("4.4.5.3", "a hint is of a resource to come", part.Line, "%s is listed already", h.URI)
				}
			}
		}
		if i > 0 {
			r.checkDate(&p.Segments[i-1], s)
		}
	}
}

func (r *reader) checkControl(target float64) {
	p, c := r.p, r.p.Control
	if c.CanSkipUntil > 0 && c.CanSkipUntil < 6*target {
		r.add("4.4.3.8", "CAN-SKIP-UNTIL is at least six target durations", 0, "%v, target %v", c.CanSkipUntil, target)
	}
	if c.HoldBack > 0 && c.HoldBack < 3*target {
		r.add("4.4.3.8", "HOLD-BACK is at least three target durations", 0, "%v, target %v", c.HoldBack, target)
	}
	if p.PartTarget > 0 {
		if c.PartHoldBack == 0 {
			r.add("4.4.3.8", "PART-HOLD-BACK is required with EXT-X-PART-INF", 0, "it is not there")
		} else if c.PartHoldBack < 3*p.PartTarget-epsilon { // MUST be twice, SHOULD be three times
			r.add("4.4.3.8", "PART-HOLD-BACK is at least three part target durations", 0, "%v, part target %v", c.PartHoldBack, p.PartTarget)
		}
		if !r.dated && len(p.Segments) > 0 {
			r.add("B.1", "a low-latency playlist has dates", 0, "no EXT-X-PROGRAM-DATE-TIME")
		}
		if !c.CanBlockReload {
			r.add("B.1", "a low-latency server offers blocking reload", 0, "no CAN-BLOCK-RELOAD")
		}
	}
	for i := range p.Segments {
		if len(p.Segments[i].Parts) > 0 && p.PartTarget == 0 {
			r.add("4.4.3.7", "EXT-X-PART-INF is required with EXT-X-PART", p.Segments[i].Line, "it is not there")
			return
		}
	}
}

func (r *reader) checkSegment(s *Segment, target float64) {
	if s.Complete() && math.Round(s.Duration) > target {
		r.add("4.4.3.1", "a segment's duration, rounded, is at most the target duration", s.Line, "%v s, target %v", s.Duration, target)
	}
	switch strings.ToLower(path.Ext(s.URI)) {
	case ".m4s", ".mp4", ".cmfv", ".cmfa":
		if s.Map == "" && r.p.Skipped == 0 {
			r.add("3.1.2", "fragmented MP4 needs EXT-X-MAP", s.Line, "%s has none", s.URI)
		}
	}
	if s.Discontinuity && s.Time.IsZero() && r.dated {
		r.add("6.2.1", "a segment with EXT-X-DISCONTINUITY has a date if others have", s.Line, "segment %d has none", s.Sequence)
	}
}

// checkParts applies 4.4.4.9 to the parts of a segment.
func (r *reader) checkParts(s *Segment, newest bool) {
	sum := 0.0
	for i, part := range s.Parts {
		sum += part.Duration
		if part.Duration > r.p.PartTarget+epsilon/10 {
			r.add("4.4.4.9", "a part lasts at most the part target duration", part.Line, "%v s, target %v", part.Duration, r.p.PartTarget)
		}
		// The last part of a segment may be short; of one in the making any
		// part may turn out to be the last.
		last := i == len(s.Parts)-1
		exempt := part.Independent || part.Gap || last || s.Parts[i+1].Gap
		if !exempt && part.Duration < 0.85*r.p.PartTarget-epsilon {
			r.add("4.4.4.9", "a part lasts at least 85 % of the part target duration", part.Line, "%v s, target %v", part.Duration, r.p.PartTarget)
		}
		if s.Gap && !part.Gap {
			r.add("6.2.1", "parts of a segment with EXT-X-GAP have GAP=YES", part.Line, "%s has not", part.URI)
		}
	}
	if s.Complete() && len(s.Parts) > 0 && math.Abs(sum-s.Duration) > 0.02 {
		r.add("4.4.4.9", "the parts make up the segment", s.Line, "they last %.5f s, the segment %.5f s", sum, s.Duration)
	}
	if !s.Complete() && !newest {
		r.add("4.4.4.1", "only the last segment may be in the making", s.Line, "segment %d", s.Sequence)
	}
}

// checkDate compares the dates of two segments that follow one another (6.2.1).
func (r *reader) checkDate(a, b *Segment) {
	if a.Time.IsZero() || b.Time.IsZero() || !a.Complete() {
		return
	}
	end := a.Time.Add(time.Duration(a.Duration * float64(time.Second)))
	switch off := b.Time.Sub(end).Seconds(); {
	case off < -maxDrift || !b.Time.After(a.Time):
		r.add("6.2.1", "dates do not overlap", b.Line, "segment %d begins %.3f s before segment %d ends", b.Sequence, -off, a.Sequence)
	case off > maxDrift && !b.Discontinuity && !a.Gap && !b.Gap:
		r.add("6.2.1", "dates go on where the segment before ends", b.Line, "segment %d begins %.3f s late", b.Sequence, off)
	}
}
