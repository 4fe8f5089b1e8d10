package transcode

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/thesyncim/gopus"

	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

// Opus is the codec of RFC 6716, mono and stereo, in packets of 20 ms.
type Opus struct {
	BitRate int // bits a second; 0: 96000 of stereo, 64000 of mono

	// Complexity is from 1, the least work, to 10; 0: 5. Stereo music takes 16 ms
	// of CPU a second at 5, 22 at 10, and sounds as well.
	Complexity int
}

const (
	opusFrame  = 960  // samples of 20 ms
	opusLonger = 5760 // samples of 120 ms, the longest packet
	opusPacket = 1500 // bytes, more than one of 20 ms takes at 510 kbit/s
)

// NewDecoder implements Codec.
func (Opus) NewDecoder(t *stream.Track) (Decoder, error) {
	channels, gain := cmp.Or(t.Channels, 2), int16(0)
	if len(t.Config) > 0 {
		head, err := opus.ParseHead(t.Config)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", stream.ErrUnsupported, err)
		}
		channels, gain = head.Channels, head.Gain
		if head.Family != 0 && (head.Streams != 1 || channels > 2) {
			return nil, unsupported("Opus with %d streams", head.Streams)
		}
	}
	if channels > 2 {
		return nil, unsupported("Opus with %d channels", channels)
	}
	d, err := gopus.NewDecoder(gopus.DefaultDecoderConfig(opus.Rate, channels))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", stream.ErrUnsupported, err)
	}
	if err := d.SetGain(int(gain)); err != nil {
		return nil, fmt.Errorf("%w: %w", stream.ErrUnsupported, err)
	}
	return &opusDecoder{d: d, channels: channels}, nil
}

type opusDecoder struct {
	d        *gopus.Decoder
	channels int
}

func (d *opusDecoder) Format() Format { return Format{opus.Rate, d.channels} }
func (d *opusDecoder) Reset()         { d.d.Reset() }
func (d *opusDecoder) Close()         {}

func (d *opusDecoder) Decode(dst []float32, packet []byte) ([]float32, error) {
	if opus.Samples(packet) == 0 {
		return dst, errMalformed // an empty one would be taken for one that is lost
	}
	dst = slices.Grow(dst, opusLonger*d.channels)
	room := dst[len(dst) : len(dst)+opusLonger*d.channels]
	n, err := d.d.Decode(packet, room)
	if err != nil {
		return dst, err
	}
	return dst[:len(dst)+n*d.channels], nil
}

// Conceal goes on from what was heard, ever softer (RFC 6716, section 4.4).
func (d *opusDecoder) Conceal(dst []float32, samples int) []float32 {
	want := len(dst) + samples*d.channels
	dst = slices.Grow(dst, max(samples, opusLonger)*d.channels+opusLonger*d.channels)
	for len(dst) < want {
		n, err := d.d.Decode(nil, dst[len(dst):len(dst)+opusLonger*d.channels])
		if err != nil || n <= 0 {
			break
		}
		dst = dst[:len(dst)+n*d.channels]
	}
	if len(dst) >= want {
		return dst[:want]
	}
	from := len(dst)
	dst = dst[:want]
	clear(dst[from:])
	return dst
}

// NewEncoder implements Codec.
func (o Opus) NewEncoder(pcm Format) (Encoder, error) {
	if pcm.Channels < 1 || pcm.Channels > 2 {
		return nil, unsupported("Opus with %d channels", pcm.Channels)
	}
	e, err := gopus.NewEncoder(gopus.EncoderConfig{
		SampleRate: opus.Rate, Channels: pcm.Channels, Application: gopus.ApplicationAudio,
	})
	if err != nil {
		return nil, err
	}
	bitRate := cmp.Or(o.BitRate, 32000+32000*pcm.Channels)
	if err := cmp.Or(e.SetBitrate(bitRate), e.SetComplexity(cmp.Or(o.Complexity, 5)), e.SetFrameSize(opusFrame)); err != nil {
		return nil, err
	}
	return &opusEncoder{e: e, channels: pcm.Channels}, nil
}

type opusEncoder struct {
	e        *gopus.Encoder
	channels int
}

func (e *opusEncoder) Format() Format { return Format{opus.Rate, e.channels} }
func (e *opusEncoder) FrameSize() int { return opusFrame }
func (e *opusEncoder) Delay() int     { return e.e.Lookahead() }
func (e *opusEncoder) Reset()         { e.e.Reset() }
func (e *opusEncoder) Close()         {}

func (e *opusEncoder) Track() *stream.Track {
	head := opus.DefaultHead(e.channels)
	head.PreSkip = uint16(e.Delay())
	return &stream.Track{Codec: stream.Opus, Rate: opus.Rate, Channels: e.channels, Config: head.Append(nil)}
}

func (e *opusEncoder) Encode(dst []byte, pcm []float32) ([]byte, error) {
	dst = slices.Grow(dst, opusPacket)
	n, err := e.e.Encode(pcm, dst[len(dst):len(dst)+opusPacket])
	if err != nil {
		return dst, err
	}
	return dst[:len(dst)+n], nil
}
