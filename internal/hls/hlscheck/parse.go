package hlscheck

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Playlist is what a media playlist says.
type Playlist struct {
	Version               int // 0: not stated
	TargetDuration        int
	MediaSequence         uint64
	DiscontinuitySequence uint64
	Control               Control
	PartTarget            float64 // seconds; 0: no EXT-X-PART-INF
	Skipped               int     // segments that EXT-X-SKIP stands for
	Segments              []Segment
	Hints                 []Hint
	Reports               []Report
	Type                  string // EXT-X-PLAYLIST-TYPE
	Independent           bool   // EXT-X-INDEPENDENT-SEGMENTS
	Ended                 bool
}

// Control is EXT-X-SERVER-CONTROL. Times are in seconds, 0 where absent.
type Control struct {
	Present        bool
	CanBlockReload bool
	CanSkipUntil   float64
	HoldBack       float64
	PartHoldBack   float64
}

// A Segment is a media segment, or, as the last of a playlist, what is listed of
// one in the making.
type Segment struct {
	Sequence              uint64
	DiscontinuitySequence uint64
	URI                   string // "" for one in the making
	Duration              float64
	Discontinuity         bool
	Gap                   bool
	Time                  time.Time // zero: no EXT-X-PROGRAM-DATE-TIME
	Map                   string    // URI in force
	Key                   Key       // in force
	MapKey                Key       // in force where Map was declared
	Parts                 []Part
	Line                  int
}

// Complete reports whether the segment is more than parts.
func (s *Segment) Complete() bool { return s.URI != "" }

// A Key is EXT-X-KEY; the zero value says that nothing is encrypted.
type Key struct{ Method, URI, IV string }

// A Part is EXT-X-PART.
type Part struct {
	URI         string
	Duration    float64
	Independent bool
	Gap         bool
	Line        int
}

// A Hint is EXT-X-PRELOAD-HINT.
type Hint struct{ Type, URI string }

// A Report is EXT-X-RENDITION-REPORT; LastPart is -1 where absent.
type Report struct {
	URI      string
	LastMSN  uint64
	LastPart int
}

// Duration returns the length of the complete segments, in seconds.
func (p *Playlist) Duration() (d float64) {
	for i := range p.Segments {
		if p.Segments[i].Complete() {
			d += p.Segments[i].Duration
		}
	}
	return d
}

// Last returns the Media Sequence Number of the last complete segment, and of
// the last part the segment and its index, -1 if the playlist ends with a whole
// segment that lists no parts.
func (p *Playlist) Last() (segment, partSegment uint64, part int) {
	part = -1
	for i := range p.Segments {
		s := &p.Segments[i]
		if s.Complete() {
			segment = s.Sequence
		}
		partSegment, part = s.Sequence, len(s.Parts)-1
	}
	return segment, partSegment, part
}

// lines splits a playlist into its lines, which end with LF or CR LF.
func lines(text []byte) []string {
	all := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	if n := len(all); all[n-1] == "" {
		all = all[:n-1]
	}
	return all
}

// attributes reads an attribute list (4.2). Quotes are taken off; quoted tells
// which values had some.
func attributes(s string) (values map[string]string, quoted map[string]bool, err error) {
	values, quoted = map[string]string{}, map[string]bool{}
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return nil, nil, fmt.Errorf("no attribute name at %q", s)
		}
		if _, twice := values[name]; twice {
			return nil, nil, fmt.Errorf("attribute %s given twice", name)
		}
		value := ""
		if strings.HasPrefix(rest, `"`) {
			if value, rest, ok = strings.Cut(rest[1:], `"`); !ok {
				return nil, nil, fmt.Errorf("%s: quote not closed", name)
			}
			quoted[name] = true
			if rest != "" && rest[0] != ',' {
				return nil, nil, fmt.Errorf("%s: %q after the quote", name, rest)
			}
			rest = strings.TrimPrefix(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
			if value == "" || strings.ContainsAny(value, " \t\"") {
				return nil, nil, fmt.Errorf("%s: value %q", name, value)
			}
		}
		values[name] = value
		s = rest
	}
	return values, quoted, nil
}

// float reads a decimal-floating-point (4.2): digits with at most one point.
func float(s string) (float64, error) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	return strconv.ParseFloat(s, 64)
}

func integer(s string) (uint64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is no decimal integer", s)
	}
	return strconv.ParseUint(s, 10, 64)
}
