// Package h264 reads what a media server must know of H.264 (ITU-T H.264) and
// its AVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 5.3.3): where
// decoding can start, what may be left out, parameter sets, size and profile.
// Sequence parameter sets are parsed by mediacommon.
package h264

import "github.com/runnel-media/runnel/internal/nal"

// Types of NAL units (ITU-T H.264, table 7-1).
const (
	TypeSlice  = 1
	TypeIDR    = 5
	TypeSEI    = 6
	TypeSPS    = 7
	TypePPS    = 8
	TypeAUD    = 9
	TypeSPSExt = 13
)

// Type returns the type of a NAL unit that is not empty.
func Type(unit []byte) byte { return unit[0] & 0x1f }

// Info is what Inspect finds in an access unit.
type Info struct {
	Picture       bool // there is a slice
	Key           bool // there is a slice of an IDR picture
	Discardable   bool // no slice is referred to by other pictures
	ParameterSets bool // there is an SPS or a PPS
}

// Inspect walks over an access unit of NAL units behind 4-byte lengths. ok is
// false if a length reaches past the end.
func Inspect(au []byte) (info Info, ok bool) {
	referred := false
	for {
		unit, rest, more := nal.Next(au)
		if !more {
			info.Discardable = info.Picture && !referred
			return info, len(rest) == 0
		}
		switch t := Type(unit); {
		case t >= TypeSlice && t <= TypeIDR:
			info.Picture = true
			info.Key = info.Key || t == TypeIDR
			referred = referred || unit[0]&0x60 != 0 // nal_ref_idc
		case t == TypeSPS || t == TypePPS:
			info.ParameterSets = true
		}
		au = rest
	}
}
