// Package mp3 reads the headers of MPEG audio frames (ISO/IEC 11172-3, section
// 2.4.1.3, ISO/IEC 13818-3 and the common MPEG 2.5 extension). mediacommon's
// reader has no MPEG 2.5, in which FLV's 11 kHz and 8 kHz MP3 is coded.
package mp3

import "errors"

// HeaderSize is the size of a frame's header.
const HeaderSize = 4

// A Header is what the header of a layer II or III frame says.
type Header struct {
	Layer    int // 2 or 3
	Rate     int // samples a second
	Channels int
	Bitrate  int // bits a second
	Size     int // of the frame in bytes, with the header
	Samples  int // in the frame
}

var bitrates = [3][15]int{
	{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384}, // MPEG 1, layer II
	{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},  // MPEG 1, layer III
	{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},      // MPEG 2 and 2.5
}

// Parse parses the header at the start of b. Layer I and free format are
// errors.
func Parse(b []byte) (Header, error) {
	if len(b) < HeaderSize || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return Header{}, errors.New("mp3: no frame header")
	}
	version := b[1] >> 3 & 3 // 0: 2.5, 2: 2, 3: 1
	layer := 4 - int(b[1]>>1&3)
	rate, speed := b[2]>>4, b[2]>>2&3
	if version == 1 || layer != 2 && layer != 3 || rate == 0 || rate == 15 || speed == 3 {
		return Header{}, errors.New("mp3: malformed frame header")
	}
	h := Header{Layer: layer, Channels: 2, Samples: 1152, Rate: [3]int{44100, 48000, 32000}[speed]}
	if b[3]>>6 == 3 {
		h.Channels = 1
	}
	table := layer - 2
	if version != 3 {
		table = 2
		h.Rate /= 2
		if version == 0 {
			h.Rate /= 2
		}
		if layer == 3 {
			h.Samples = 576
		}
	}
	h.Bitrate = 1000 * bitrates[table][rate]
	h.Size = h.Samples/8*h.Bitrate/h.Rate + int(b[2]>>1&1)
	return h, nil
}
