package hls

import (
	"slices"
	"strconv"
	"strings"
)

// A name is what the media of a Packager is called:
//
//	v12.m4s  a12.m4s  ts12.ts   segments by their Media Sequence Number
//	vp98.m4s ap98.m4s           parts by their own number, so that a part can be hinted before it is known which segment it belongs to
//	vi1.mp4  ai1.mp4            initialization segments
//	v3.key   a3.key   ts3.key   keys
type name struct {
	r      Rendition
	kind   nameKind
	number uint64
}

type nameKind uint8

const (
	kindSegment nameKind = iota
	kindPart
	kindInit
	kindKey
)

// maxDigits bounds the numbers in names and queries, far below overflow.
const maxDigits = 15

func appendName(dst []byte, n name) []byte {
	dst = append(dst, n.r.String()...)
	ext := ".m4s"
	switch n.kind {
	case kindPart:
		dst = append(dst, 'p')
	case kindInit:
		dst, ext = append(dst, 'i'), ".mp4"
	case kindKey:
		ext = ".key"
	case kindSegment:
		if n.r == TS {
			ext = ".ts"
		}
	}
	return append(strconv.AppendUint(dst, n.number, 10), ext...)
}

func (n name) String() string { return string(appendName(nil, n)) }

// parseName reads what appendName writes, and nothing else.
func parseName(s string) (n name, ok bool) {
	stem, ext, found := strings.Cut(s, ".")
	if !found {
		return name{}, false
	}
	i := slices.IndexFunc(renditionNames[:], func(prefix string) bool { return strings.HasPrefix(stem, prefix) })
	if i < 0 {
		return name{}, false
	}
	n.r, stem = Rendition(i), stem[len(renditionNames[i]):]
	cmaf := n.r != TS
	letter := ""
	if stem != "" && (stem[0] == 'p' || stem[0] == 'i') {
		letter, stem = stem[:1], stem[1:]
	}
	switch {
	case letter == "" && (cmaf && ext == "m4s" || !cmaf && ext == "ts"):
		n.kind = kindSegment
	case letter == "p" && cmaf && ext == "m4s":
		n.kind = kindPart
	case letter == "i" && cmaf && ext == "mp4":
		n.kind = kindInit
	case letter == "" && ext == "key":
		n.kind = kindKey
	default:
		return name{}, false
	}
	n.number, ok = parseNumber(stem)
	return n, ok && (len(stem) == 1 || stem[0] != '0')
}

// parseNumber reads a decimal number of at most maxDigits digits.
func parseNumber(s string) (n uint64, ok bool) {
	if s == "" || len(s) > maxDigits {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}
