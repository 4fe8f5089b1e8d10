package h265_test

import (
	"encoding/hex"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
)

// The clips, eight frames with a key frame every four, were made by
//
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.32 -c:v libx265 -x265-params keyint=4:aud=1:info=0 -pix_fmt yuv420p -f hevc main.h265
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.32 -c:v libx265 -x265-params keyint=4:aud=1:info=0:temporal-layers=1 -pix_fmt yuv420p10le -f hevc layers10.h265
//
// and record is the hvcC that ffmpeg makes of the first in MP4.
const record = "0101600000009000000000001ef000fcfdf8f800000f03" +
	"a00001001840010c01ffff01600000030090000003000003001e959809" +
	"a10001002842010101600000030090000003000003001ea030810596566924caf0168080000003008000000c84" +
	"a2000100074401c172b42240"

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// clip returns the access units of a clip, which begin with a delimiter.
func clip(t testing.TB, name string) (aus [][]byte) {
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	for u := range nal.Units(nal.AppendFromAnnexB(nil, b)) {
		if h265.Type(u) == h265.TypeAUD {
			aus = append(aus, nil)
		}
		last := &aus[len(aus)-1]
		*last = nal.Append(*last, u)
	}
	return aus
}

func TestRecord(t *testing.T) {
	c, err := h265.ParseConfig(unhex(t, record))
	require.NoError(t, err)
	require.Equal(t, 4, c.LengthSize)
	require.Equal(t, "hvc1.1.6.L30.90", c.CodecString())
	require.Equal(t, "Main", c.ProfileName())
	require.Equal(t, "1", c.LevelName())
	require.Equal(t, unhex(t, record), c.Append(nil))

	var none *h265.Config
	built, changed := none.Update(clip(t, "main.h265")[0])
	require.True(t, changed)
	require.Equal(t, unhex(t, record), built.Append(nil), "built from the access unit as ffmpeg does")

	same, changed := built.Update(clip(t, "main.h265")[0])
	require.False(t, changed)
	require.Same(t, built, same)
}

func TestLayers(t *testing.T) {
	var none *h265.Config
	aus := clip(t, "layers10.h265")
	c, changed := none.Update(aus[0])
	require.True(t, changed)
	require.Equal(t, "Main 10", c.ProfileName())
	require.EqualValues(t, 10, c.BitDepthLuma)
	require.EqualValues(t, 2, c.TemporalLayers)
	s, err := h265.ParseSPS(c.Units(h265.TypeSPS)[0])
	require.NoError(t, err)
	require.Equal(t, [2]int{96, 64}, [2]int{s.Width, s.Height})

	var temporal []byte
	for _, au := range aus {
		info, ok := h265.Inspect(au)
		require.True(t, ok)
		temporal = append(temporal, info.Temporal)
	}
	require.Contains(t, temporal, byte(1))
}

func TestInspect(t *testing.T) {
	var keys, free []int
	for i, au := range clip(t, "main.h265") {
		info, ok := h265.Inspect(au)
		require.True(t, ok)
		require.True(t, info.Picture)
		if info.Key {
			keys = append(keys, i) // in decoding order, in which the second key frame comes early
			require.True(t, info.ParameterSets)
		}
		if info.NonReference {
			free = append(free, i)
		}
	}
	require.Equal(t, []int{0, 1}, keys)
	require.NotEmpty(t, free)

	au := clip(t, "main.h265")[0]
	require.Zero(t, testing.AllocsPerRun(100, func() { h265.Inspect(au) }))
	_, ok := h265.Inspect(au[:len(au)-1])
	require.False(t, ok)
	info, ok := h265.Inspect(nil)
	require.True(t, ok)
	require.Equal(t, h265.Info{}, info)
}

func TestParseSPS(t *testing.T) {
	c, err := h265.ParseConfig(unhex(t, record))
	require.NoError(t, err)
	sps := c.Units(h265.TypeSPS)[0]
	s, err := h265.ParseSPS(sps)
	require.NoError(t, err)
	require.Equal(t, [2]int{96, 64}, [2]int{s.Width, s.Height})
	require.InDelta(t, 25, h265.FPS(sps), 0.001)

	// 1920x1080 has a conformance window.
	full := unhex(t, "420101016000000300900000030000030078a003c08010e59656"+"6924caf01680800001f480005dc004")
	s, err = h265.ParseSPS(full)
	require.NoError(t, err)
	require.Equal(t, [2]int{1920, 1080}, [2]int{s.Width, s.Height})
	require.Equal(t, "4", s.LevelName())

	for n := range 20 {
		_, err = h265.ParseSPS(sps[:n])
		require.Error(t, err)
	}
}

func TestParseConfigErrors(t *testing.T) {
	good := unhex(t, record)
	for n := range len(good) {
		_, err := h265.ParseConfig(good[:n])
		require.Error(t, err, "%d bytes", n)
	}
	c, err := h265.ParseConfig(append(good[:22:22], 0))
	require.NoError(t, err, "parameter sets may be in the access units")
	require.Empty(t, c.Units(h265.TypeSPS))
}

