package flv

import "time"

// An exPacket is what the enhanced header of a tag says (Enhanced RTMP v2,
// ExAudioTagHeader and ExVideoTagHeader).
type exPacket struct {
	typ     byte
	four    string // the codec
	nano    time.Duration
	payload []byte // of the default track; nil if the tag has only others
}

// parseEx parses the body of a tag with an enhanced header. multitrack is the
// packet type that means so, which differs between audio and video. command
// says that the frame type is that of a command, which has no body.
func parseEx(body []byte, multitrack byte, command bool) (p exPacket, ok bool) {
	p.typ = body[0] & 15
	b := body[1:]
	for p.typ == exModEx {
		if len(b) == 0 {
			return p, false
		}
		size := int(b[0]) + 1
		b = b[1:]
		if size == 256 {
			if len(b) < 2 {
				return p, false
			}
			size = int(b[0])<<8 + int(b[1]) + 1
			b = b[2:]
		}
		if len(b) < size+1 {
			return p, false
		}
		if b[size]>>4 == 0 && size >= 3 { // TimestampOffsetNano
			p.nano = time.Duration(uint24(b))
		}
		p.typ = b[size] & 15
		b = b[size+1:]
	}
	if command && p.typ != exMetadata {
		return p, true
	}
	if p.typ != multitrack {
		if len(b) < 4 {
			return p, false
		}
		p.four, p.payload = fourCC(b), b[4:]
		return p, true
	}
	return p, p.parseTracks(b, multitrack)
}

// Multitrack types.
const (
	oneTrack      = 0
	manyTracks    = 1
	manyAndCodecs = 2 // every track has its own FourCC
)

// parseTracks looks for the default track, 0, in a multitrack body.
func (p *exPacket) parseTracks(b []byte, multitrack byte) bool {
	if len(b) == 0 {
		return false
	}
	kind := b[0] >> 4
	p.typ = b[0] & 15
	b = b[1:]
	if p.typ == multitrack || p.typ == exModEx || kind > manyAndCodecs {
		return false
	}
	if kind != manyAndCodecs {
		if len(b) < 4 {
			return false
		}
		p.four, b = fourCC(b), b[4:]
	}
	for len(b) > 0 { // each turn takes a byte at least
		four := p.four
		if kind == manyAndCodecs {
			if len(b) < 4 {
				return false
			}
			four, b = fourCC(b), b[4:]
			if len(b) == 0 {
				return false
			}
		}
		id := b[0]
		b = b[1:]
		size := len(b)
		if kind != oneTrack {
			if len(b) < 3 || uint24(b) > len(b)-3 {
				return false
			}
			size, b = uint24(b), b[3:]
		}
		if id == 0 {
			p.four, p.payload = four, b[:size:size]
			return true
		}
		b = b[size:]
	}
	return true
}

// fourCC returns the first four bytes; known codes cost no allocation.
func fourCC(b []byte) string {
	switch string(b[:4]) {
	case fourAVC:
		return fourAVC
	case fourHEVC:
		return fourHEVC
	case fourAV1:
		return fourAV1
	case fourVP8:
		return fourVP8
	case fourVP9:
		return fourVP9
	case fourAAC:
		return fourAAC
	case fourMP3:
		return fourMP3
	case fourOpus:
		return fourOpus
	case fourAC3:
		return fourAC3
	}
	return string(b[:4])
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// int24 reads a signed number: a composition time may be negative.
func int24(b []byte) int32 { return int32(uint24(b)<<8) >> 8 }
