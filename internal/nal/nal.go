// Package nal walks and converts sequences of NAL units, the layer that H.264
// (ITU-T H.264, section 7.4.1) and H.265 (ITU-T H.265, section 7.4.2) share.
//
// Inside Runnel an access unit is a run of NAL units, each behind its length
// in four bytes, big endian, as ISO/IEC 14496-15 stores it. The functions read
// peer bytes: none panics, none allocates beyond what it appends to dst.
package nal

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// LengthSize is the size of the length in front of every NAL unit.
const LengthSize = 4

// MaxUnit bounds the NAL units that the parsers of parameter sets look at:
// real ones have tens of bytes, and a length in a configuration record has 16
// bits.
const MaxUnit = 1<<16 - 1

var startCode = []byte{0, 0, 0, 1}

// Next returns the first NAL unit of b that is not empty, and what follows it.
// ok is false when there is none: at the end, then rest is empty, or because a
// length reaches past the end.
func Next(b []byte) (unit, rest []byte, ok bool) {
	for len(b) >= LengthSize {
		n := binary.BigEndian.Uint32(b)
		if uint64(n) > uint64(len(b)-LengthSize) {
			return nil, b, false
		}
		end := LengthSize + int(n)
		if n > 0 {
			return b[LengthSize:end:end], b[end:], true
		}
		b = b[LengthSize:]
	}
	return nil, b, false
}

// Units iterates over the NAL units of b that are not empty. It stops at the
// first length that reaches past the end.
func Units(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			unit, rest, ok := Next(b)
			if !ok || !yield(unit) {
				return
			}
			b = rest
		}
	}
}

// Append appends the NAL unit behind its length.
func Append(dst, unit []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(unit)))
	return append(dst, unit...)
}

// AppendResized appends the NAL units of b, whose lengths have size bytes (1
// to 4), with lengths of four bytes. With a length that reaches past the end,
// or another size, it returns dst as it was and false.
func AppendResized(dst, b []byte, size int) ([]byte, bool) {
	out := dst
	if size < 1 || size > 4 {
		return dst, false
	}
	for len(b) > 0 {
		if len(b) < size {
			return dst, false
		}
		var n uint64
		for _, c := range b[:size] {
			n = n<<8 | uint64(c)
		}
		b = b[size:]
		if n > uint64(len(b)) {
			return dst, false
		}
		out = Append(out, b[:n])
		b = b[n:]
	}
	return out, true
}

// IsAnnexB reports whether b begins with a start code of three or four bytes.
// A run of length-prefixed NAL units can begin so too, with a unit of one byte
// or of 256 to 511 bytes: ask only when it was found not to be one.
func IsAnnexB(b []byte) bool {
	return bytes.HasPrefix(b, startCode[1:]) || bytes.HasPrefix(b, startCode)
}

// AppendFromAnnexB appends the NAL units of b, a byte stream with start codes
// (ITU-T H.264 and H.265, Annex B), behind their lengths. Bytes before the
// first start code and zero bytes after a unit are dropped.
func AppendFromAnnexB(dst, b []byte) []byte {
	i := bytes.Index(b, startCode[1:])
	for i >= 0 {
		b = b[i+3:]
		i = bytes.Index(b, startCode[1:])
		unit := b
		if i >= 0 {
			unit = b[:i]
		}
		if unit = bytes.TrimRight(unit, "\x00"); len(unit) > 0 {
			dst = Append(dst, unit)
		}
	}
	return dst
}

// AppendAnnexB appends the length-prefixed NAL units of b as a byte stream
// with start codes of four bytes. It stops at the first length that reaches
// past the end.
func AppendAnnexB(dst, b []byte) []byte {
	for {
		unit, rest, ok := Next(b)
		if !ok {
			return dst
		}
		dst = append(append(dst, startCode...), unit...)
		b = rest
	}
}

// Put returns sets with unit as its first element, in place of those that same
// says it replaces. sets and unit are not modified, but the result shares
// their bytes.
func Put(sets [][]byte, unit []byte, same func(a, b []byte) bool) [][]byte {
	out := make([][]byte, 0, len(sets)+1)
	out = append(out, unit)
	for _, s := range sets {
		if !same(s, unit) {
			out = append(out, s)
		}
	}
	return out
}

// Contains reports whether unit is one of sets.
func Contains(sets [][]byte, unit []byte) bool {
	for _, s := range sets {
		if bytes.Equal(s, unit) {
			return true
		}
	}
	return false
}
