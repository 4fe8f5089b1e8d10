package h264

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/bits"

	"github.com/runnel-media/runnel/internal/nal"
)

var errConfig = errors.New("h264: malformed AVCDecoderConfigurationRecord")

// A Config is an AVCDecoderConfigurationRecord. The parameter sets of a parsed
// one alias the record.
type Config struct {
	Profile       byte // profile_idc
	Compatibility byte // constraint flags
	Level         byte // level_idc
	LengthSize    int  // of the lengths in front of NAL units: 1 to 4; 0 means 4
	SPS, PPS      [][]byte
	SPSExt        [][]byte
}

// NewConfig returns a Config for the parameter sets; the first SPS says
// profile and level.
func NewConfig(sps, pps [][]byte) (*Config, error) {
	if len(sps) == 0 || !isSPS(sps[0]) {
		return nil, errors.New("h264: no sequence parameter set")
	}
	return &Config{
		Profile: sps[0][1], Compatibility: sps[0][2], Level: sps[0][3],
		LengthSize: nal.LengthSize, SPS: sps, PPS: pps,
	}, nil
}

// ParseConfig parses an AVCDecoderConfigurationRecord. One without parameter
// sets is accepted: then they are in the access units.
func ParseConfig(b []byte) (*Config, error) {
	if len(b) < 7 || b[0] != 1 {
		return nil, errConfig
	}
	c := &Config{Profile: b[1], Compatibility: b[2], Level: b[3], LengthSize: int(b[4]&3) + 1}
	rest := b[6:]
	var ok bool
	if c.SPS, rest, ok = readSets(rest, int(b[5]&0x1f)); !ok || len(rest) == 0 {
		return nil, errConfig
	}
	if c.PPS, rest, ok = readSets(rest[1:], int(rest[0])); !ok {
		return nil, errConfig
	}
	for _, s := range c.SPS {
		if !isSPS(s) {
			return nil, errConfig
		}
	}
	for _, s := range c.PPS {
		if Type(s) != TypePPS {
			return nil, errConfig
		}
	}
	// What high profiles append is left out by many encoders, and only the
	// SPS extensions are not in the SPS already.
	if highProfile(c.Profile) && len(rest) >= 4 {
		if ext, _, ok := readSets(rest[4:], int(rest[3])); ok {
			c.SPSExt = ext
		}
	}
	return c, nil
}

// readSets reads n units behind 16-bit lengths; empty ones are dropped.
func readSets(b []byte, n int) (sets [][]byte, rest []byte, ok bool) {
	for range n {
		if len(b) < 2 {
			return nil, nil, false
		}
		end := 2 + int(b[0])<<8 + int(b[1])
		if end > len(b) {
			return nil, nil, false
		}
		if end > 2 {
			sets = append(sets, b[2:end:end])
		}
		b = b[end:]
	}
	return sets, b, true
}

// Append appends the record. Parameter sets beyond what it has room for (31,
// 255, and 65,535 bytes each) are left out.
func (c *Config) Append(dst []byte) []byte {
	size := c.LengthSize
	if size < 1 || size > 4 {
		size = nal.LengthSize
	}
	dst = append(dst, 1, c.Profile, c.Compatibility, c.Level, 0xfc|byte(size-1))
	dst = appendSets(dst, 0xe0, c.SPS, 31)
	dst = appendSets(dst, 0, c.PPS, 255)
	if highProfile(c.Profile) && len(c.SPS) > 0 {
		if s, err := parseSPS(c.SPS[0]); err == nil {
			dst = append(dst, 0xfc|byte(s.ChromaFormatIdc&3), 0xf8|byte(s.BitDepthLumaMinus8&7), 0xf8|byte(s.BitDepthChromaMinus8&7))
			dst = appendSets(dst, 0, c.SPSExt, 255)
		}
	}
	return dst
}

// appendSets appends the number of sets, with the reserved bits that stand
// above it, and the sets.
func appendSets(dst []byte, reserved byte, sets [][]byte, most int) []byte {
	at, n := len(dst), 0
	dst = append(dst, 0)
	for _, s := range sets {
		if n == most {
			break
		}
		if len(s) > nal.MaxUnit {
			continue
		}
		dst = append(dst, byte(len(s)>>8), byte(len(s)))
		dst = append(dst, s...)
		n++
	}
	dst[at] = reserved | byte(n)
	return dst
}

// Update returns a Config that has the parameter sets of the access unit in
// place of its own with the same id, the access unit's first, if there is one
// that c lacks; otherwise c and false. Sets with impossible ids don't count. A
// nil c is one without sets; as long as there is no SPS the result is c. c is
// not modified; the result aliases both.
func (c *Config) Update(au []byte) (*Config, bool) {
	var sps, pps [][]byte
	if c != nil {
		sps, pps = c.SPS, c.PPS
	}
	changed, seen := false, 0
	for unit := range nal.Units(au) {
		t := Type(unit)
		if t != TypeSPS && t != TypePPS || len(unit) > nal.MaxUnit {
			continue
		}
		if seen++; seen > maxSets {
			break
		}
		if t == TypeSPS && !nal.Contains(sps, unit) {
			if _, ok := setID(unit, 4, maxSPSID); ok {
				sps, changed = nal.Put(sps, unit, sameSPS), true
			}
		} else if t == TypePPS && !nal.Contains(pps, unit) {
			if _, ok := setID(unit, 1, maxPPSID); ok {
				pps, changed = nal.Put(pps, unit, samePPS), true
			}
		}
	}
	if !changed {
		return c, false
	}
	n, err := NewConfig(sps, pps)
	if err != nil {
		return c, false
	}
	if c != nil {
		n.LengthSize, n.SPSExt = c.LengthSize, c.SPSExt
	}
	return n, true
}

// CodecString returns the name of RFC 6381, section 3.3, such as
// "avc1.64001f".
func (c *Config) CodecString() string {
	return fmt.Sprintf("avc1.%02x%02x%02x", c.Profile, c.Compatibility, c.Level)
}

func isSPS(unit []byte) bool { return len(unit) >= 4 && Type(unit) == TypeSPS }

func highProfile(p byte) bool {
	switch p {
	case 66, 77, 88:
		return false
	}
	return true
}

// Bounds of ids, and of the sets that Update looks at in one access unit; real
// ones have a few.
const (
	maxSPSID = 31
	maxPPSID = 255
	maxSets  = 64
)

func sameSPS(a, b []byte) bool {
	x, ok := setID(a, 4, maxSPSID)
	y, _ := setID(b, 4, maxSPSID)
	return ok && x == y
}

func samePPS(a, b []byte) bool {
	x, ok := setID(a, 1, maxPPSID)
	y, _ := setID(b, 1, maxPPSID)
	return ok && x == y
}

// setID returns the id of a set, the Exp-Golomb code at a byte offset. So
// early in a set there can't be emulation prevention.
func setID(unit []byte, at int, most uint32) (uint32, bool) {
	if len(unit) < at {
		return 0, false
	}
	pos := 8 * at
	id, err := bits.ReadGolombUnsigned(unit, &pos)
	return id, err == nil && id <= most
}
