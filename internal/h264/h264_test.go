package h264_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/nal"
)

// records were written by ffmpeg 5.1 with libx264, for example with
//
//	ffmpeg -f lavfi -i testsrc2=s=1920x1080:r=30000/1001 -frames:v 1 -c:v libx264 -profile:v high -pix_fmt yuv420p -f flv t.flv
var records = []struct {
	name, record, codec string
	want                h264.SPS
}{
	{
		"constrained baseline", "0142c028ffe100186742c028d900780227e5c04400000fa40003a9803c60c92001000568cb83cb20",
		"avc1.42c028", h264.SPS{Profile: "Constrained Baseline", Level: "4", Width: 1920, Height: 1080, FPS: 30000. / 1001},
	},
	{
		"main", "014d4028ffe10018674d4028eca03c0113f2e022000007d20001d4c01e30632c01000568ebe3cb20",
		"avc1.4d4028", h264.SPS{Profile: "Main", Level: "4", Width: 1920, Height: 1080, FPS: 30000. / 1001},
	},
	{
		"high", "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000668ebe3cb22c0fdf8f800",
		"avc1.640028", h264.SPS{Profile: "High", Level: "4", Width: 1920, Height: 1080, FPS: 30000. / 1001},
	},
	{
		"interlaced, cropped, 10 bits of 4:2:2", "017a0015ffe1001a677a0015b6cd9474f3c46022000003000200000300643e28532c01000668fba3cb22c0fefafa00",
		"avc1.7a0015", h264.SPS{Profile: "High 4:2:2", Level: "2.1", Width: 100, Height: 50, FPS: 25},
	},
	{
		"monochrome, cropped", "0164000affe100196764000af3651c9e3e3f016c80000003008000001e078912cb01000668ebe3cb22c0fcf8f800",
		"avc1.64000a", h264.SPS{Profile: "High", Level: "1", Width: 98, Height: 50, FPS: 30},
	},
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestRecords(t *testing.T) {
	for _, r := range records {
		t.Run(r.name, func(t *testing.T) {
			record := unhex(t, r.record)
			c, err := h264.ParseConfig(record)
			require.NoError(t, err)
			require.Equal(t, 4, c.LengthSize)
			require.Equal(t, r.codec, c.CodecString())
			require.Equal(t, record, c.Append(nil))

			s, err := h264.ParseSPS(c.SPS[0])
			require.NoError(t, err)
			require.InDelta(t, r.want.FPS, s.FPS, 0.001)
			s.FPS = r.want.FPS
			require.Equal(t, r.want, s)

			built, err := h264.NewConfig(c.SPS, c.PPS)
			require.NoError(t, err)
			require.Equal(t, record, built.Append(nil))
		})
	}
}

func TestParseConfigErrors(t *testing.T) {
	good := unhex(t, records[2].record)
	end := len(good) - 4 // without what high profiles append
	_, err := h264.ParseConfig(good[:end])
	require.NoError(t, err)
	for n := range end {
		_, err := h264.ParseConfig(good[:n])
		require.Error(t, err, "%d bytes", n)
	}
	_, err = h264.ParseConfig(append([]byte{2}, good[1:]...))
	require.Error(t, err, "version")

	c, err := h264.ParseConfig([]byte{1, 66, 0, 30, 0xff, 0xe0, 0})
	require.NoError(t, err, "parameter sets may be in the access units")
	require.Empty(t, c.SPS)
	_, err = h264.NewConfig(nil, nil)
	require.Error(t, err)
}

func TestInspect(t *testing.T) {
	au := func(headers ...byte) []byte {
		var b []byte
		for _, h := range headers {
			b = nal.Append(b, []byte{h, 0x88, 0x80})
		}
		return b
	}
	for _, c := range []struct {
		name string
		au   []byte
		want h264.Info
		ok   bool
	}{
		{"empty", nil, h264.Info{}, true},
		{"IDR", au(0x09, 0x67, 0x68, 0x06, 0x65), h264.Info{Picture: true, Key: true, ParameterSets: true}, true},
		{"P", au(0x41), h264.Info{Picture: true}, true},
		{"B", au(0x09, 0x01, 0x01), h264.Info{Picture: true, Discardable: true}, true},
		{"one slice is referred to", au(0x01, 0x21), h264.Info{Picture: true}, true},
		{"no picture", au(0x06, 0x67), h264.Info{ParameterSets: true}, true},
		{"cut", au(0x41)[:6], h264.Info{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := h264.Inspect(c.au)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, got)
		})
	}
	b := au(0x09, 0x67, 0x68, 0x06, 0x65)
	require.Zero(t, testing.AllocsPerRun(100, func() { h264.Inspect(b) }))
}

