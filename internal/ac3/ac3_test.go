package ac3_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/ac3"
)

// clip was made by
//
//	ffmpeg -f lavfi -i sine=440:r=48000 -t 0.2 -c:a ac3 -b:a 64k -ac 2 sine.ac3
func clip(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/sine.ac3")
	require.NoError(t, err)
	return b
}

func TestParse(t *testing.T) {
	n := 0
	for b := clip(t); len(b) > 0; n++ {
		h, err := ac3.Parse(b)
		require.NoError(t, err)
		require.Equal(t, ac3.Header{Rate: 48000, Channels: 2, Size: 256}, h)
		b = b[h.Size:]
	}
	require.Equal(t, 7, n)
	h, err := ac3.Parse([]byte{0x0b, 0x77, 0, 0, 0x54, 0x40, 0xe1}) // 3/2 and LFE at 44.1 kHz
	require.NoError(t, err)
	require.Equal(t, [2]int{44100, 6}, [2]int{h.Rate, h.Channels})

	good := clip(t)[:ac3.HeaderSize]
	for n := range good {
		_, err := ac3.Parse(good[:n])
		require.Error(t, err)
	}
	_, err = ac3.Parse([]byte{0x0b, 0x77, 0, 0, 0, 0x80, 0})
	require.Error(t, err, "E-AC-3")
	require.Zero(t, testing.AllocsPerRun(10, func() { _, _ = ac3.Parse(good) }))
}

func FuzzParse(f *testing.F) {
	f.Add(clip(f)[:16])
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ac3.Parse(b); err == nil {
			require.True(t, h.Rate > 0 && h.Channels > 0 && h.Size > 0)
		}
	})
}
