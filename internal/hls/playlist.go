package hls

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"sync"
	"time"
)

// PlaylistType is the media type of playlists.
const PlaylistType = "application/vnd.apple.mpegurl"

// A Playlist is a media playlist as it is at a moment, rendered once for all who
// ask. It is immutable.
type Playlist struct {
	Text           []byte // must not be modified
	ETag           string // quoted, as in HTTP; of Text as it is
	TargetDuration time.Duration
	Ended          bool // it will not change any more

	gzips  *sync.Pool
	zipped sync.Once
	gz     []byte
}

// Gzip returns Text compressed, which is done once.
func (p *Playlist) Gzip() []byte {
	p.zipped.Do(func() {
		var b bytes.Buffer
		z, _ := p.gzips.Get().(*gzip.Writer)
		if z == nil {
			z = gzip.NewWriter(nil)
		}
		z.Reset(&b)
		_, _ = z.Write(p.Text) // a bytes.Buffer does not fail
		_ = z.Close()
		p.gzips.Put(z)
		p.gz = b.Bytes()
	})
	return p.gz
}

// skipTargets is the Skip Boundary in target durations, the least that bis 4.4.3.8
// allows.
const skipTargets = 6

// skippable returns how many segments a Playlist Delta Update leaves out: those
// that end before the Skip Boundary (bis 6.2.5.1).
func (s *snapshot) skippable() (n int) {
	if s.r == TS || s.ended || s.conf == nil {
		return 0
	}
	listed := s.listed()
	left := time.Duration(0)
	for _, seg := range listed {
		left += seg.Duration
	}
	for _, seg := range listed {
		if left -= seg.Duration; left < skipTargets*time.Duration(s.conf.target)*time.Second {
			break
		}
		n++
	}
	return n
}

// render writes the media playlist, or if segments are skipped its Playlist Delta
// Update.
func (s *snapshot) render(p *Playlist, skipped int) {
	target := time.Duration(s.conf.target) * time.Second
	p.gzips = &s.p.gzips
	p.TargetDuration, p.Ended = target, s.ended
	listed := s.listed()
	tag := "-f"
	if skipped > 0 {
		tag = "-d"
	}
	p.ETag = `"` + s.p.tag + "-" + s.r.String() + strconv.FormatUint(s.version, 10) + tag + `"`

	w := writer{b: make([]byte, 0, s.estimate()), prefix: s.p.mediaPrefix()}
	version := 3 // floating-point durations
	switch {
	case skipped > 0:
		version = 9
	case s.r != TS:
		version = 6 // EXT-X-MAP
	}
	w.text("#EXTM3U\n#EXT-X-VERSION:").int(version)
	w.text("\n#EXT-X-TARGETDURATION:").int(s.conf.target)
	w.text("\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK=").seconds(3*target, 3)
	if s.r != TS {
		w.text(",CAN-SKIP-UNTIL=").seconds(skipTargets*target, 3)
	}
	if s.listsParts() {
		w.text(",PART-HOLD-BACK=").seconds(s.conf.partHoldBack, 3)
		w.text("\n#EXT-X-PART-INF:PART-TARGET=").seconds(s.partTarget, 3)
	}
	all := listed
	if s.cur != nil && (len(listed) == 0 || s.listsParts() && len(s.cur.Parts) > 0) {
		all = append(all, s.cur) // listed has no room: this copies
	}
	if len(all) > 0 {
		w.text("\n#EXT-X-MEDIA-SEQUENCE:").uint(all[0].Sequence)
		w.text("\n#EXT-X-DISCONTINUITY-SEQUENCE:").uint(all[0].discontinuitiesBefore())
	}
	w.text("\n")
	if skipped > 0 {
		w.text("#EXT-X-SKIP:SKIPPED-SEGMENTS=").int(skipped).text("\n")
	}
	for i, seg := range all {
		if i < skipped {
			continue
		}
		complete := i < len(listed)
		if !complete && (len(seg.Parts) == 0 || !s.listsParts()) {
			break
		}
		// What is in force after skipped segments is said again: it applies to
		// those that are left (bis 6.2.3, 6.2.5.1).
		var before *Segment
		if i > skipped {
			before = all[i-1]
		}
		w.head(seg, before, i > 0)
		if s.listsPartsOf(seg) {
			for _, part := range seg.Parts {
				w.b = append(w.b, part.text...)
			}
		}
		if complete {
			w.b = append(w.b, seg.text...)
		}
	}
	if s.ended {
		p.Text = w.text("#EXT-X-ENDLIST\n").b
		return
	}
	if s.listsParts() {
		w.text(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="`).media(name{r: s.r, kind: kindPart, number: s.parts}.String()).text("\"\n")
	}
	if s.r != TS {
		for _, o := range s.p.out {
			if o.r != s.r && o.r != TS {
				w.report(o.snap.Load())
			}
		}
	}
	p.Text = w.b
}

