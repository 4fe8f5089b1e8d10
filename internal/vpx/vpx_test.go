package vpx_test

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/vpx"
)

// The clips, with a key frame every four, were made by
//
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.32 -c:v libvpx -deadline realtime -cpu-used 8 -g 4 -b:v 40k vp8.ivf
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.32 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 4 -b:v 40k vp9.ivf
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.2 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 4 -pix_fmt yuv444p10le vp9p3.ivf
//
// and the records are the vpcC that ffmpeg makes of them in MP4.

// ivf returns the frames of an IVF file.
func ivf(t testing.TB, name string) (frames [][]byte) {
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	for b = b[32:]; len(b) > 0; {
		n := 12 + binary.LittleEndian.Uint32(b)
		frames, b = append(frames, b[12:n]), b[n:]
	}
	return frames
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestVP8(t *testing.T) {
	for i, f := range ivf(t, "vp8.ivf") {
		w, h, ok := vpx.VP8Key(f)
		require.Equal(t, i%4 == 0, ok)
		if ok {
			require.Equal(t, [2]int{96, 64}, [2]int{w, h})
		}
		require.Zero(t, testing.AllocsPerRun(10, func() { vpx.VP8Key(f) }))
	}
	_, _, ok := vpx.VP8Key(nil)
	require.False(t, ok)
}

func TestVP9(t *testing.T) {
	for _, c := range []struct{ name, record, codec string }{
		{"vp9.ivf", "01000000000a820202020000", "vp09.00.10.08"},
		{"vp9p3.ivf", "01000000030aa60202020000", "vp09.03.10.10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := vpx.ParseConfig(unhex(t, c.record))
			require.NoError(t, err)
			bare, err := vpx.ParseConfig(unhex(t, c.record)[4:])
			require.NoError(t, err)
			require.Equal(t, want, bare)
			require.Equal(t, unhex(t, c.record)[4:], want.Append(nil))
			require.Equal(t, c.codec, want.CodecString())
			require.Equal(t, "1.0", want.LevelName())
			keys := 0
			for _, f := range ivf(t, c.name) {
				if !vpx.VP9Key(f) {
					_, err := vpx.NewConfig(f)
					require.Error(t, err)
					continue
				}
				keys++
				got, err := vpx.NewConfig(f)
				require.NoError(t, err)
				require.Equal(t, want, got)
				require.True(t, got.Fits(want))
				w, h, ok := vpx.VP9Size(f)
				require.True(t, ok)
				require.Equal(t, [2]int{96, 64}, [2]int{w, h})
			}
			require.Equal(t, 2, keys)
		})
	}
	require.False(t, vpx.VP9Key(nil))
	require.False(t, vpx.VP9Key([]byte{0x88, 0}), "shows an existing frame")
	require.False(t, vpx.Default().Fits(&vpx.Config{BitDepth: 10, Profile: 2}))
}

func TestParseConfigErrors(t *testing.T) {
	for _, bad := range []string{"", "000a8202020200", "040a820202020000", "000a720202020000"} {
		_, err := vpx.ParseConfig(unhex(t, bad))
		require.Error(t, err, bad)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(unhex(f, "01000000000a820202020000"))
	f.Add(unhex(f, "030aa60202020000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := vpx.ParseConfig(b)
		if err != nil {
			return
		}
		c.CodecString()
		c.LevelName()
		again, err := vpx.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func FuzzFrame(f *testing.F) {
	for _, name := range []string{"vp8.ivf", "vp9.ivf", "vp9p3.ivf"} {
		f.Add(ivf(f, name)[0])
		f.Add(ivf(f, name)[1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		vpx.VP8Key(b)
		if c, err := vpx.NewConfig(b); err == nil {
			_, _, ok := vpx.VP9Size(b)
			require.True(t, ok)
			_, err := vpx.ParseConfig(c.Append(nil))
			require.NoError(t, err)
		}
	})
}
