package hls

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Bounds of a playlist.
const (
	maxPlaylist = 2 << 20 // bytes
	maxLine     = 16 << 10
	maxEntries  = 50_000
)

var errPlaylist = errors.New("relay/hls: malformed playlist")

// A playlist is either a multivariant playlist, which has variants, or a media
// playlist.
type playlist struct {
	variants []variant
	sounds   []sound

	target   time.Duration
	ended    bool
	kept     bool      // EXT-X-PLAYLIST-TYPE: nothing leaves it
	segments []segment // the first has the number first
	first    uint64
}

// A variant is EXT-X-STREAM-INF.
type variant struct {
	uri, audio string
	bandwidth  int64
}

// A sound is EXT-X-MEDIA of type AUDIO.
type sound struct {
	group, uri string
	preferred  bool
}

// A piece is a resource, or a range of its bytes.
type piece struct {
	uri            string
	offset, length int64 // length 0: all of it
	key            *key
}

// A key is EXT-X-KEY with the method AES-128.
type key struct {
	uri string
	iv  []byte // nil: the segment's number
}

type segment struct {
	piece
	init          *piece // EXT-X-MAP; nil: MPEG-TS
	duration      time.Duration
	date          time.Time // zero: unknown
	discontinuity bool
	gap           bool
}

// parse reads a playlist. The error wraps errPlaylist, or stream.ErrUnsupported
// for an encryption that is not spoken.
func parse(text []byte) (*playlist, error) {
	p := &playlist{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxLine)
	var next segment
	var spec *variant              // the next URI is its
	var ranged *[2]int64           // EXT-X-BYTERANGE: length, offset or -1
	ends := make(map[string]int64) // where the last range of a resource ended
	var inForce *key
	begun := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if !begun {
			if line != "#EXTM3U" && line != "\ufeff#EXTM3U" {
				return nil, fmt.Errorf("%w: it does not begin with #EXTM3U", errPlaylist)
			}
			begun = true
			continue
		}
		tag, value, _ := strings.Cut(line, ":")
		bad := fmt.Errorf("%w: %.40q", errPlaylist, tag)
		switch {
		case line == "":
		case !strings.HasPrefix(line, "#"):
			if len(p.segments)+len(p.variants) >= maxEntries {
				return nil, fmt.Errorf("%w: too long", errPlaylist)
			}
			if spec != nil {
				spec.uri = line
				p.variants, spec = append(p.variants, *spec), nil
				continue
			}
			next.uri, next.key = line, inForce
			if ranged != nil {
				var ok bool
				if next.length, next.offset, ok = place(*ranged, ends, line); !ok {
					return nil, bad
				}
				ranged = nil
			}
			p.segments = append(p.segments, next)
			following := segment{init: next.init}
			if !next.date.IsZero() {
				following.date = next.date.Add(next.duration)
			}
			next = following
		case tag == "#EXT-X-STREAM-INF":
			a := attributes(value)
			spec = &variant{audio: a["AUDIO"]}
			spec.bandwidth, _ = strconv.ParseInt(a["BANDWIDTH"], 10, 64)
		case tag == "#EXT-X-MEDIA":
			if a := attributes(value); a["TYPE"] == "AUDIO" && len(p.sounds) < maxEntries {
				p.sounds = append(p.sounds, sound{group: a["GROUP-ID"], uri: a["URI"], preferred: a["DEFAULT"] == "YES"})
			}
		case tag == "#EXT-X-TARGETDURATION":
			n, err := strconv.ParseFloat(value, 64)
			if err != nil || !(n >= 0 && n <= 3600) {
				return nil, bad
			}
			p.target = time.Duration(n * float64(time.Second))
		case tag == "#EXT-X-MEDIA-SEQUENCE":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil || n > math.MaxInt64 {
				return nil, bad
			}
			p.first = n
		case tag == "#EXTINF":
			number, _, _ := strings.Cut(value, ",")
			n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil || !(n >= 0 && n <= 3600) {
				return nil, bad
			}
			next.duration = time.Duration(n * float64(time.Second))
		case tag == "#EXT-X-BYTERANGE":
			r, ok := byteRange(value)
			if !ok {
				return nil, bad
			}
			ranged = &r
		case tag == "#EXT-X-MAP":
			a := attributes(value)
			m := &piece{uri: a["URI"], key: inForce}
			if v := a["BYTERANGE"]; v != "" {
				r, ok := byteRange(v)
				if m.length, m.offset = r[0], max(r[1], 0); !ok {
					return nil, bad
				}
			}
			if m.uri == "" || inForce != nil && inForce.iv == nil {
				return nil, bad
			}
			next.init = m
		case tag == "#EXT-X-KEY":
			var err error
			if inForce, err = parseKey(attributes(value)); err != nil {
				return nil, err
			}
		case tag == "#EXT-X-PROGRAM-DATE-TIME":
			for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700"} {
				if at, err := time.Parse(layout, value); err == nil {
					next.date = at
					break
				}
			}
		case tag == "#EXT-X-DISCONTINUITY":
			next.discontinuity = true
		case tag == "#EXT-X-GAP":
			next.gap = true
		case tag == "#EXT-X-PLAYLIST-TYPE":
			p.kept = true
		case tag == "#EXT-X-ENDLIST":
			p.ended = true
		}
	}
	if err := lines.Err(); err != nil || !begun {
		return nil, fmt.Errorf("%w: lines", errPlaylist)
	}
	return p, nil
}

