package nal_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/nal"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want []string
		rest int
	}{
		{"empty", "", nil, 0},
		{"one", "\x00\x00\x00\x02ab", []string{"ab"}, 0},
		{"two", "\x00\x00\x00\x02ab\x00\x00\x00\x01c", []string{"ab", "c"}, 0},
		{"empty units are skipped", "\x00\x00\x00\x00\x00\x00\x00\x01c\x00\x00\x00\x00", []string{"c"}, 0},
		{"short length", "\x00\x00\x00\x01c\x00\x00", []string{"c"}, 2},
		{"length past the end", "\x00\x00\x00\x01c\x00\x00\x00\x02d", []string{"c"}, 5},
		{"huge length", "\xff\xff\xff\xffabc", nil, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for u := range nal.Units([]byte(c.in)) {
				got = append(got, string(u))
			}
			require.Equal(t, c.want, got)
			rest := []byte(c.in)
			for {
				var ok bool
				if _, rest, ok = nal.Next(rest); !ok {
					break
				}
			}
			require.Len(t, rest, c.rest)
		})
	}
}

func TestAppendResized(t *testing.T) {
	got, ok := nal.AppendResized([]byte("x"), []byte("\x00\x02ab\x00\x01c"), 2)
	require.True(t, ok)
	require.Equal(t, "x\x00\x00\x00\x02ab\x00\x00\x00\x01c", string(got))
	for _, in := range []string{"\x00", "\x00\x03ab", "\x00\x01a\x00"} {
		got, ok = nal.AppendResized([]byte("x"), []byte(in), 2)
		require.False(t, ok)
		require.Equal(t, "x", string(got))
	}
	_, ok = nal.AppendResized(nil, []byte("\x01a"), 0)
	require.False(t, ok)
	_, ok = nal.AppendResized(nil, []byte("\x01a"), 5)
	require.False(t, ok)
}

func TestAppendFromAnnexB(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"garbage":              "",
		"\x00\x00\x01":         "",
		"\x00\x00\x01ab":       "\x00\x00\x00\x02ab",
		"\x00\x00\x00\x01ab":   "\x00\x00\x00\x02ab",
		"xx\x00\x00\x00\x01ab": "\x00\x00\x00\x02ab",
		"\x00\x00\x01ab\x00\x00\x00\x00\x00\x01c\x00\x00\x01\x00\x00\x01d\x00": "\x00\x00\x00\x02ab\x00\x00\x00\x01c\x00\x00\x00\x01d",
		"\x00\x00\x01a\x00\x00\x03b": "\x00\x00\x00\x05a\x00\x00\x03b",
	} {
		require.Equal(t, want, string(nal.AppendFromAnnexB(nil, []byte(in))), "%q", in)
	}
	require.True(t, nal.IsAnnexB([]byte("\x00\x00\x01a")))
	require.True(t, nal.IsAnnexB([]byte("\x00\x00\x00\x01a")))
	require.False(t, nal.IsAnnexB([]byte("\x00\x00\x02a")))
	require.False(t, nal.IsAnnexB(nil))
}

func TestPut(t *testing.T) {
	same := func(a, b []byte) bool { return a[0] == b[0] }
	sets := [][]byte{[]byte("a1"), []byte("b1"), []byte("c1")}
	require.Equal(t, [][]byte{[]byte("b2"), []byte("a1"), []byte("c1")}, nal.Put(sets, []byte("b2"), same))
	require.Equal(t, "a1", string(sets[0]))
	require.True(t, nal.Contains(sets, []byte("b1")))
	require.False(t, nal.Contains(sets, []byte("b2")))
}

// units draws NAL units that Annex B can carry: no start codes inside, no zero
// at the end.
func units(t *rapid.T) [][]byte {
	u := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []byte {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 2, 3, 0x65}), 0, 30).Draw(t, "bytes")
		b = bytes.ReplaceAll(b, []byte{0, 0, 0}, []byte{0, 0, 3})
		return append(b, 0x80)
	}), 0, 5).Draw(t, "units")
	return u
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := units(t)
		var b []byte
		for _, u := range want {
			b = nal.Append(b, u)
		}
		got := slices.Collect(nal.Units(b))
		require.Len(t, got, len(want))
		for i := range got {
			require.Equal(t, want[i], got[i])
		}
		require.Equal(t, b, nal.AppendFromAnnexB(nil, nal.AppendAnnexB(nil, b)))

		size := rapid.IntRange(1, 4).Draw(t, "size")
		var small []byte
		for _, u := range want {
			small = append(small, []byte{0, 0, 0, byte(len(u))}[4-size:]...)
			small = append(small, u...)
		}
		resized, ok := nal.AppendResized(nil, small, size)
		require.True(t, ok)
		require.Equal(t, b, resized)
	})
}

func TestAllocs(t *testing.T) {
	b := nal.Append(nal.Append(nil, bytes.Repeat([]byte{7}, 100)), bytes.Repeat([]byte{5}, 1000))
	dst := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for u := range nal.Units(b) {
			_ = u[0]
		}
		annexB := nal.AppendAnnexB(dst, b)
		nal.AppendFromAnnexB(annexB[len(annexB):], annexB)
	}))
}

func FuzzUnits(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02ab\x00\x00\x00\x01c"), 4)
	f.Add([]byte("\x00\x00\x00\x01ab\x00\x00\x01c"), 2)
	f.Add([]byte("\xff\xff\xff\xff"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		n := 0
		for u := range nal.Units(b) {
			require.NotEmpty(t, u)
			n += len(u)
		}
		require.LessOrEqual(t, n, len(b))
		// What was converted once survives another conversion unchanged.
		a := nal.AppendFromAnnexB(nil, b)
		require.Equal(t, a, nal.AppendFromAnnexB(nil, nal.AppendAnnexB(nil, a)))
		if out, ok := nal.AppendResized(nil, b, size); ok && size == 4 {
			require.True(t, bytes.Equal(b, out))
		}
	})
}

func BenchmarkUnits(b *testing.B) {
	au := nal.Append(nal.Append(nal.Append(nil, make([]byte, 30)), make([]byte, 8)), make([]byte, 5000))
	b.ReportAllocs()
	for b.Loop() {
		for u := range nal.Units(au) {
			_ = u[0]
		}
	}
}

func BenchmarkFromAnnexB(b *testing.B) {
	au := nal.Append(nal.Append(nil, bytes.Repeat([]byte{9}, 30)), bytes.Repeat([]byte{8}, 5000))
	au = nal.AppendAnnexB(nil, au)
	dst := make([]byte, 0, 8192)
	b.SetBytes(int64(len(au)))
	b.ReportAllocs()
	for b.Loop() {
		nal.AppendFromAnnexB(dst, au)
	}
}
