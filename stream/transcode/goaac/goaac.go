// Package goaac is AAC-LC for transcode.Audio, mono and stereo, by
// github.com/tphakala/go-aac, which comes from FFmpeg's codec.
//
// # License
//
// That module is under the LGPL, version 2.1 or later, and so is every program that
// is linked with it in part: who gives away a program that imports this package must
// let its receivers put in another version of the codec, by giving them source or
// object files to link again. That is why the codec stands in a package of its own,
// which no other package of this module imports; only the examples do.
//
//	audio := &transcode.Audio{Hub: hub, AAC: goaac.Codec{}}
//	go audio.Run(ctx)
//
// HE-AAC, and more than two channels, are refused.
package goaac

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	aac "github.com/tphakala/go-aac"
	"github.com/tphakala/go-aac/pcm"

	config "github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
)

// Codec is AAC-LC. The zero value is fit for servers.
type Codec struct {
	BitRate int // bits a second; 0: 128000 of stereo, 80000 of mono

	// Thorough takes more than twice the CPU, and is hardly to be heard at these rates.
	Thorough bool
}

// maxPacket is what a packet's length must fit into for the decoder.
const maxPacket = 1<<16 - 1

// NewDecoder implements transcode.Codec.
func (Codec) NewDecoder(t *stream.Track) (transcode.Decoder, error) {
	c, err := config.ParseConfig(t.Config)
	switch {
	case err != nil:
		return nil, fmt.Errorf("goaac: %w: %w", stream.ErrUnsupported, err)
	case c.SBR || c.PS:
		return nil, refuse("HE-AAC has no decoder here, only AAC-LC")
	case c.Type != 2:
		return nil, refuse("AAC of the profile %q has no decoder here, only AAC-LC", c.ProfileName())
	case c.Channels != 1 && c.Channels != 2:
		return nil, refuse("AAC of %d channels has no decoder here, only mono and stereo", c.Channels)
	}
	d := &decoder{config: slices.Clone(t.Config), format: transcode.Format{Rate: c.Rate, Channels: c.Channels}}
	if d.d, err = pcm.NewDecoder(&d.packet, pcm.WithRawStream(d.config)); err != nil {
		return nil, fmt.Errorf("goaac: %w: %w", stream.ErrUnsupported, err)
	}
	if info := d.d.Info(); info.SampleRate != c.Rate || info.Channels != c.Channels {
		return nil, refuse("AAC of a configuration that its decoder takes for %d Hz and %d channels", info.SampleRate, info.Channels)
	}
	d.pcm = make([]byte, aac.FrameSize*2*c.Channels)
	return d, nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("goaac: "+format+": %w", append(args, stream.ErrUnsupported)...)
}

// decoder gives its pcm.Decoder, which wants to read, one packet at a time. That
// asks for no more than a packet before it returns the samples.
type decoder struct {
	config []byte
	format transcode.Format
	d      *pcm.Decoder
	packet packet
	framed []byte // what packet reads
	pcm    []byte
}

// A packet is a reader of a packet behind its length.
type packet struct{ b []byte }

func (p *packet) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.ErrNoProgress // it was not the whole of a packet: does not come about
	}
	n := copy(b, p.b)
	p.b = p.b[n:]
	return n, nil
}

func (d *decoder) Format() transcode.Format { return d.format }
func (d *decoder) Close()                   {}

func (d *decoder) Reset() {
	d.packet.b = nil
	// The configuration was taken before.
	_ = d.d.Reset(&d.packet, pcm.WithRawStream(d.config))
}

var errPacket = errors.New("goaac: malformed packet")

func (d *decoder) Decode(dst []float32, au []byte) ([]float32, error) {
	if len(au) == 0 || len(au) > maxPacket {
		return dst, errPacket
	}
	d.framed = append(append(d.framed[:0], byte(len(au)>>8), byte(len(au))), au...)
	d.packet.b = d.framed
	// Read returns what one packet holds, which is a frame: the buffer takes that.
	n, err := io.ReadFull(d.d, d.pcm)
	if err != nil {
		d.Reset()
		return dst, fmt.Errorf("%w: %w", errPacket, err)
	}
	for i := 0; i+1 < n; i += 2 {
		dst = append(dst, float32(int16(uint16(d.pcm[i])|uint16(d.pcm[i+1])<<8))/32768)
	}
	return dst, nil
}

// Conceal is silence: the decoder knows nothing better.
func (d *decoder) Conceal(dst []float32, samples int) []float32 {
	return append(dst, make([]float32, samples*d.format.Channels)...)
}

// NewEncoder implements transcode.Codec. Sound of 44.1 kHz stays so, other is encoded
// at 48 kHz.
func (c Codec) NewEncoder(f transcode.Format) (transcode.Encoder, error) {
	if f.Channels != 1 && f.Channels != 2 {
		return nil, refuse("AAC of %d channels has no encoder here, only mono and stereo", f.Channels)
	}
	if f.Rate != 44100 {
		f.Rate = 48000
	}
	e := &encoder{format: f, config: aac.EncoderConfig{
		SampleRate: f.Rate, Channels: f.Channels, Bitrate: cmp.Or(c.BitRate, 32000+48000*f.Channels), Coder: aac.CoderFast,
	}}
	if c.Thorough {
		e.config.Coder = aac.CoderNMR
	}
	var err error
	if e.e, err = aac.NewEncoder(e.config); err != nil {
		return nil, fmt.Errorf("goaac: %w: %w", stream.ErrUnsupported, err)
	}
	e.planes = make([][]float32, f.Channels)
	for i := range e.planes {
		e.planes[i] = make([]float32, aac.FrameSize)
	}
	return e, nil
}

type encoder struct {
	config aac.EncoderConfig
	format transcode.Format
	e      *aac.Encoder
	planes [][]float32
}

func (e *encoder) Format() transcode.Format { return e.format }
func (e *encoder) FrameSize() int           { return aac.FrameSize }
func (e *encoder) Delay() int               { return e.e.Delay() }
func (e *encoder) Close()                   {}

func (e *encoder) Track() *stream.Track {
	return &stream.Track{
		Codec: stream.AAC, Rate: e.format.Rate, Channels: e.format.Channels, Config: e.e.AudioSpecificConfig(),
	}
}

func (e *encoder) Encode(dst []byte, samples []float32) ([]byte, error) {
	for i, v := range samples {
		if v != v || v > 4 || v < -4 { // not a number, or out of every bound: the encoder would give up
			v = 0
		}
		e.planes[i%e.format.Channels][i/e.format.Channels] = v
	}
	return e.e.EncodeFrame(dst, e.planes)
}

func (e *encoder) Reset() {
	// The configuration was taken before.
	_ = e.e.Reset(e.config)
}
