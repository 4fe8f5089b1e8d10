package mp3_test

import (
	"encoding/hex"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg1audio"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mp3"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want mp3.Header
	}{
		{"fffb9064", mp3.Header{Layer: 3, Rate: 44100, Channels: 2, Bitrate: 128000, Size: 417, Samples: 1152}},
		{"fffb92c4", mp3.Header{Layer: 3, Rate: 44100, Channels: 1, Bitrate: 128000, Size: 418, Samples: 1152}},
		{"fffb9464", mp3.Header{Layer: 3, Rate: 48000, Channels: 2, Bitrate: 128000, Size: 384, Samples: 1152}},
		{"fff38064", mp3.Header{Layer: 3, Rate: 22050, Channels: 2, Bitrate: 64000, Size: 208, Samples: 576}},
		{"ffe320c4", mp3.Header{Layer: 3, Rate: 11025, Channels: 1, Bitrate: 16000, Size: 104, Samples: 576}}, // by libmp3lame
		{"fffd8404", mp3.Header{Layer: 2, Rate: 48000, Channels: 2, Bitrate: 128000, Size: 384, Samples: 1152}},
	} {
		got, err := mp3.Parse(unhex(t, c.in))
		require.NoError(t, err, c.in)
		require.Equal(t, c.want, got, c.in)
	}
	for _, bad := range []string{"", "fffb90", "00fb9064", "ffeb9064", "ffff9064", "fff99064", "fffb0064", "fffbf064", "fffb9c64"} {
		_, err := mp3.Parse(unhex(t, bad))
		require.Error(t, err, bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, "fffb906400"))
	f.Add(unhex(f, "ffe320c400"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := mp3.Parse(b)
		var foreign mpeg1audio.FrameHeader
		if foreign.Unmarshal(b) == nil { // it has no MPEG 2.5, and agrees on the rest
			require.NoError(t, err)
			require.Equal(t, foreign.SampleRate, h.Rate)
			require.Equal(t, foreign.Bitrate, h.Bitrate)
		}
		if err == nil {
			require.True(t, h.Size >= mp3.HeaderSize && h.Rate > 0)
		}
	})
}
