// Package opus reads and writes the identification header of Opus streams (RFC
// 7845, section 5.1) and reads what a packet's first byte tells (RFC 6716,
// section 3.1).
package opus

import (
	"encoding/binary"
	"errors"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"
)

// Rate is the rate of every Opus clock, samples a second.
const Rate = 48000

const (
	magic    = "OpusHead"
	headSize = 19
)

// A Head is an identification header, "OpusHead". Its numbers are little
// endian, other than in MP4's dOps box, which mediacommon's type is for.
type Head struct {
	Channels  int    // 1 to 255
	PreSkip   uint16 // samples of 48 kHz to drop at the start
	InputRate uint32 // of what was encoded, 0 unknown
	Gain      int16  // to apply, in 1/256 dB
	Family    byte   // channel mapping family
	// Streams, Coupled and Mapping (one byte a channel) are the channel
	// mapping table of families other than 0.
	Streams, Coupled byte
	Mapping          []byte
}

// ParseHead parses an identification header. Mapping aliases b.
func ParseHead(b []byte) (*Head, error) {
	if len(b) < headSize || string(b[:8]) != magic || b[8]&0xf0 != 0 {
		return nil, errors.New("opus: malformed identification header")
	}
	h := &Head{
		Channels:  int(b[9]),
		PreSkip:   binary.LittleEndian.Uint16(b[10:]),
		InputRate: binary.LittleEndian.Uint32(b[12:]),
		Gain:      int16(binary.LittleEndian.Uint16(b[16:])),
		Family:    b[18],
	}
	if h.Channels == 0 || h.Family == 0 && h.Channels > 2 {
		return nil, errors.New("opus: bad number of channels")
	}
	if h.Family != 0 {
		table := b[headSize:]
		if len(table) < 2+h.Channels || table[0] == 0 || table[1] > table[0] {
			return nil, errors.New("opus: malformed channel mapping table")
		}
		h.Streams, h.Coupled, h.Mapping = table[0], table[1], table[2:2+h.Channels]
	}
	return h, nil
}

// Append appends the header.
func (h *Head) Append(dst []byte) []byte {
	dst = append(append(dst, magic...), 1, byte(h.Channels))
	dst = binary.LittleEndian.AppendUint16(dst, h.PreSkip)
	dst = binary.LittleEndian.AppendUint32(dst, h.InputRate)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.Gain))
	dst = append(dst, h.Family)
	if h.Family != 0 {
		dst = append(append(dst, h.Streams, h.Coupled), h.Mapping...)
	}
	return dst
}

// DefaultHead returns the header of a stream of 1 or 2 channels that came
// without one. 312 samples is the look-ahead of the reference encoder.
func DefaultHead(channels int) *Head {
	return &Head{Channels: min(max(channels, 1), 2), PreSkip: 312, InputRate: Rate}
}

// Samples returns the duration of a packet in samples of 48 kHz, 0 if it is
// malformed or longer than the 120 ms that a packet may have.
func Samples(packet []byte) int {
	n := opus.PacketDuration2(packet)
	if n > Rate*120/1000 {
		return 0
	}
	return int(n)
}

// Stereo reports whether a packet that is not empty codes two channels.
func Stereo(packet []byte) bool { return packet[0]&4 != 0 }
