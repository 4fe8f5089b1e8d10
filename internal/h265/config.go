package h265

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/runnel-media/runnel/internal/nal"
)

var errConfig = errors.New("h265: malformed HEVCDecoderConfigurationRecord")

// An Array is the NAL units of one type in a Config.
type Array struct {
	Type     byte
	Complete bool // no more of them in the access units
	Units    [][]byte
}

// A Config is an HEVCDecoderConfigurationRecord. The NAL units of a parsed one
// alias the record.
type Config struct {
	ProfileTierLevel
	MinSpatialSegmentation uint16
	Parallelism            byte
	ChromaFormat           byte
	BitDepthLuma           byte
	BitDepthChroma         byte
	AvgFrameRate           uint16 // in 1/256 frames a second, 0 unknown
	ConstantFrameRate      byte
	TemporalLayers         byte // 0 unknown, 1 not scalable
	TemporalNested         bool
	LengthSize             int // of the lengths in front of NAL units: 1 to 4; 0 means 4
	Arrays                 []Array
}

// NewConfig returns a Config for the parameter sets; the first SPS says
// everything else.
func NewConfig(vps, sps, pps [][]byte) (*Config, error) {
	if len(sps) == 0 {
		return nil, errors.New("h265: no sequence parameter set")
	}
	s, err := ParseSPS(sps[0])
	if err != nil {
		return nil, err
	}
	c := &Config{
		ProfileTierLevel: s.ProfileTierLevel,
		ChromaFormat:     s.ChromaFormat, BitDepthLuma: s.BitDepthLuma, BitDepthChroma: s.BitDepthChroma,
		TemporalLayers: s.TemporalLayers, TemporalNested: s.TemporalNested,
		LengthSize: nal.LengthSize,
	}
	c.set(TypeVPS, vps)
	c.set(TypeSPS, sps)
	c.set(TypePPS, pps)
	return c, nil
}

// ParseConfig parses an HEVCDecoderConfigurationRecord. One without parameter
// sets is accepted: then they are in the access units.
func ParseConfig(b []byte) (*Config, error) {
	// Version 0 was written before the standard was final.
	if len(b) < 23 || b[0] > 1 {
		return nil, errConfig
	}
	c := &Config{
		MinSpatialSegmentation: binary.BigEndian.Uint16(b[13:]) & 0xfff,
		Parallelism:            b[15] & 3,
		ChromaFormat:           b[16] & 3,
		BitDepthLuma:           b[17]&7 + 8,
		BitDepthChroma:         b[18]&7 + 8,
		AvgFrameRate:           binary.BigEndian.Uint16(b[19:]),
		ConstantFrameRate:      b[21] >> 6,
		TemporalLayers:         b[21] >> 3 & 7,
		TemporalNested:         b[21]&4 != 0,
		LengthSize:             int(b[21]&3) + 1,
	}
	c.ProfileTierLevel = parsePTL(b[1:13])
	n, b := int(b[22]), b[23:]
	for range n {
		if len(b) < 3 {
			return nil, errConfig
		}
		a := Array{Type: b[0] & 0x3f, Complete: b[0]&0x80 != 0}
		units := int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		for range units {
			if len(b) < 2 {
				return nil, errConfig
			}
			end := 2 + int(binary.BigEndian.Uint16(b))
			if end > len(b) {
				return nil, errConfig
			}
			if unit := b[2:end:end]; len(unit) > 0 {
				if Type(unit) != a.Type {
					return nil, errConfig
				}
				a.Units = append(a.Units, unit)
			}
			b = b[end:]
		}
		c.Arrays = append(c.Arrays, a)
	}
	return c, nil
}

