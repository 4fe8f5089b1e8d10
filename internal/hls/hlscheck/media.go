package hlscheck

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// epsilon is what rounding to the decimals of a playlist may amount to, seconds.
const epsilon = 0.0015

// Media checks a media playlist by itself. A Playlist Delta Update (EXT-X-SKIP) is
// taken for what it is. The playlist is nil if the text is beyond understanding.
func Media(text []byte) (*Playlist, []error) {
	r := reader{p: &Playlist{}, once: map[string]int{}}
	all := lines(text)
	if len(all) == 0 || all[0] != "#EXTM3U" {
		r.add("4.4.1.1", "a playlist begins with #EXTM3U", 1, "it does not")
		return nil, r.list
	}
	for i, line := range all[1:] {
		r.line = i + 2
		r.read(line)
	}
	r.end()
	r.check()
	return r.p, r.list
}

// A reader takes the lines of a media playlist.
type reader struct {
	problems
	p    *Playlist
	line int
	once map[string]int // tags that may come once, and where they were

	seg     Segment // whose tags are being read
	begun   bool    // there are some
	disc    uint64  // discontinuities so far
	key     Key
	mapURI  string
	mapKey  Key
	dated   bool     // there are dates
	version struct { // the least that the tags need (8)
		need int
		why  string
	}
}

func (r *reader) need(version int, why string) {
	if version > r.version.need {
		r.version.need, r.version.why = version, why
	}
}

func (r *reader) read(line string) {
	switch {
	case line == "":
	case !strings.HasPrefix(line, "#"):
		r.uri(line)
	case strings.HasPrefix(line, "#EXT"):
		tag, value, _ := strings.Cut(line[1:], ":")
		r.tag(tag, value)
	}
}

// single reports whether a tag that may come once does.
func (r *reader) single(tag string) {
	if first, twice := r.once[tag]; twice {
		r.add("4.4.2, 4.4.3", "a Media Playlist tag comes once", r.line, "%s again, after line %d", tag, first)
	}
	r.once[tag] = r.line
}

func (r *reader) tag(tag, value string) {
	bad := func(err error) {
		if err != nil {
			r.add("4.2", "attribute values have their syntax", r.line, "%s: %v", tag, err)
		}
	}
	var err error
	var n uint64
	switch tag {
	case "EXT-X-VERSION":
		r.single(tag)
		n, err = integer(value)
		r.p.Version = int(n)
	case "EXT-X-TARGETDURATION":
		r.single(tag)
		n, err = integer(value)
		r.p.TargetDuration = int(n)
	case "EXT-X-MEDIA-SEQUENCE":
		r.single(tag)
		r.beforeSegments(tag, "4.4.3.2")
		r.p.MediaSequence, err = integer(value)
	case "EXT-X-DISCONTINUITY-SEQUENCE":
		r.single(tag)
		r.beforeSegments(tag, "4.4.3.3")
		r.p.DiscontinuitySequence, err = integer(value)
	case "EXT-X-ENDLIST":
		r.single(tag)
		r.p.Ended = true
	case "EXT-X-INDEPENDENT-SEGMENTS":
		r.single(tag)
		r.p.Independent = true
	case "EXT-X-PLAYLIST-TYPE":
		r.single(tag)
		if r.p.Type = value; value != "EVENT" && value != "VOD" {
			r.add("4.4.3.5", "EXT-X-PLAYLIST-TYPE is EVENT or VOD", r.line, "%q", value)
		}
	case "EXTINF":
		d, _, _ := strings.Cut(value, ",")
		if strings.Contains(d, ".") {
			r.need(3, "a floating-point EXTINF")
		}
		r.seg.Duration, err = float(d)
		r.touch()
	case "EXT-X-DISCONTINUITY":
		r.segmentTag(tag)
		r.seg.Discontinuity = true
	case "EXT-X-GAP":
		r.seg.Gap = true
		r.touch()
	case "EXT-X-PROGRAM-DATE-TIME":
		r.segmentTag(tag)
		r.dated = true
		r.seg.Time, err = time.Parse("2006-01-02T15:04:05.999999999Z07:00", value)
		if _, fraction, found := strings.Cut(value, "."); err == nil && (!found || len(strings.TrimRight(fraction, "Z")) < 3) {
			r.add("4.4.4.6", "a date has milliseconds", r.line, "%s", value)
		}
	case "EXT-X-STREAM-INF", "EXT-X-MEDIA", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-SESSION-DATA", "EXT-X-SESSION-KEY", "EXT-X-CONTENT-STEERING":
		r.add("4.4.6", "a media playlist has no Multivariant Playlist tags", r.line, "%s", tag)
	case "EXT-X-SERVER-CONTROL", "EXT-X-PART-INF", "EXT-X-SKIP", "EXT-X-KEY", "EXT-X-MAP", "EXT-X-PART", "EXT-X-PRELOAD-HINT", "EXT-X-RENDITION-REPORT":
		a, quoted, e := attributes(value)
		bad(e)
		if e == nil {
			r.listTag(tag, a, quoted, bad)
		}
	}
	bad(err)
}