// over reports whether p is what is left of a live stream that has ended, rather
// than something to be played from its beginning.
func (p *playlist) over() bool {
	return p.ended && !p.kept && (p.first > 0 || len(p.segments) == 0 || !p.segments[0].date.IsZero())
}

// place returns where a range of a resource lies; without an offset it is behind
// the last one.
func place(r [2]int64, ends map[string]int64, uri string) (length, offset int64, ok bool) {
	length, offset = r[0], r[1]
	if offset < 0 {
		if offset, ok = ends[uri]; !ok {
			return 0, 0, false
		}
	}
	ends[uri] = offset + length
	return length, offset, true
}

// byteRange reads "length[@offset]".
func byteRange(s string) (r [2]int64, ok bool) {
	length, offset, has := strings.Cut(s, "@")
	var err error
	r[1] = -1
	if r[0], err = strconv.ParseInt(length, 10, 64); err != nil || r[0] <= 0 || r[0] > math.MaxInt32 {
		return r, false
	}
	if has {
		if r[1], err = strconv.ParseInt(offset, 10, 64); err != nil || r[1] < 0 || r[1] > math.MaxInt64/2 {
			return r, false
		}
	}
	return r, true
}

func parseKey(a map[string]string) (*key, error) {
	switch method := a["METHOD"]; {
	case method == "NONE":
		return nil, nil
	case method != "AES-128" || a["KEYFORMAT"] != "" && a["KEYFORMAT"] != "identity":
		return nil, fmt.Errorf("relay/hls: encryption %.20q: %w", method, stream.ErrUnsupported)
	}
	k := &key{uri: a["URI"]}
	if v := a["IV"]; v != "" {
		digits, ok := strings.CutPrefix(strings.ToLower(v), "0x")
		iv, err := hex.DecodeString(digits)
		if !ok || err != nil || len(iv) != 16 {
			return nil, fmt.Errorf("%w: IV", errPlaylist)
		}
		k.iv = iv
	}
	if k.uri == "" {
		return nil, fmt.Errorf("%w: key without URI", errPlaylist)
	}
	return k, nil
}

// attributes reads an attribute list (RFC 8216 section 4.2).
func attributes(s string) map[string]string {
	a := make(map[string]string)
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		name = strings.TrimSpace(name)
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			a[name], s, _ = strings.Cut(quoted, `"`)
			_, s, _ = strings.Cut(s, ",")
			continue
		}
		var value string
		value, s, _ = strings.Cut(rest, ",")
		a[name] = strings.TrimSpace(value)
	}
	return a
}

// choose returns the variant with the highest bit rate that is not above most (0: no
// bound), or the lowest of all, and where its sound is if that is apart.
func (p *playlist) choose(most int64) (video, audio string) {
	best := p.variants[0]
	for _, v := range p.variants[1:] {
		fits, fitted := most <= 0 || v.bandwidth <= most, most <= 0 || best.bandwidth <= most
		if fits && (!fitted || v.bandwidth > best.bandwidth) || !fits && !fitted && v.bandwidth < best.bandwidth {
			best = v
		}
	}
	chosen := false
	for _, s := range p.sounds {
		if s.group == best.audio && best.audio != "" && (!chosen || s.preferred) {
			audio, chosen = s.uri, true
			if s.preferred {
				break
			}
		}
	}
	return best.uri, audio
}