// Append appends the record. NAL units longer than 65,535 bytes are left out.
func (c *Config) Append(dst []byte) []byte {
	size := c.LengthSize
	if size < 1 || size > 4 {
		size = nal.LengthSize
	}
	nested := byte(0)
	if c.TemporalNested {
		nested = 4
	}
	dst = append(dst, 1)
	dst = c.append(dst)
	dst = binary.BigEndian.AppendUint16(dst, 0xf000|c.MinSpatialSegmentation)
	dst = append(dst, 0xfc|c.Parallelism, 0xfc|c.ChromaFormat, 0xf8|(c.BitDepthLuma-8)&7, 0xf8|(c.BitDepthChroma-8)&7)
	dst = binary.BigEndian.AppendUint16(dst, c.AvgFrameRate)
	dst = append(dst, c.ConstantFrameRate<<6|c.TemporalLayers&7<<3|nested|byte(size-1))
	arrays := c.Arrays[:min(len(c.Arrays), 255)]
	dst = append(dst, byte(len(arrays)))
	for _, a := range arrays {
		t := a.Type & 0x3f
		if a.Complete {
			t |= 0x80
		}
		at, n := len(dst)+1, 0
		dst = append(dst, t, 0, 0)
		for _, u := range a.Units {
			if len(u) > nal.MaxUnit || n == 1<<16-1 {
				continue
			}
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(u)))
			dst = append(dst, u...)
			n++
		}
		binary.BigEndian.PutUint16(dst[at:], uint16(n))
	}
	return dst
}

// Units returns the NAL units of one type.
func (c *Config) Units(t byte) [][]byte {
	if c == nil {
		return nil
	}
	for _, a := range c.Arrays {
		if a.Type == t {
			return a.Units
		}
	}
	return nil
}

// set puts units in place of those of their type; no units, no array.
func (c *Config) set(t byte, units [][]byte) {
	for i := range c.Arrays {
		if c.Arrays[i].Type == t {
			c.Arrays[i].Units = units
			return
		}
	}
	if len(units) > 0 {
		c.Arrays = append(c.Arrays, Array{Type: t, Complete: true, Units: units})
	}
}

// Update returns a Config that has the parameter sets of the access unit in
// place of its own with the same id, the access unit's first, if there is one
// that c lacks; otherwise c and false. Sets with impossible ids don't count. A
// nil c is one without sets; as long as there is no SPS that can be parsed the
// result is c. c is not modified; the result aliases both.
func (c *Config) Update(au []byte) (*Config, bool) {
	sets := [3][][]byte{c.Units(TypeVPS), c.Units(TypeSPS), c.Units(TypePPS)}
	changed, seen := false, 0
	for unit := range nal.Units(au) {
		t := Type(unit)
		if t < TypeVPS || t > TypePPS || len(unit) > nal.MaxUnit {
			continue
		}
		if seen++; seen > maxSets {
			break
		}
		s := &sets[t-TypeVPS]
		if !nal.Contains(*s, unit) {
			if _, ok := setID(unit); ok {
				*s, changed = nal.Put(*s, unit, sameID), true
			}
		}
	}
	if !changed {
		return c, false
	}
	n, err := NewConfig(sets[0], sets[1], sets[2])
	if err != nil {
		return c, false
	}
	if c != nil {
		n.LengthSize = c.LengthSize
		for _, a := range c.Arrays { // such as SEI
			if a.Type < TypeVPS || a.Type > TypePPS {
				n.Arrays = append(n.Arrays, a)
			}
		}
	}
	return n, true
}

// maxSets bounds the sets that Update looks at in one access unit; real ones
// have a few.
const maxSets = 64

// sameID reports whether two parameter sets of one type replace each other.
func sameID(a, b []byte) bool {
	x, ok := setID(a)
	y, _ := setID(b)
	return ok && x == y
}

// CodecString returns the name of ISO/IEC 14496-15, Annex E.3, such as
// "hvc1.1.6.L93.b0".
func (c *Config) CodecString() string {
	var s strings.Builder
	s.WriteString("hvc1.")
	if c.Space > 0 {
		s.WriteByte('A' + c.Space - 1)
	}
	tier := 'L'
	if c.HighTier {
		tier = 'H'
	}
	fmt.Fprintf(&s, "%d.%x.%c%d", c.Profile, bits.Reverse32(c.Compatibility), tier, c.Level)
	for _, b := range bytes.TrimRight(c.Constraints[:], "\x00") {
		fmt.Fprintf(&s, ".%x", b)
	}
	return s.String()
}
