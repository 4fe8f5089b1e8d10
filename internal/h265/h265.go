// Package h265 reads what a media server must know of H.265 (ITU-T H.265) and
// its HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 8.3.3): where
// decoding can start, what may be left out, parameter sets, size and profile.
package h265

import "github.com/runnel-media/runnel/internal/nal"

// Types of NAL units (ITU-T H.265, table 7-1).
const (
	TypeBLAWLP  = 16 // the first of the types of IRAP pictures
	TypeIDRWRAD = 19
	TypeCRA     = 21
	TypeIRAP23  = 23 // the last
	TypeVPS     = 32
	TypeSPS     = 33
	TypePPS     = 34
	TypeAUD     = 35
	TypeSEI     = 39 // before the picture
)

// headerSize is the size of a NAL unit's header.
const headerSize = 2

// Type returns the type of a NAL unit that is not empty.
func Type(unit []byte) byte { return unit[0] >> 1 & 0x3f }

// Info is what Inspect finds in an access unit.
type Info struct {
	Picture       bool // there is a slice
	Key           bool // there is a slice of an IRAP picture
	NonReference  bool // no slice is referred to by pictures of its temporal sub-layer
	Temporal      byte // the temporal sub-layer
	ParameterSets bool // there is a VPS, SPS or PPS
}

// Inspect walks over an access unit of NAL units behind 4-byte lengths. ok is
// false if a length reaches past the end.
func Inspect(au []byte) (info Info, ok bool) {
	referred := false
	for {
		unit, rest, more := nal.Next(au)
		if !more {
			info.NonReference = info.Picture && !referred
			return info, len(rest) == 0
		}
		switch t := Type(unit); {
		case t < TypeVPS:
			info.Picture = true
			info.Key = info.Key || t >= TypeBLAWLP && t <= TypeIRAP23
			referred = referred || t > 14 || t&1 == 1 // sub-layer non-reference pictures: 0, 2, … 14
			if len(unit) >= headerSize && unit[1]&7 > 0 {
				info.Temporal = unit[1]&7 - 1
			}
		case t <= TypePPS:
			info.ParameterSets = true
		}
		au = rest
	}
}