func (r *reader) listTag(tag string, a map[string]string, quoted map[string]bool, bad func(error)) {
	number := func(name string) float64 {
		if _, ok := a[name]; !ok {
			return 0
		}
		v, err := float(a[name])
		bad(err)
		return v
	}
	uri := func() string {
		if !quoted["URI"] || a["URI"] == "" {
			r.add("4.4.4, 4.4.5", "URI is required and quoted", r.line, "%s: %q", tag, a["URI"])
		}
		return a["URI"]
	}
	switch tag {
	case "EXT-X-SERVER-CONTROL":
		r.single(tag)
		r.p.Control = Control{
			Present: true, CanBlockReload: a["CAN-BLOCK-RELOAD"] == "YES",
			CanSkipUntil: number("CAN-SKIP-UNTIL"), HoldBack: number("HOLD-BACK"), PartHoldBack: number("PART-HOLD-BACK"),
		}
	case "EXT-X-PART-INF":
		r.single(tag)
		if r.p.PartTarget = number("PART-TARGET"); r.p.PartTarget <= 0 {
			r.add("4.4.3.7", "PART-TARGET is required", r.line, "%v", a)
		}
	case "EXT-X-SKIP":
		r.single(tag)
		r.need(9, tag)
		n, err := integer(a["SKIPPED-SEGMENTS"])
		bad(err)
		if len(r.p.Segments) > 0 || r.begun {
			r.add("4.4.5.2", "EXT-X-SKIP stands for the oldest segments", r.line, "there are segments before it")
		}
		r.p.Skipped = int(min(n, math.MaxInt32))
	case "EXT-X-KEY":
		r.segmentTag(tag)
		r.key = Key{Method: a["METHOD"], IV: a["IV"]}
		switch {
		case r.key.Method == "NONE":
			if len(a) > 1 {
				r.add("4.4.4.4", "METHOD=NONE has no other attributes", r.line, "%v", a)
			}
			r.key = Key{}
		case r.key.Method == "":
			r.add("4.4.4.4", "METHOD is required", r.line, "%v", a)
		default:
			r.key.URI = uri()
		}
		if r.key.IV != "" {
			r.need(2, "IV")
		}
	case "EXT-X-MAP":
		r.segmentTag(tag)
		r.need(6, tag)
		r.mapURI, r.mapKey = uri(), r.key
		if r.key.Method == "AES-128" && r.key.IV == "" {
			r.add("4.4.4.5", "an encrypted EXT-X-MAP needs the IV of its EXT-X-KEY", r.line, "no IV")
		}
	case "EXT-X-PART":
		r.touch()
		part := Part{URI: uri(), Duration: number("DURATION"), Independent: a["INDEPENDENT"] == "YES", Gap: a["GAP"] == "YES", Line: r.line}
		if part.Duration <= 0 {
			r.add("4.4.4.9", "DURATION is required", r.line, "%v", a)
		}
		r.seg.Parts = append(r.seg.Parts, part)
	case "EXT-X-PRELOAD-HINT":
		if t := a["TYPE"]; t != "PART" && t != "MAP" {
			r.add("4.4.5.3", "TYPE is PART or MAP", r.line, "%q", t)
		}
		r.p.Hints = append(r.p.Hints, Hint{Type: a["TYPE"], URI: uri()})
	case "EXT-X-RENDITION-REPORT":
		report := Report{URI: uri(), LastPart: -1}
		var err error
		report.LastMSN, err = integer(a["LAST-MSN"])
		bad(err)
		if _, ok := a["LAST-PART"]; ok {
			n, err := integer(a["LAST-PART"])
			bad(err)
			report.LastPart = int(min(n, math.MaxInt32))
		}
		if strings.Contains(report.URI, "://") || strings.HasPrefix(report.URI, "/") {
			r.add("4.4.5.4", "the URI of a report is relative to the playlist", r.line, "%s", report.URI)
		}
		r.p.Reports = append(r.p.Reports, report)
	}
}

// beforeSegments checks a tag that must come before all segments.
func (r *reader) beforeSegments(tag, section string) {
	if len(r.p.Segments) > 0 || r.begun {
		r.add(section, tag+" comes before the first segment", r.line, "it does not")
	}
}

// touch notes that tags of a segment have begun.
func (r *reader) touch() {
	if !r.begun {
		r.begun = true
		r.seg.Line = r.line
	}
}

// segmentTag checks a tag that applies to the segment's first part too.
func (r *reader) segmentTag(tag string) {
	r.touch()
	if len(r.seg.Parts) > 0 {
		r.add("4.4.4.9", "tags of a segment come before its first EXT-X-PART", r.line, "%s", tag)
	}
}

// uri ends a segment.
func (r *reader) uri(line string) {
	if r.seg.Duration <= 0 {
		r.add("4.4.4.1", "EXTINF is required for each segment", r.line, "%s has none", line)
	}
	r.seg.URI = line
	r.touch()
	r.push()
}

// push adds the segment that has been read.
func (r *reader) push() {
	s := r.seg
	if s.Discontinuity {
		r.disc++
	}
	s.DiscontinuitySequence = r.disc
	s.Sequence = uint64(len(r.p.Segments))
	s.Map, s.Key, s.MapKey = r.mapURI, r.key, r.mapKey
	r.p.Segments = append(r.p.Segments, s)
	r.seg, r.begun = Segment{}, false
}

// end takes the segment in the making, and numbers all.
func (r *reader) end() {
	if len(r.seg.Parts) > 0 {
		r.push()
	}
	for i := range r.p.Segments {
		s := &r.p.Segments[i]
		s.Sequence += r.p.MediaSequence + uint64(r.p.Skipped)
		// In a delta update the discontinuities of skipped segments are not seen;
		// Merge corrects the numbers.
		s.DiscontinuitySequence += r.p.DiscontinuitySequence
	}
	if r.p.Version < r.version.need {
		r.add("8", "EXT-X-VERSION is at least what the tags need", 0, "%d, and %s needs %s",
			r.p.Version, r.version.why, strconv.Itoa(r.version.need))
	}
}
