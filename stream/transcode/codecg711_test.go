package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

func TestG711(t *testing.T) {
	for _, c := range []struct {
		codec stream.Codec
		code  byte
		want  int // of 16 bits; the tables of G.711 count in 1/8 and 1/4 of it
	}{
		{stream.PCMU, 0xff, 0}, {stream.PCMU, 0x7f, 0}, {stream.PCMU, 0x80, 32124}, {stream.PCMU, 0x00, -32124}, {stream.PCMU, 0xfe, 8},
		{stream.PCMA, 0xd5, 8}, {stream.PCMA, 0x55, -8}, {stream.PCMA, 0xaa, 32256}, {stream.PCMA, 0x2a, -32256}, {stream.PCMA, 0xc5, 264},
	} {
		d, err := g711{}.NewDecoder(&stream.Track{Codec: c.codec})
		require.NoError(t, err)
		require.Equal(t, Format{8000, 1}, d.Format())
		pcm, err := d.Decode(nil, []byte{c.code})
		require.NoError(t, err)
		require.Equal(t, []float32{float32(c.want) / 32768}, pcm, "%v %#x", c.codec, c.code)
	}
	d, err := g711{}.NewDecoder(&stream.Track{Codec: stream.PCMA, Rate: 16000, Channels: 2})
	require.NoError(t, err)
	pcm, err := d.Decode(nil, make([]byte, 321))
	require.NoError(t, err)
	require.Len(t, pcm, 320, "half a moment is left out")
	require.Equal(t, make([]float32, 20), d.Conceal(nil, 10))
	_, err = g711{}.NewDecoder(&stream.Track{Codec: stream.PCMA, Channels: 3})
	require.ErrorIs(t, err, stream.ErrUnsupported)
	_, err = g711{}.NewEncoder(Format{8000, 1})
	require.ErrorIs(t, err, stream.ErrUnsupported)
}
