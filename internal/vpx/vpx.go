// Package vpx reads what a media server must know of VP8 (RFC 6386) and VP9
// (VP9 Bitstream & Decoding Process Specification) and builds the
// VPCodecConfigurationRecord (VP Codec ISO Media File Format Binding). VP9
// headers are parsed by mediacommon.
package vpx

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/vp9"
)

// VP8Key reports whether a VP8 frame is a key frame, and its size if so (RFC
// 6386, section 9.1).
func VP8Key(frame []byte) (width, height int, ok bool) {
	if len(frame) < 10 || frame[0]&1 != 0 || string(frame[3:6]) != "\x9d\x01\x2a" {
		return 0, 0, false
	}
	width = int(frame[7]&0x3f)<<8 | int(frame[6])
	height = int(frame[9]&0x3f)<<8 | int(frame[8])
	return width, height, width > 0 && height > 0
}

// VP9Key reports whether a VP9 frame, or the first of a superframe, is a key
// frame (section 6.2).
func VP9Key(frame []byte) bool {
	if len(frame) < 2 || frame[0]>>6 != 2 {
		return false
	}
	at := 3 // show_existing_frame
	if frame[0]&0x30 == 0x30 {
		at = 2 // profile 3 has a reserved bit before it
	}
	return frame[0]>>at&1 == 0 && frame[0]>>(at-1)&1 == 0 // and frame_type
}

// VP9Size returns the size of a VP9 key frame.
func VP9Size(frame []byte) (width, height int, ok bool) {
	var h vp9.Header
	if !VP9Key(frame) || h.Unmarshal(frame) != nil {
		return 0, 0, false
	}
	return h.Width(), h.Height(), true
}

// A Config is a VPCodecConfigurationRecord, without the version and flags of
// the box around it.
type Config struct {
	Profile   byte // 0 to 3
	Level     byte // 10 times the level, 0 unknown
	BitDepth  byte // 8, 10 or 12
	Chroma    byte // 0, 1: 4:2:0; 2: 4:2:2; 3: 4:4:4
	FullRange bool
	// As in ISO/IEC 23091-2; 2 is unspecified.
	Primaries, Transfer, Matrix byte
}

// recordSize is the size of a record; VP8 and VP9 have no codec
// initialization data behind it.
const recordSize = 8

// ParseConfig parses a VPCodecConfigurationRecord, also behind the four bytes
// of the box's version and flags, which some senders write.
func ParseConfig(b []byte) (*Config, error) {
	if len(b) >= recordSize+4 && string(b[:4]) == "\x01\x00\x00\x00" {
		b = b[4:]
	}
	if len(b) < recordSize {
		return nil, errors.New("vpx: malformed VPCodecConfigurationRecord")
	}
	c := &Config{
		Profile: b[0], Level: b[1], BitDepth: b[2] >> 4, Chroma: b[2] >> 1 & 7, FullRange: b[2]&1 != 0,
		Primaries: b[3], Transfer: b[4], Matrix: b[5],
	}
	if c.Profile > 3 || c.BitDepth != 8 && c.BitDepth != 10 && c.BitDepth != 12 {
		return nil, errors.New("vpx: malformed VPCodecConfigurationRecord")
	}
	return c, nil
}

// Append appends the record.
func (c *Config) Append(dst []byte) []byte {
	full := byte(0)
	if c.FullRange {
		full = 1
	}
	return append(dst, c.Profile, c.Level, c.BitDepth<<4|c.Chroma&7<<1|full, c.Primaries, c.Transfer, c.Matrix, 0, 0)
}

// Default returns what is assumed of a VP8 or VP9 stream before its first key
// frame: profile 0, 8 bits, 4:2:0.
func Default() *Config {
	return &Config{Level: 10, BitDepth: 8, Chroma: 1, Primaries: 2, Transfer: 2, Matrix: 2}
}

// maxPictures are the largest luma picture sizes of VP9's levels.
var maxPictures = [...]struct {
	samples int
	level   byte
}{
	{36864, 10}, {73728, 11}, {122880, 20}, {245760, 21}, {552960, 30}, {983040, 31}, {2228224, 40}, {8912896, 50}, {35651584, 60},
}

// NewConfig returns a Config for a VP9 key frame. The level is the lowest that
// allows the size.
func NewConfig(key []byte) (*Config, error) {
	var h vp9.Header
	if !VP9Key(key) || h.Unmarshal(key) != nil || h.ColorConfig == nil || h.FrameSize == nil {
		return nil, errors.New("vpx: not a VP9 key frame")
	}
	c := Default()
	c.Profile, c.BitDepth, c.Chroma = h.Profile, h.ColorConfig.BitDepth, h.ChromaSubsampling()
	c.FullRange = h.ColorConfig.ColorRange
	c.Level = 62
	for _, m := range maxPictures {
		if h.Width()*h.Height() <= m.samples {
			c.Level = m.level
			break
		}
	}
	return c, nil
}

// Fits reports whether a decoder set up for c can decode what o describes.
func (c *Config) Fits(o *Config) bool {
	return c.Profile == o.Profile && c.BitDepth == o.BitDepth && max(c.Chroma, 1) == max(o.Chroma, 1)
}

// CodecString returns the name of the binding's section on codecs parameters,
// in its short form, such as "vp09.00.31.08".
func (c *Config) CodecString() string {
	return fmt.Sprintf("vp09.%02d.%02d.%02d", c.Profile, c.Level, c.BitDepth)
}

// LevelName names the level, such as "3.1"; "" if it is unknown.
func (c *Config) LevelName() string {
	if c.Level == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", c.Level/10, c.Level%10)
}
