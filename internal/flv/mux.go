package flv

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/stream"
)

// Sizes of the parts of an FLV file around the bodies of its tags.
const (
	FileHeaderSize = 9 + 4
	TagHeaderSize  = 11
	TagEndSize     = 4

	// MaxFrameHeaderSize is the most that AppendFrameHeader appends.
	MaxFrameHeaderSize = 8
)

// Options choose between dialects. The zero value writes H.264 and AAC in the
// legacy form, which every player knows, and what has no legacy form in that
// of Enhanced RTMP.
type Options struct {
	// LegacyHEVC writes H.265 under codec id 12, as old players in China
	// expect it.
	LegacyHEVC bool
}

// AppendConfigBody is Options.AppendConfigBody with the zero Options.
func AppendConfigBody(dst []byte, t *stream.Track) ([]byte, error) {
	return Options{}.AppendConfigBody(dst, t)
}

// AppendConfigBody appends the body of the track's sequence header. It returns
// nil, nil if the codec has none or the configuration is not known yet; an
// error that wraps stream.ErrUnsupported if FLV can't carry the track.
func (o Options) AppendConfigBody(dst []byte, t *stream.Track) ([]byte, error) {
	if err := supported(t); err != nil {
		return nil, err
	}
	config := t.Config
	switch t.Codec {
	case stream.VP9:
		if len(config) == 0 {
			config = vpx.Default().Append(nil)
		}
	case stream.Opus:
		if len(config) == 0 {
			config = opus.DefaultHead(t.Channels).Append(nil)
		}
	case stream.AC3: // an empty one tells players that audio will come
	default:
		if len(config) == 0 {
			return nil, nil
		}
	}
	switch t.Codec {
	case stream.H264:
		dst = append(dst, frameKey<<4|videoAVC, legacyConfig, 0, 0, 0)
	case stream.H265:
		if o.LegacyHEVC {
			dst = append(dst, frameKey<<4|videoHEVC, legacyConfig, 0, 0, 0)
		} else {
			dst = append(append(dst, exVideo|frameKey<<4|exConfig), fourHEVC...)
		}
	case stream.AV1:
		dst = append(append(dst, exVideo|frameKey<<4|exConfig), fourAV1...)
	case stream.VP9: // with the version and flags of the box, as ffmpeg and others write and read it
		dst = append(append(dst, exVideo|frameKey<<4|exConfig), fourVP9...)
		dst = append(dst, 1, 0, 0, 0)
	case stream.AAC:
		dst = append(dst, legacyAAC, legacyConfig)
	case stream.Opus:
		dst = append(append(dst, audioEx<<4|exConfig), fourOpus...)
	case stream.AC3:
		return append(append(dst, audioEx<<4|exConfig), fourAC3...), nil
	default: // VP8, MP3, G.711
		return nil, nil
	}
	return append(dst, config...), nil
}

// legacyAAC is the first byte of AAC: the rate and channel bits have to be
// these whatever the configuration says.
const legacyAAC = audioAAC<<4 | 3<<2 | 1<<1 | 1

// supported reports whether FLV can carry the track.
func supported(t *stream.Track) error {
	switch t.Codec {
	case stream.H264, stream.H265, stream.AV1, stream.VP8, stream.VP9,
		stream.AAC, stream.MP3, stream.Opus, stream.AC3, stream.AMF0:
		return nil
	case stream.PCMA, stream.PCMU:
		if (t.Rate == 0 || t.Rate == 8000) && t.Channels <= 2 {
			return nil
		}
		return fmt.Errorf("flv: %v of %d Hz and %d channels: %w", t.Codec, t.Rate, t.Channels, stream.ErrUnsupported)
	}
	return fmt.Errorf("flv: %v: %w", t.Codec, stream.ErrUnsupported)
}

// AppendFrameHeader is Options.AppendFrameHeader with the zero Options.
func AppendFrameHeader(dst []byte, f *stream.Frame) ([]byte, error) {
	return Options{}.AppendFrameHeader(dst, f)
}

