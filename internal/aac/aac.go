// Package aac reads and writes MPEG-4 AudioSpecificConfigs (ISO/IEC 14496-3,
// section 1.6.2.1) and ADTS headers (section 1.A.2).
//
// The parser is our own because a server must carry what it cannot decode:
// mediacommon's refuses object types other than LC and HE, channel
// configurations above 7 and backward-compatible HE signalling.
package aac

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/bits"
)

// Audio object types (table 1.17).
const (
	TypeMain = 1
	TypeLC   = 2
	TypeSBR  = 5
	TypePS   = 29
	TypeXHE  = 42
)

var rates = [13]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// A Config is what an AudioSpecificConfig says.
type Config struct {
	Type     int // audio object type of the core coder
	Rate     int // samples a second of the core coder: a frame has FrameSize of them
	Channels int // of the core coder; 0 if only the frames tell
	// ChannelConfig is the channel configuration as it is written.
	ChannelConfig int
	FrameSize     int // samples in a frame: 1024 or 960
	// SBR doubles the rate (HE-AAC), PS makes stereo of mono (HE-AAC v2). They
	// are false if the stream has them without saying so.
	SBR, PS bool
	// OutputRate and OutputChannels are what comes out of a decoder that
	// knows SBR and PS.
	OutputRate, OutputChannels int
}

var errConfig = errors.New("aac: malformed AudioSpecificConfig")

// ParseConfig parses an AudioSpecificConfig. Unknown object types are
// accepted: type, rate and channels stand before what depends on them.
func ParseConfig(b []byte) (*Config, error) {
	// Real ones have 2 to 100 bytes; the bound is for hostile ones.
	r := reader{b: b[:min(len(b), 1024)]}
	c := &Config{Type: r.objectType(), FrameSize: 1024}
	c.Rate = r.rate()
	c.ChannelConfig = r.bits(4)
	c.OutputRate = c.Rate
	if c.Type == TypeSBR || c.Type == TypePS {
		c.SBR, c.PS = true, c.Type == TypePS
		c.OutputRate = r.rate()
		if c.Type = r.objectType(); c.Type == 22 { // ER BSAC
			r.bits(4)
		}
	}
	if r.err != nil || c.Type == 0 || c.Rate <= 0 || c.OutputRate <= 0 {
		return nil, errConfig
	}
	c.Channels = channels(c.ChannelConfig)
	switch c.Type {
	case 1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23:
		r.gaSpecific(c)
		r.syncExtension(c)
	}
	c.OutputChannels = c.Channels
	if c.PS && c.Channels == 1 {
		c.OutputChannels = 2
	}
	return c, nil
}

// channels returns the number of channels of a configuration (table 1.19), 0
// for 0 and the reserved ones.
func channels(config int) int {
	return [16]int{0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8, 0}[config&15]
}

// Append appends an AudioSpecificConfig for the core coder, without SBR and PS
// signalling. The rate must be positive and less than 1<<24.
func (c *Config) Append(dst []byte) []byte {
	if i := rateIndex(c.Rate); i >= 0 {
		v := c.Type&31<<11 | i<<7 | c.ChannelConfig&15<<3
		return append(dst, byte(v>>8), byte(v))
	}
	v := uint64(c.Type&31)<<35 | 15<<31 | uint64(c.Rate&0xffffff)<<7 | uint64(c.ChannelConfig&15)<<3
	return append(dst, byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func rateIndex(rate int) int {
	for i, r := range rates {
		if r == rate {
			return i
		}
	}
	return -1
}

// ProfileName names the profile.
func (c *Config) ProfileName() string {
	switch {
	case c.PS:
		return "HE-AAC v2"
	case c.SBR:
		return "HE-AAC"
	case c.Type == TypeLC:
		return "LC"
	case c.Type == TypeMain:
		return "Main"
	case c.Type == TypeXHE:
		return "xHE-AAC"
	}
	return fmt.Sprintf("object type %d", c.Type)
}

// CodecString returns the name of RFC 6381, section 3.3, such as "mp4a.40.2".
func (c *Config) CodecString() string {
	t := c.Type
	if c.PS {
		t = TypePS
	} else if c.SBR {
		t = TypeSBR
	}
	return fmt.Sprintf("mp4a.40.%d", t)
}

// reader reads bits and keeps the first error.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) bits(n int) int {
	if n == 0 {
		return 0
	}
	v, err := bits.ReadBits(r.b, &r.pos, n)
	if err != nil {
		r.err = errConfig
	}
	return int(v)
}

func (r *reader) objectType() int {
	t := r.bits(5)
	if t == 31 {
		t = 32 + r.bits(6)
	}
	return t
}

func (r *reader) rate() int {
	i := r.bits(4)
	if i == 15 {
		return r.bits(24)
	}
	if i >= len(rates) {
		r.err = errConfig
		return 0
	}
	return rates[i]
}

// gaSpecific reads GASpecificConfig (section 4.4.1) with the channels of a
// program config element. What is missing at the end is no error: encoders
// cut it off.
func (r *reader) gaSpecific(c *Config) {
	if r.bits(1) == 1 && r.err == nil {
		c.FrameSize = 960
	}
	if r.bits(1) == 1 { // dependsOnCoreCoder
		r.bits(14)
	}
	extension := r.bits(1)
	if c.ChannelConfig == 0 && r.err == nil {
		if n := r.programConfig(); r.err == nil {
			c.Channels = n
		}
	}
	if c.Type == 6 || c.Type == 20 { // scalable
		r.bits(3)
	}
	if extension == 1 {
		if c.Type == 22 {
			r.bits(5 + 11)
		}
		if c.Type == 17 || c.Type == 19 || c.Type == 20 || c.Type == 23 {
			r.bits(3)
		}
		r.bits(1)
	}
}

// programConfig reads program_config_element (section 4.4.1.1) and returns the
// number of channels.
func (r *reader) programConfig() int {
	r.bits(4 + 2 + 4)
	front, side, back, lfe := r.bits(4), r.bits(4), r.bits(4), r.bits(2)
	data, coupling := r.bits(3), r.bits(4)
	for _, n := range [...]int{4, 4, 3} { // mono, stereo, matrix mixdown
		if r.bits(1) == 1 {
			r.bits(n)
		}
	}
	n := lfe
	for range front + side + back {
		n += 1 + r.bits(1) // a pair has two
		r.bits(4)
	}
	r.bits(4*lfe + 4*data)
	r.bits(5 * coupling)
	r.pos = (r.pos + 7) &^ 7
	for range r.bits(8) { // comment
		r.bits(8)
	}
	return n
}

// syncExtension reads backward-compatible signalling of SBR and PS behind the
// config (section 1.6.5).
func (r *reader) syncExtension(c *Config) {
	if c.SBR || r.err != nil || 8*len(r.b)-r.pos < 16 || r.bits(11) != 0x2b7 {
		return
	}
	if r.objectType() != TypeSBR || r.bits(1) == 0 {
		return
	}
	rate := r.rate()
	if r.err != nil || rate <= 0 {
		return
	}
	c.SBR, c.OutputRate = true, rate
	if 8*len(r.b)-r.pos >= 12 && r.bits(11) == 0x548 {
		c.PS = r.bits(1) == 1
	}
}