// mediaPrefix is what is before the names of media in playlists.
func (p *Packager) mediaPrefix() string { return p.cfg.MediaPrefix + p.secret + "/" }

// estimate is about how long the playlist is.
func (s *snapshot) estimate() int {
	n := 800 + (len(s.segs)-s.first+1)*(130+len(s.p.cfg.MediaPrefix))
	if s.listsParts() {
		for _, seg := range append(s.listed(), s.cur) {
			if seg != nil && s.listsPartsOf(seg) {
				n += len(seg.Parts) * (100 + len(s.p.cfg.MediaPrefix))
			}
		}
	}
	return n
}

// A writer appends to a playlist.
type writer struct {
	b      []byte
	prefix string // of media
}

func (w *writer) text(s string) *writer {
	w.b = append(w.b, s...)
	return w
}

func (w *writer) int(n int) *writer { return w.uint(uint64(n)) }

func (w *writer) uint(n uint64) *writer {
	w.b = strconv.AppendUint(w.b, n, 10)
	return w
}

func (w *writer) media(name string) *writer { return w.text(w.prefix).text(name) }

// seconds writes a duration with so many decimals, rounded to the nearest.
func (w *writer) seconds(d time.Duration, decimals int) *writer {
	unit := time.Second
	for range decimals {
		unit /= 10
	}
	d = (d + unit/2) / unit
	per := time.Second / unit
	w.b = strconv.AppendInt(w.b, int64(d/per), 10)
	w.b = append(w.b, '.')
	for rest := d % per; per > 1; rest %= per {
		per /= 10
		w.b = append(w.b, '0'+byte(rest/per))
	}
	return w
}

// head writes the tags that apply to a segment and to its first part, which must
// come before both (bis 4.4.4.9). before is the segment listed before it; keyed
// tells that a key may be in force all the same.
func (w *writer) head(s, before *Segment, keyed bool) {
	if s.Discontinuity {
		w.text("#EXT-X-DISCONTINUITY\n")
	}
	newInit := s.Init != nil && (before == nil || before.Init == nil || before.Init.Number != s.Init.Number)
	newKey := s.Key != nil && (before == nil || before.Key != s.Key)
	if newInit {
		if s.Key != nil && keyed {
			// A key applies to the EXT-X-MAP tags after it; ours are clear.
			w.text("#EXT-X-KEY:METHOD=NONE\n")
			newKey = true
		}
		w.text(`#EXT-X-MAP:URI="`).media(s.Init.name).text("\"\n")
	}
	if newKey {
		// Without IV it is the Media Sequence Number (bis 5.2).
		w.text(`#EXT-X-KEY:METHOD=AES-128,URI="`).text(s.Key.name).text("\"\n")
	}
	w.text("#EXT-X-PROGRAM-DATE-TIME:")
	if s.text == nil {
		w.b = appendDate(w.b, s.Time)
	} else {
		w.b = append(w.b, s.date...)
	}
	w.text("\n")
}

// discontinuitiesBefore returns EXT-X-DISCONTINUITY-SEQUENCE of a playlist that
// begins with s.
func (s *Segment) discontinuitiesBefore() uint64 {
	if s.Discontinuity {
		return s.DiscontinuitySequence - 1 // its own tag counts too
	}
	return s.DiscontinuitySequence
}

func appendDate(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
}

// line returns a part's line in playlists.
func (p *Part) line(prefix string) []byte {
	w := writer{b: make([]byte, 0, len(prefix)+96), prefix: prefix}
	w.text("#EXT-X-PART:DURATION=").seconds(p.Duration, 5).text(`,URI="`).media(p.name)
	switch {
	case p.Gap:
		w.text("\",GAP=YES\n")
	case p.Independent:
		w.text("\",INDEPENDENT=YES\n")
	default:
		w.text("\"\n")
	}
	return w.b
}

// lines returns what a complete segment's lines in playlists end with.
func (s *Segment) lines(prefix string) []byte {
	w := writer{b: make([]byte, 0, len(prefix)+64), prefix: prefix}
	if s.Gap {
		w.text("#EXT-X-GAP\n")
	}
	return w.text("#EXTINF:").seconds(s.Duration, 5).text(",\n").media(s.name).text("\n").b
}

// report writes the Rendition Report of a sibling (bis 4.4.5.4).
func (w *writer) report(s *snapshot) {
	if !s.live || s.conf == nil {
		return
	}
	seq, parts := s.next()
	if parts == 0 {
		if len(s.listed()) == 0 {
			return
		}
		seq--
		if seg := s.find(seq); s.listsParts() {
			parts = len(seg.Parts)
		}
	}
	w.text(`#EXT-X-RENDITION-REPORT:URI="`).text(s.r.String()).text(`.m3u8",LAST-MSN=`).uint(seq)
	if parts > 0 {
		w.text(",LAST-PART=").int(parts - 1)
	}
	w.text("\n")
}
