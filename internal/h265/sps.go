package h265

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/bits"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

var errSPS = errors.New("h265: malformed sequence parameter set")

// maxSide bounds a picture's width and height; level 6.2 has 16,888 at most.
const maxSide = 1 << 15

// ProfileTierLevel is the general part of profile_tier_level() (ITU-T H.265,
// section 7.3.3).
type ProfileTierLevel struct {
	Space         byte // general_profile_space
	HighTier      bool
	Profile       byte // general_profile_idc
	Compatibility uint32
	Constraints   [6]byte
	Level         byte // general_level_idc: 30 times the level
}

// parsePTL parses 12 bytes, which are the same in an SPS and in a
// configuration record.
func parsePTL(b []byte) ProfileTierLevel {
	return ProfileTierLevel{
		Space: b[0] >> 6, HighTier: b[0]&0x20 != 0, Profile: b[0] & 0x1f,
		Compatibility: binary.BigEndian.Uint32(b[1:]),
		Constraints:   [6]byte(b[5:11]),
		Level:         b[11],
	}
}

func (p *ProfileTierLevel) append(dst []byte) []byte {
	first := p.Space<<6 | p.Profile&0x1f
	if p.HighTier {
		first |= 0x20
	}
	dst = binary.BigEndian.AppendUint32(append(dst, first), p.Compatibility)
	return append(append(dst, p.Constraints[:]...), p.Level)
}

// ProfileName names the profile (Annex A.3).
func (p *ProfileTierLevel) ProfileName() string {
	switch p.Profile {
	case 1:
		return "Main"
	case 2:
		return "Main 10"
	case 3:
		return "Main Still Picture"
	case 4:
		return "Range Extensions"
	case 5:
		return "High Throughput"
	case 9:
		return "Screen Content Coding"
	}
	return fmt.Sprintf("profile %d", p.Profile)
}

// LevelName names the level (Annex A.4), such as "4.1".
func (p *ProfileTierLevel) LevelName() string {
	if p.Level%30 == 0 {
		return fmt.Sprint(p.Level / 30)
	}
	return fmt.Sprintf("%d.%d", p.Level/30, p.Level%30/3)
}

// SPS is what a sequence parameter set says about the pictures.
type SPS struct {
	ProfileTierLevel
	TemporalLayers               byte
	TemporalNested               bool
	ID                           uint32
	ChromaFormat                 byte
	BitDepthLuma, BitDepthChroma byte
	Width, Height                int // after cropping
}

// ParseSPS parses the NAL unit of a sequence parameter set as far as the bit
// depths. (mediacommon's parser goes on to the end, but refuses sets with
// per-sub-layer levels or long-term reference pictures, which encoders with
// temporal layers write.)
func ParseSPS(unit []byte) (SPS, error) {
	if len(unit) < headerSize || Type(unit) != TypeSPS {
		return SPS{}, errSPS
	}
	// A picture's size is within the first hundred bytes; the bound keeps a
	// hostile unit from costing a copy of its size.
	b := h264.EmulationPreventionRemove(unit[headerSize:min(len(unit), 1024)])
	if len(b) < 13 {
		return SPS{}, errSPS
	}
	subLayers := int(b[0] >> 1 & 7) // beyond the first
	s := SPS{
		ProfileTierLevel: parsePTL(b[1:13]),
		TemporalLayers:   byte(subLayers + 1),
		TemporalNested:   b[0]&1 == 1,
	}
	r := reader{b: b, pos: 8 * 13}
	skip := 0
	if subLayers > 0 {
		for range subLayers {
			skip += 88 * int(r.bits(1))
			skip += 8 * int(r.bits(1))
		}
		skip += 2 * (8 - subLayers)
	}
	r.skip(skip)
	s.ID = r.golomb()
	chroma := r.golomb()
	separate := chroma == 3 && r.bits(1) == 1
	w, h := int(r.golomb()), int(r.golomb())
	if r.bits(1) == 1 { // conformance window, in chroma samples
		left, right, top, bottom := r.golomb(), r.golomb(), r.golomb(), r.golomb()
		unitX, unitY := 1, 1
		if !separate && (chroma == 1 || chroma == 2) {
			unitX = 2
		}
		if !separate && chroma == 1 {
			unitY = 2
		}
		w -= unitX * int(min(left, maxSide)+min(right, maxSide))
		h -= unitY * int(min(top, maxSide)+min(bottom, maxSide))
	}
	luma, chromaDepth := r.golomb(), r.golomb()
	if r.err != nil || s.ID > 15 || chroma > 3 || luma > 8 || chromaDepth > 8 || w <= 0 || h <= 0 || w > maxSide || h > maxSide {
		return SPS{}, errSPS
	}
	s.ChromaFormat, s.Width, s.Height = byte(chroma), w, h
	s.BitDepthLuma, s.BitDepthChroma = byte(luma+8), byte(chromaDepth+8)
	return s, nil
}

// FPS returns the frame rate that the VUI of a sequence parameter set states,
// 0 if it states none or is one of those that mediacommon refuses.
func FPS(unit []byte) float64 {
	var s h265.SPS
	if len(unit) > 4096 || s.Unmarshal(unit) != nil {
		return 0
	}
	if fps := s.FPS(); fps > 0 && fps <= 1000 {
		return fps
	}
	return 0
}

// setID returns the id of a VPS, SPS or PPS, false if it is impossible.
func setID(unit []byte) (uint32, bool) {
	if len(unit) <= headerSize {
		return 0, false
	}
	switch Type(unit) {
	case TypeVPS:
		return uint32(unit[headerSize] >> 4), true
	case TypeSPS:
		s, err := ParseSPS(unit)
		return s.ID, err == nil
	}
	r := reader{b: unit, pos: 8 * headerSize}
	id := r.golomb()
	return id, r.err == nil && id <= 63
}

// reader reads bits and keeps the first error.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) skip(n int) {
	if r.pos += n; r.pos > 8*len(r.b) {
		r.pos, r.err = 8*len(r.b), errSPS
	}
}

func (r *reader) bits(n int) uint64 {
	v, err := bits.ReadBits(r.b, &r.pos, n)
	if err != nil {
		r.err = err
	}
	return v
}

func (r *reader) golomb() uint32 {
	v, err := bits.ReadGolombUnsigned(r.b, &r.pos)
	if err != nil {
		r.err = err
	}
	return v
}