func TestUpdate(t *testing.T) {
	first, err := h264.ParseConfig(unhex(t, records[1].record))
	require.NoError(t, err)
	second, err := h264.ParseConfig(unhex(t, records[2].record))
	require.NoError(t, err)
	au := func(c *h264.Config) (b []byte) {
		for _, s := range append(append([][]byte{}, c.SPS...), c.PPS...) {
			b = nal.Append(b, s)
		}
		return nal.Append(b, []byte{0x65, 0x88})
	}

	got, changed := first.Update(au(first))
	require.False(t, changed)
	require.Same(t, first, got)

	got, changed = first.Update(au(second))
	require.True(t, changed)
	require.Equal(t, unhex(t, records[2].record), got.Append(nil), "the sets have the same ids")

	other := append([]byte{0x67, 0x4d, 0x40, 0x28, 0x40}, second.SPS[0][5:]...) // id 1
	got, changed = first.Update(nal.Append(nil, other))
	require.True(t, changed)
	require.Equal(t, [][]byte{other, first.SPS[0]}, got.SPS)
	require.Len(t, first.SPS, 1)

	var none *h264.Config
	got, changed = none.Update(au(second))
	require.True(t, changed)
	require.Equal(t, unhex(t, records[2].record), got.Append(nil))
	got, changed = none.Update(nal.Append(nil, second.PPS[0]))
	require.False(t, changed)
	require.Nil(t, got)
}

func TestConfigRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := func(header byte) [][]byte {
			return rapid.SliceOfN(rapid.Map(rapid.SliceOfN(rapid.Byte(), 4, 40), func(b []byte) []byte {
				b[0] = header
				return b
			}), 1, 31).Draw(t, "sets")
		}
		c := &h264.Config{Profile: 77, Compatibility: rapid.Byte().Draw(t, "compat"), Level: rapid.Byte().Draw(t, "level"),
			LengthSize: rapid.IntRange(1, 4).Draw(t, "size"), SPS: set(0x67), PPS: set(0x68)}
		got, err := h264.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, got)
	})
}

func FuzzConfig(f *testing.F) {
	for _, r := range records {
		f.Add(unhex(f, r.record))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := h264.ParseConfig(b)
		if err != nil {
			return
		}
		c.CodecString()
		again, err := h264.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, len(c.SPS), len(again.SPS))
		require.Equal(t, len(c.PPS), len(again.PPS))
		for _, s := range c.SPS {
			if s, err := h264.ParseSPS(s); err == nil {
				require.True(t, s.Width > 0 && s.Height > 0 && s.FPS >= 0)
			}
		}
		for _, p := range c.PPS {
			_, changed := c.Update(nal.Append(nil, p))
			require.False(t, changed)
		}
	})
}

func FuzzSPS(f *testing.F) {
	for _, r := range records {
		c, err := h264.ParseConfig(unhex(f, r.record))
		require.NoError(f, err)
		f.Add(c.SPS[0])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := h264.ParseSPS(b); err == nil {
			require.True(t, s.Width > 0 && s.Height > 0 && s.FPS >= 0)
		}
	})
}

func FuzzInspect(f *testing.F) {
	c, err := h264.ParseConfig(unhex(f, records[0].record))
	require.NoError(f, err)
	f.Add(nal.Append(nal.Append(nal.Append(nil, c.SPS[0]), c.PPS[0]), []byte{0x65, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h264.Inspect(b)
		if got, changed := c.Update(b); changed {
			_, err := h264.ParseConfig(got.Append(nil))
			require.NoError(t, err)
			_, changed = got.Update(b)
			// Several sets with one id in one access unit replace each other.
			if again, _ := got.Update(b); changed {
				require.Equal(t, len(got.SPS), len(again.SPS))
			}
		}
		var none *h264.Config
		none.Update(b)
	})
}

func BenchmarkInspect(b *testing.B) {
	au := nal.Append(nal.Append(nil, []byte{0x09, 0xf0}), make([]byte, 5000))
	au[10] = 0x41
	b.ReportAllocs()
	for b.Loop() {
		h264.Inspect(au)
	}
}

// TestUpdateBounds: an access unit of nothing but parameter sets is no work.
func TestUpdateBounds(t *testing.T) {
	c, err := h264.ParseConfig(unhex(t, records[0].record))
	require.NoError(t, err)
	var au []byte
	for i := range 100_000 {
		au = nal.Append(au, []byte{0x68, 0x80 | byte(i), byte(i >> 8), byte(i >> 16), 0x80})
	}
	got, changed := c.Update(au)
	require.True(t, changed)
	require.LessOrEqual(t, len(got.PPS), 65)
	_, changed = c.Update(nal.Append(nil, []byte{0x68, 0, 0, 0, 0x80}))
	require.False(t, changed, "an impossible id")
}