// AppendFrameHeader appends the bytes of the body that stand before f.Data,
// which the caller appends. It is an error that wraps stream.ErrUnsupported if
// FLV can't carry the track. It does not allocate if dst has room for
// MaxFrameHeaderSize bytes.
func (o Options) AppendFrameHeader(dst []byte, f *stream.Frame) ([]byte, error) {
	if err := supported(f.Track); err != nil {
		return dst, err
	}
	kind := byte(frameInter << 4)
	if f.Key {
		kind = frameKey << 4
	}
	switch f.Track.Codec {
	case stream.H264:
		return appendCTS(append(dst, kind|videoAVC, legacyFrame), f), nil
	case stream.H265:
		if o.LegacyHEVC {
			return appendCTS(append(dst, kind|videoHEVC, legacyFrame), f), nil
		}
		if compositionTime(f) == 0 {
			return append(append(dst, exVideo|kind|exFrameX), fourHEVC...), nil
		}
		return appendCTS(append(append(dst, exVideo|kind|exFrame), fourHEVC...), f), nil
	case stream.AV1:
		return append(append(dst, exVideo|kind|exFrame), fourAV1...), nil
	case stream.VP8:
		return append(append(dst, exVideo|kind|exFrame), fourVP8...), nil
	case stream.VP9:
		return append(append(dst, exVideo|kind|exFrame), fourVP9...), nil
	case stream.AAC:
		return append(dst, legacyAAC, legacyFrame), nil
	case stream.Opus:
		return append(append(dst, audioEx<<4|exFrame), fourOpus...), nil
	case stream.AC3:
		return append(append(dst, audioEx<<4|exFrame), fourAC3...), nil
	case stream.MP3:
		return append(dst, mp3Header(f.Track)), nil
	case stream.PCMA:
		return append(dst, audioPCMA<<4|1<<1|stereo(f.Track)), nil
	case stream.PCMU:
		return append(dst, audioPCMU<<4|1<<1|stereo(f.Track)), nil
	}
	return dst, nil // AMF0 stands for itself
}

// mp3Header returns the first byte of MP3; rates that it has no bits for are
// in the frames' own headers.
func mp3Header(t *stream.Track) byte {
	id, rate := byte(audioMP3), byte(3)
	switch {
	case t.Rate == 8000:
		id = audioMP38k
	case t.Rate == 0:
	case t.Rate <= 5512:
		rate = 0
	case t.Rate <= 11025:
		rate = 1
	case t.Rate <= 22050:
		rate = 2
	}
	return id<<4 | rate<<2 | 1<<1 | stereo(t)
}

func stereo(t *stream.Track) byte {
	if t.Channels == 1 {
		return 0
	}
	return 1
}

// Timestamp returns a frame's timestamp as tags carry it: milliseconds in 32
// bits that wrap around, 0 for times before the start.
func Timestamp(f *stream.Frame) uint32 { return uint32(timestamp(f.DTS)) }

func timestamp(dts time.Duration) int64 { return max(stream.Ticks(dts, 1000), 0) }

// compositionTime returns the milliseconds from decoding to presentation,
// clamped to the 24 bits that they have.
func compositionTime(f *stream.Frame) int32 {
	return int32(min(max(stream.Ticks(f.PTS, 1000)-timestamp(f.DTS), -1<<23), 1<<23-1))
}

func appendCTS(dst []byte, f *stream.Frame) []byte {
	c := compositionTime(f)
	return append(dst, byte(c>>16), byte(c>>8), byte(c))
}

// AppendFileHeader appends the header of an FLV file and the size of the tag
// before the first, FileHeaderSize bytes.
func AppendFileHeader(dst []byte, audio, video bool) []byte {
	flags := byte(0)
	if audio {
		flags |= 4
	}
	if video {
		flags |= 1
	}
	return append(dst, 'F', 'L', 'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0)
}

// AppendTagHeader appends the header of a tag whose body has size bytes, at
// most MaxTagSize.
func AppendTagHeader(dst []byte, typ byte, ts uint32, size int) []byte {
	return append(dst, typ, byte(size>>16), byte(size>>8), byte(size),
		byte(ts>>16), byte(ts>>8), byte(ts), byte(ts>>24), 0, 0, 0)
}

// AppendTagEnd appends what follows the body of a tag: the tag's size.
func AppendTagEnd(dst []byte, size int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(size+TagHeaderSize))
}

// AppendTag appends a whole tag with the body header ++ payload. It is an
// error if that is larger than MaxTagSize.
func AppendTag(dst []byte, typ byte, ts uint32, header, payload []byte) ([]byte, error) {
	size := len(header) + len(payload)
	if size > MaxTagSize {
		return dst, fmt.Errorf("flv: a tag can't have %d bytes", size)
	}
	dst = AppendTagHeader(dst, typ, ts, size)
	dst = append(append(dst, header...), payload...)
	return AppendTagEnd(dst, size), nil
}

// AppendFrameTag appends the whole tag of a frame. It does not allocate if dst
// has room.
func (o Options) AppendFrameTag(dst []byte, f *stream.Frame) ([]byte, error) {
	var buf [MaxFrameHeaderSize]byte
	header, err := o.AppendFrameHeader(buf[:0], f)
	if err != nil {
		return dst, err
	}
	return AppendTag(dst, TagType(f.Track), Timestamp(f), header, f.Data)
}
