package aac

import (
	"errors"
	"fmt"
)

// ADTSHeaderSize is the size of the header that AppendADTS writes.
const ADTSHeaderSize = 7

// maxADTSFrame bounds header and frame: the length has 13 bits.
const maxADTSFrame = 1<<13 - 1

// AppendADTS appends the header for a frame of size bytes, which the caller
// appends next. It is an error if ADTS has no room for the size, the rate, the
// object type (1 to 4) or the channel configuration (0 to 7).
func (c *Config) AppendADTS(dst []byte, size int) ([]byte, error) {
	n, i := size+ADTSHeaderSize, rateIndex(c.Rate)
	if size < 0 || n > maxADTSFrame || i < 0 || c.Type < 1 || c.Type > 4 || c.ChannelConfig > 7 {
		return dst, fmt.Errorf("aac: ADTS has no room for %d bytes of object type %d, %d Hz, channel configuration %d",
			size, c.Type, c.Rate, c.ChannelConfig)
	}
	return append(dst, 0xff, 0xf1, // MPEG-4, no CRC
		byte(c.Type-1)<<6|byte(i)<<2|byte(c.ChannelConfig>>2),
		byte(c.ChannelConfig)<<6|byte(n>>11), byte(n>>3), byte(n)<<5|0x1f, 0xfc), nil
}

// ParseADTS parses the header in front of a frame. head is its size, 7 or 9
// bytes, and size that of header and frame; b need only hold the header. An
// ADTS frame with more than one raw data block is an error.
func ParseADTS(b []byte) (c Config, head, size int, err error) {
	if len(b) < ADTSHeaderSize || b[0] != 0xff || b[1]&0xf6 != 0xf0 {
		return Config{}, 0, 0, errors.New("aac: no ADTS header")
	}
	head = ADTSHeaderSize
	if b[1]&1 == 0 { // a CRC follows
		head += 2
	}
	size = int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5])>>5
	i := int(b[2] >> 2 & 15)
	if i >= len(rates) || size < head || b[6]&3 != 0 {
		return Config{}, 0, 0, errors.New("aac: malformed ADTS header")
	}
	c.Type, c.Rate = int(b[2]>>6)+1, rates[i]
	c.ChannelConfig = int(b[2]&1)<<2 | int(b[3]>>6)
	c.FrameSize, c.Channels = 1024, channels(c.ChannelConfig)
	c.OutputRate, c.OutputChannels = c.Rate, c.Channels
	return c, head, size, nil
}
