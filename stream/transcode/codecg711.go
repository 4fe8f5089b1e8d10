package transcode

import "github.com/runnel-media/runnel/stream"

// g711 decodes both laws of ITU-T G.711. There is no reason to encode to it.
type g711 struct{}

func (g711) NewDecoder(t *stream.Track) (Decoder, error) {
	d := &g711Decoder{format: Format{Rate: t.Rate, Channels: t.Channels}}
	if d.format.Rate == 0 {
		d.format.Rate = 8000
	}
	if d.format.Channels == 0 {
		d.format.Channels = 1
	}
	if d.format.Rate < 8000 || d.format.Rate > 48000 || d.format.Channels > 2 {
		return nil, unsupported("G.711 of %d Hz and %d channels", t.Rate, t.Channels)
	}
	expand := expandA
	if t.Codec == stream.PCMU {
		expand = expandU
	}
	for i := range d.table {
		d.table[i] = float32(expand(byte(i))) / 32768
	}
	return d, nil
}

func (g711) NewEncoder(Format) (Encoder, error) { return nil, unsupported("no encoder of G.711") }

type g711Decoder struct {
	format Format
	table  [256]float32
}

func (d *g711Decoder) Format() Format { return d.format }
func (d *g711Decoder) Reset()         {}
func (d *g711Decoder) Close()         {}

func (d *g711Decoder) Decode(dst []float32, packet []byte) ([]float32, error) {
	for _, b := range packet[:len(packet)-len(packet)%d.format.Channels] {
		dst = append(dst, d.table[b])
	}
	return dst, nil
}

func (d *g711Decoder) Conceal(dst []float32, samples int) []float32 {
	return append(dst, make([]float32, samples*d.format.Channels)...)
}

// expandA and expandU return what a code stands for, of 16 bits (tables 1 and 2 of
// G.711): a sign, three bits of exponent, four of mantissa.
func expandA(code byte) int {
	code ^= 0x55
	exponent, v := code>>4&7, int(code&15)<<4|8
	if exponent > 0 {
		v = (v | 0x100) << (exponent - 1)
	}
	if code&0x80 == 0 {
		return -v
	}
	return v
}

func expandU(code byte) int {
	code = ^code
	v := (int(code&15)<<3+0x84)<<(code>>4&7) - 0x84
	if code&0x80 != 0 {
		return -v
	}
	return v
}