func TestCodecString(t *testing.T) {
	// From ISO/IEC 14496-15, Annex E.3.
	c := h265.Config{ProfileTierLevel: h265.ProfileTierLevel{Profile: 1, Compatibility: 0x60000000, Level: 93, Constraints: [6]byte{0xb0}}}
	require.Equal(t, "hvc1.1.6.L93.b0", c.CodecString())
	c = h265.Config{ProfileTierLevel: h265.ProfileTierLevel{Space: 1, Profile: 4, HighTier: true, Compatibility: 0x08000000, Level: 120, Constraints: [6]byte{0xb0, 0x23}}}
	require.Equal(t, "hvc1.A4.10.H120.b0.23", c.CodecString())
}

func TestConfigRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &h265.Config{
			ProfileTierLevel: h265.ProfileTierLevel{
				Space: rapid.ByteRange(0, 3).Draw(t, "space"), HighTier: rapid.Bool().Draw(t, "tier"), Profile: rapid.ByteRange(0, 31).Draw(t, "profile"),
				Compatibility: rapid.Uint32().Draw(t, "compat"), Constraints: [6]byte(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "constraints")),
				Level: rapid.Byte().Draw(t, "level"),
			},
			MinSpatialSegmentation: rapid.Uint16Range(0, 0xfff).Draw(t, "mss"), Parallelism: rapid.ByteRange(0, 3).Draw(t, "par"),
			ChromaFormat: rapid.ByteRange(0, 3).Draw(t, "chroma"), BitDepthLuma: rapid.ByteRange(8, 15).Draw(t, "luma"), BitDepthChroma: rapid.ByteRange(8, 15).Draw(t, "bdc"),
			AvgFrameRate: rapid.Uint16().Draw(t, "fps"), ConstantFrameRate: rapid.ByteRange(0, 3).Draw(t, "cfr"),
			TemporalLayers: rapid.ByteRange(0, 7).Draw(t, "layers"), TemporalNested: rapid.Bool().Draw(t, "nested"), LengthSize: rapid.IntRange(1, 4).Draw(t, "size"),
		}
		for _, typ := range rapid.SliceOfDistinct(rapid.ByteRange(32, 40), rapid.ID[byte]).Draw(t, "types") {
			a := h265.Array{Type: typ, Complete: rapid.Bool().Draw(t, "complete")}
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				a.Units = append(a.Units, append([]byte{typ << 1}, rapid.SliceOf(rapid.Byte()).Draw(t, "unit")...))
			}
			c.Arrays = append(c.Arrays, a)
		}
		got, err := h265.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, got)
	})
}

func FuzzConfig(f *testing.F) {
	f.Add(unhex(f, record))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := h265.ParseConfig(b)
		if err != nil {
			return
		}
		c.CodecString()
		c.ProfileName()
		c.LevelName()
		again, err := h265.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, len(c.Arrays), len(again.Arrays))
		for typ := byte(h265.TypeVPS); typ <= h265.TypePPS; typ++ {
			for _, u := range c.Units(typ) {
				c.Update(nal.Append(nil, u))
			}
		}
	})
}

func FuzzSPS(f *testing.F) {
	c, err := h265.ParseConfig(unhex(f, record))
	require.NoError(f, err)
	f.Add(c.Units(h265.TypeSPS)[0])
	var none *h265.Config
	layers, _ := none.Update(clip(f, "layers10.h265")[0])
	f.Add(layers.Units(h265.TypeSPS)[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := h265.ParseSPS(b); err == nil {
			require.True(t, s.Width > 0 && s.Height > 0)
		}
		require.True(t, h265.FPS(b) >= 0)
	})
}

func FuzzInspect(f *testing.F) {
	f.Add(clip(f, "main.h265")[0])
	f.Add(clip(f, "layers10.h265")[0])
	c, err := h265.ParseConfig(unhex(f, record))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		h265.Inspect(b)
		for _, c := range []*h265.Config{c, nil} {
			if got, changed := c.Update(b); changed {
				_, err := h265.ParseConfig(got.Append(nil))
				require.NoError(t, err)
			}
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	au := clip(b, "main.h265")[0]
	b.ReportAllocs()
	for b.Loop() {
		h265.Inspect(au)
	}
}

// TestUpdateBounds: an access unit of nothing but parameter sets is no work.
func TestUpdateBounds(t *testing.T) {
	c, err := h265.ParseConfig(unhex(t, record))
	require.NoError(t, err)
	var au []byte
	for i := range 100_000 {
		au = nal.Append(au, []byte{0x44, 1, 0x80 | byte(i), byte(i >> 8), byte(i >> 16), 0x80})
	}
	got, changed := c.Update(au)
	require.True(t, changed)
	require.LessOrEqual(t, len(got.Units(h265.TypePPS)), 65)
	_, changed = c.Update(nal.Append(nil, []byte{0x44, 1, 0, 0, 0, 0x80}))
	require.False(t, changed, "an impossible id")
}
