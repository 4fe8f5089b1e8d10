// Package av1 reads what a media server must know of AV1 (AV1 Bitstream &
// Decoding Process Specification) and its AV1CodecConfigurationRecord (AV1
// Codec ISO Media File Format Binding, section 2.3). Sequence headers are
// parsed by mediacommon.
//
// Inside Runnel a temporal unit is a run of OBUs that all have a size field,
// without the temporal delimiter.
package av1

import "math"

// Types of OBUs (section 6.2.2).
const (
	TypeSequenceHeader    = 1
	TypeTemporalDelimiter = 2
	TypeFrameHeader       = 3
	TypeTileGroup         = 4
	TypeMetadata          = 5
	TypeFrame             = 6
)

// An OBU is one open bitstream unit.
type OBU struct {
	Type    byte
	Sized   bool   // it has a size field
	Raw     []byte // with header and size field
	Payload []byte
}

// Next returns the first OBU of b and what follows it. One without a size
// field takes all of b. ok is false at the end and if an OBU reaches past it.
func Next(b []byte) (o OBU, rest []byte, ok bool) {
	if len(b) == 0 || b[0]&0x80 != 0 {
		return o, b, false
	}
	o.Type, o.Sized = b[0]>>3&15, b[0]&2 != 0
	head := 1
	if b[0]&4 != 0 { // extension header
		head = 2
	}
	if len(b) < head {
		return OBU{}, b, false
	}
	if !o.Sized {
		o.Raw, o.Payload = b, b[head:]
		return o, nil, true
	}
	size, n := LEB128(b[head:])
	if n == 0 || size > uint64(len(b)-head-n) {
		return OBU{}, b, false
	}
	head += n
	end := head + int(size)
	o.Raw, o.Payload = b[:end:end], b[head:end:end]
	return o, b[end:], true
}

// LEB128 reads a number (section 4.10.5) and returns its size, 0 if there is
// none.
func LEB128(b []byte) (v uint64, n int) {
	for i := range min(len(b), 8) {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			if v > math.MaxUint32 {
				return 0, 0
			}
			return v, i + 1
		}
	}
	return 0, 0
}

// AppendLEB128 appends a number as LEB128 reads it.
func AppendLEB128(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// Info is what Inspect finds in a temporal unit.
type Info struct {
	Frame          bool // there is a frame
	SequenceHeader OBU  // the first one; Raw is nil if there is none
	clean          bool // no temporal delimiter, all OBUs have sizes
}

// Inspect walks over a temporal unit. ok is false if an OBU reaches past its
// end.
func Inspect(tu []byte) (info Info, ok bool) {
	info.clean = true
	for len(tu) > 0 {
		o, rest, ok := Next(tu)
		if !ok {
			return info, false
		}
		switch o.Type {
		case TypeSequenceHeader:
			if info.SequenceHeader.Raw == nil {
				info.SequenceHeader = o
			}
		case TypeTemporalDelimiter:
			info.clean = false
		case TypeFrame, TypeFrameHeader:
			info.Frame = true
		}
		info.clean = info.clean && o.Sized
		tu = rest
	}
	return info, true
}

// Normalize returns a temporal unit that Inspect has accepted in Runnel's
// form: tu itself or a part of it where that is possible.
func Normalize(tu []byte, info Info) []byte {
	if info.clean {
		return tu
	}
	if o, rest, ok := Next(tu); ok && o.Type == TypeTemporalDelimiter { // what most senders that have one do
		if info, ok := Inspect(rest); ok && info.clean {
			return rest
		}
	}
	out := make([]byte, 0, len(tu)+8)
	for {
		o, rest, ok := Next(tu)
		if !ok {
			return out
		}
		if o.Type != TypeTemporalDelimiter {
			out = appendSized(out, o)
		}
		tu = rest
	}
}

// appendSized appends an OBU with a size field.
func appendSized(dst []byte, o OBU) []byte {
	if o.Sized {
		return append(dst, o.Raw...)
	}
	dst = append(dst, o.Raw[0]|2)
	dst = append(dst, o.Raw[1:len(o.Raw)-len(o.Payload)]...)
	return append(AppendLEB128(dst, uint64(len(o.Payload))), o.Payload...)
}
