package av1_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/av1"
)

// The clips were made by
//
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.32 -c:v libaom-av1 -cpu-used 8 -usage realtime -g 4 aom.ivf
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.32 -c:v libsvtav1 -preset 12 -g 4 svt.ivf
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -t 0.2 -c:v librav1e -speed 10 -g 4 rav1e.ivf
//
// and the records are the av1C that ffmpeg makes of them in MP4.
var clips = []struct{ name, record, codec, level string }{
	{"aom.ivf", "81000c000a0a000000032dffcdaf9004", "av01.0.00M.08", "2.0"},
	{"svt.ivf", "81000c000a0a000000032dffcfbf9004", "av01.0.00M.08", "2.0"},
	{"rav1e.ivf", "811f0c000a0d000000f996ffe210a88101010a", "av01.0.31M.08", "max"},
}

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

func TestClips(t *testing.T) {
	for _, c := range clips {
		t.Run(c.name, func(t *testing.T) {
			want, err := av1.ParseConfig(unhex(t, c.record))
			require.NoError(t, err)
			require.Equal(t, unhex(t, c.record), want.Append(nil))
			require.Equal(t, c.codec, want.CodecString())
			require.Equal(t, c.level, want.LevelName())
			require.Equal(t, "Main", want.ProfileName())
			s, err := want.Sequence()
			require.NoError(t, err)
			require.Equal(t, [2]int{96, 64}, [2]int{s.Width, s.Height})

			for i, tu := range ivf(t, c.name) {
				info, ok := av1.Inspect(tu)
				require.True(t, ok)
				require.True(t, info.Frame)
				if i == 0 {
					var none *av1.Config
					got, changed := none.Update(info)
					require.True(t, changed)
					// The record's OBUs may have metadata too.
					require.True(t, bytes.HasPrefix(unhex(t, c.record), got.Append(nil)))
					_, changed = want.Update(info)
					require.False(t, changed)
				}
				// ffmpeg's IVF has temporal delimiters.
				o, rest, ok := av1.Next(tu)
				require.True(t, ok)
				require.EqualValues(t, av1.TypeTemporalDelimiter, o.Type)
				clean := av1.Normalize(tu, info)
				require.Equal(t, rest, clean)
				require.Same(t, &rest[0], &clean[0], "no copy")
				info, _ = av1.Inspect(clean)
				require.Same(t, &clean[0], &av1.Normalize(clean, info)[0])
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	tu := unhex(t, "0a02aabb"+"1200"+"3201cc"+"30ddee") // a delimiter inside, the last one without size
	info, ok := av1.Inspect(tu)
	require.True(t, ok)
	require.Equal(t, unhex(t, "0a02aabb"+"3201cc"+"3202ddee"), av1.Normalize(tu, info))
	tu = unhex(t, "3420"+"ddee") // with extension header
	info, ok = av1.Inspect(tu)
	require.True(t, ok)
	require.Equal(t, unhex(t, "3620"+"02"+"ddee"), av1.Normalize(tu, info))
	for _, bad := range []string{"8a00", "0a", "0a02aa", "0affffffffffffffffff01", "36", "0aff"} {
		_, ok := av1.Inspect(unhex(t, bad))
		require.False(t, ok, bad)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for _, bad := range []string{"", "81000c", "01000c00", "82000c00", "81ff0c00", "81000c000a0a00"} {
		_, err := av1.ParseConfig(unhex(t, bad))
		require.Error(t, err, bad)
	}
	c, err := av1.ParseConfig(unhex(t, "81456000"))
	require.NoError(t, err, "the sequence header may be in the temporal units")
	require.Equal(t, "av01.2.05M.12", c.CodecString())
	_, err = c.Sequence()
	require.Error(t, err)
}

func TestAllocs(t *testing.T) {
	frames := ivf(t, "aom.ivf")
	c, err := av1.ParseConfig(unhex(t, clips[0].record))
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for _, tu := range frames {
			info, _ := av1.Inspect(tu)
			c.Update(info)
			av1.Normalize(tu, info)
		}
	}))
}

func TestConfigRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &av1.Config{
			Profile: rapid.ByteRange(0, 2).Draw(t, "profile"), Level: rapid.ByteRange(0, 31).Draw(t, "level"), HighTier: rapid.Bool().Draw(t, "tier"),
			BitDepth: rapid.SampledFrom([]byte{8, 10, 12}).Draw(t, "depth"), Monochrome: rapid.Bool().Draw(t, "mono"),
			SubsamplingX: rapid.Bool().Draw(t, "x"), SubsamplingY: rapid.Bool().Draw(t, "y"), ChromaPos: rapid.ByteRange(0, 3).Draw(t, "pos"),
			OBUs: unhex2(clips[rapid.IntRange(0, 2).Draw(t, "clip")].record[8:]),
		}
		got, err := av1.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, got)
	})
}

func unhex2(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}

func FuzzConfig(f *testing.F) {
	for _, c := range clips {
		f.Add(unhex(f, c.record))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := av1.ParseConfig(b)
		if err != nil {
			return
		}
		c.CodecString()
		c.ProfileName()
		c.LevelName()
		if s, err := c.Sequence(); err == nil {
			require.True(t, s.Width > 0 && s.Height > 0 && s.FPS >= 0)
		}
		again, err := av1.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func FuzzTemporalUnit(f *testing.F) {
	for _, c := range clips {
		f.Add(ivf(f, c.name)[0])
	}
	f.Add(unhex(f, "0a02aabb1200"+"3201cc"+"30ddee"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, ok := av1.Inspect(b)
		if !ok {
			return
		}
		clean := av1.Normalize(b, info)
		again, ok := av1.Inspect(clean)
		require.True(t, ok)
		require.Equal(t, info.Frame, again.Frame)
		require.True(t, bytes.Equal(info.SequenceHeader.Payload, again.SequenceHeader.Payload))
		require.True(t, bytes.Equal(clean, av1.Normalize(clean, again)))
		var none *av1.Config
		if c, changed := none.Update(info); changed {
			_, err := av1.ParseConfig(c.Append(nil))
			require.NoError(t, err)
			_, changed = c.Update(again)
			require.False(t, changed)
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	tu := ivf(b, "aom.ivf")[1]
	b.ReportAllocs()
	for b.Loop() {
		av1.Inspect(tu)
	}
}
