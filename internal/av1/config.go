package av1

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
)

var errConfig = errors.New("av1: malformed AV1CodecConfigurationRecord")

// A Config is an AV1CodecConfigurationRecord.
type Config struct {
	Profile      byte // seq_profile: 0 to 2
	Level        byte // seq_level_idx_0
	HighTier     bool
	BitDepth     byte // 8, 10 or 12
	Monochrome   bool
	SubsamplingX bool
	SubsamplingY bool
	ChromaPos    byte   // chroma_sample_position
	OBUs         []byte // configOBUs: the sequence header and metadata; may be empty
}

// ParseConfig parses an AV1CodecConfigurationRecord. OBUs aliases b.
func ParseConfig(b []byte) (*Config, error) {
	if len(b) < 4 || b[0] != 0x81 { // marker and version
		return nil, errConfig
	}
	c := &Config{
		Profile: b[1] >> 5, Level: b[1] & 0x1f,
		HighTier: b[2]&0x80 != 0, BitDepth: 8, Monochrome: b[2]&0x10 != 0,
		SubsamplingX: b[2]&8 != 0, SubsamplingY: b[2]&4 != 0, ChromaPos: b[2] & 3,
		OBUs: b[4:],
	}
	if c.Profile > 2 {
		return nil, errConfig
	}
	if b[2]&0x40 != 0 {
		c.BitDepth = 10
		if b[2]&0x20 != 0 {
			c.BitDepth = 12
		}
	}
	if _, ok := Inspect(c.OBUs); !ok {
		return nil, errConfig
	}
	return c, nil
}

// NewConfig returns a Config for a sequence header.
func NewConfig(seq OBU) (*Config, error) {
	h, err := parse(seq)
	if err != nil {
		return nil, err
	}
	c := &h.ColorConfig
	return &Config{
		Profile: h.SeqProfile, Level: h.SeqLevelIdx[0], HighTier: h.SeqTier[0],
		BitDepth: byte(c.BitDepth), Monochrome: c.MonoChrome,
		SubsamplingX: c.SubsamplingX, SubsamplingY: c.SubsamplingY, ChromaPos: byte(c.ChromaSamplePosition),
		OBUs: appendSized(nil, seq),
	}, nil
}

// Append appends the record.
func (c *Config) Append(dst []byte) []byte {
	flag := func(b bool, v byte) byte {
		if b {
			return v
		}
		return 0
	}
	dst = append(dst, 0x81, c.Profile<<5|c.Level&0x1f,
		flag(c.HighTier, 0x80)|flag(c.BitDepth > 8, 0x40)|flag(c.BitDepth > 10, 0x20)|flag(c.Monochrome, 0x10)|
			flag(c.SubsamplingX, 8)|flag(c.SubsamplingY, 4)|c.ChromaPos&3,
		0) // no initial presentation delay
	return append(dst, c.OBUs...)
}

// Update returns the Config of a temporal unit's sequence header if it is not
// c's; otherwise c and false. A nil c is one without a sequence header. c is
// not modified; the result aliases nothing.
func (c *Config) Update(info Info) (*Config, bool) {
	seq := info.SequenceHeader
	if seq.Raw == nil {
		return c, false
	}
	if c != nil {
		if mine, ok := Inspect(c.OBUs); ok && mine.SequenceHeader.Raw != nil && bytes.Equal(mine.SequenceHeader.Payload, seq.Payload) {
			return c, false
		}
	}
	n, err := NewConfig(seq)
	if err != nil {
		return c, false
	}
	return n, true
}

// Sequence is what a sequence header says about the pictures.
type Sequence struct {
	Width, Height int // at most
	FPS           float64
}

// Sequence returns what the record's sequence header says. It is an error if
// there is none, or one with a decoder model or display delays, which
// mediacommon does not read.
func (c *Config) Sequence() (Sequence, error) {
	info, ok := Inspect(c.OBUs)
	if !ok || info.SequenceHeader.Raw == nil {
		return Sequence{}, errors.New("av1: no sequence header")
	}
	h, err := parse(info.SequenceHeader)
	if err != nil {
		return Sequence{}, err
	}
	s := Sequence{Width: h.Width(), Height: h.Height()}
	if t := h.TimingInfo; t != nil && t.EqualPictureInterval && t.NumUnitsInDisplayTick > 0 {
		ticks := float64(t.NumTicksPerPictureMinus1) + 1
		if fps := float64(t.TimeScale) / float64(t.NumUnitsInDisplayTick) / ticks; fps > 0 && fps <= 1000 {
			s.FPS = fps
		}
	}
	return s, nil
}

func parse(seq OBU) (*av1.SequenceHeader, error) {
	var h av1.SequenceHeader
	// A sequence header has some tens of bytes; the parser wants neither a
	// size field nor an extension header.
	b := append([]byte{TypeSequenceHeader << 3}, seq.Payload[:min(len(seq.Payload), 512)]...)
	if err := h.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("av1: sequence header: %w", err)
	}
	if h.SeqProfile > 2 {
		return nil, errors.New("av1: sequence header: reserved profile")
	}
	return &h, nil
}

// CodecString returns the name of the ISO binding's section 5, in its short
// form, such as "av01.0.04M.08".
func (c *Config) CodecString() string {
	tier := 'M'
	if c.HighTier {
		tier = 'H'
	}
	return fmt.Sprintf("av01.%d.%02d%c.%02d", c.Profile, c.Level, tier, c.BitDepth)
}

// ProfileName names the profile (Annex A.2).
func (c *Config) ProfileName() string {
	switch c.Profile {
	case 0:
		return "Main"
	case 1:
		return "High"
	}
	return "Professional"
}

// LevelName names the level (Annex A.3), such as "4.1".
func (c *Config) LevelName() string {
	if c.Level == 31 {
		return "max"
	}
	return fmt.Sprintf("%d.%d", 2+c.Level>>2, c.Level&3)
}
