package amf

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

func TestAMF0(t *testing.T) {
	for _, c := range []struct {
		name string
		hex  string
		want any
		back bool // Append gives the same bytes
	}{
		{"number", "00 3ff0000000000000", 1.0, true},
		{"true", "01 01", true, true},
		{"false", "01 00", false, true},
		{"string", "02 0003 616263", "abc", true},
		{"empty string", "02 0000", "", true},
		{"null", "05", nil, true},
		{"undefined", "06", Undefined{}, true},
		{"unsupported", "0d", Undefined{}, false},
		{"reference", "07 0001", Undefined{}, false},
		{"object", "03 0001 61 00 4000000000000000 0001 62 05 0000 09", Object{{"a", 2.0}, {"b", nil}}, true},
		{"empty object", "03 0000 09", Object{}, true},
		{"typed object", "10 0003 466f6f 0001 61 0101 0000 09", Object{{"a", true}}, false},
		{"ECMA array", "08 00000001 0001 61 02 0001 78 0000 09", ECMAArray{{"a", "x"}}, true},
		{"ECMA array, wrong count", "08 000000ff 0001 61 02 0001 78 0000 09", ECMAArray{{"a", "x"}}, false},
		{"ECMA array without end", "08 00000001 0001 61 02 0001 78", ECMAArray{{"a", "x"}}, false},
		{"strict array", "0a 00000002 05 0101", []any{nil, true}, true},
		{"date", "0b 408f400000000000 0000", time.UnixMilli(1000).UTC(), true},
		{"date, not a number", "0b 7ff8000000000001 0000", time.Time{}, false},
		{"long string", "0c 00000003 616263", "abc", false},
		{"XML", "0f 00000001 3c", "<", false},
		{"nested", "03 0001 6f 03 0001 61 0a 00000001 05 0000 09 0000 09", Object{{"o", Object{{"a", []any{nil}}}}}, true},
		{"empty key", "03 0000 05 0000 09", Object{{"", nil}}, true},
		{"AMF3 inside", "11 04 05", 5.0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.hex)
			got, err := Decode(b)
			require.NoError(t, err)
			require.Equal(t, []any{c.want}, got)
			if c.back {
				again, err := Append(nil, c.want)
				require.NoError(t, err)
				require.Equal(t, b, again)
			}
		})
	}
}

// The connect command as a Flash-era encoder sends it.
func TestDecodeConnect(t *testing.T) {
	b := unhex(t, `02 0007 636f6e6e656374 00 3ff0000000000000
		03 0003 617070 02 0004 6c697665 0004 74797065 02 000a 6e6f6e70726976617465 0000 09`)
	got, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, []any{"connect", 1.0, Object{{"app", "live"}, {"type", "nonprivate"}}}, got)
	o, ok := AsObject(got[2])
	require.True(t, ok)
	require.Equal(t, "live", o.String("app"))
	require.Equal(t, "", o.String("nothing"))
	require.Equal(t, 0.0, o.Number("app"))
}

func TestDateRoundTrip(t *testing.T) {
	want := time.Date(2026, 11, 21, 12, 0, 0, 5e6, time.UTC)
	b, err := Append(nil, want)
	require.NoError(t, err)
	got, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, []any{want}, got)
}

func TestAMF0Errors(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"number cut", "00 3ff0", errShort},
		{"string cut", "02 0005 61", errShort},
		{"long string of 4 GiB", "0c ffffffff 61", errShort},
		{"object without end", "03 0001 61 05", errShort},
		{"ECMA array cut", "08 00000002 0001 61 05", errShort},
		{"array of 4 G elements", "0a ffffffff 05", errShort},
		{"stray end", "09", errMarker},
		{"movie clip", "04", errMarker},
		{"unknown", "7f", errMarker},
		{"date cut", "0b 4271a7ab02a00000 00", errShort},
		{"deep arrays", strings.Repeat("0a 00000001", 40) + "05", errDepth},
		{"deep objects", strings.Repeat("03 0001 61", 40) + "05", errDepth},
		{"many values", strings.Repeat("05", maxValues+1), errTooMany},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(unhex(t, c.hex))
			require.ErrorIs(t, err, c.want)
		})
	}
	// What came before the bad value is returned.
	got, err := Decode(unhex(t, "02 0001 61 05 ff"))
	require.ErrorIs(t, err, errMarker)
	require.Equal(t, []any{"a", nil}, got)
}

func TestAMF3(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      []any
	}{
		{"simple", "00 01 02 03", []any{Undefined{}, nil, false, true}},
		{"integers", "04 7f 04 8100 04 ffffffff 04 bfffffff", []any{127.0, 128.0, -1.0, 268435455.0}},
		{"double", "05 3ff8000000000000", []any{1.5}},
		{"strings by reference", "06 07 616263 06 00 06 01", []any{"abc", "abc", ""}},
		{"XML and bytes", "07 03 3c 0b 03 3e 0c 05 0001", []any{"<", ">", "\x00\x01"}},
		{"date", "08 01 0000000000000000", []any{time.UnixMilli(0).UTC()}},
		{"dense array", "09 05 01 04 01 03", []any{[]any{1.0, true}}},
		{"associative array", "09 03 03 61 04 02 01 03", []any{ECMAArray{{"a", 2.0}, {"0", true}}}},
		{"dynamic object", "0a 0b 01 03 61 06 03 62 01", []any{Object{{"a", "b"}}}},
		{"traits by reference", "0a 13 03 43 03 61 04 01 0a 01 04 02", []any{Object{{"a", 1.0}}, Object{{"a", 2.0}}}},
		{"object by reference", "0a 0b 01 01 0a 00", []any{Object{}, Undefined{}}},
		{"array collection", "0a 07 43 " + hex.EncodeToString([]byte("flex.messaging.io.ArrayCollection")) + " 09 03 01 04 07", []any{[]any{7.0}}},
		{"vectors", "0d 03 00 ffffffff 0e 03 00 ffffffff 0f 03 00 3ff0000000000000 10 03 00 01 03",
			[]any{[]any{-1.0}, []any{4294967295.0}, []any{1.0}, []any{true}}},
		{"dictionary", "11 07 00 06 03 61 03 04 05 02 03 01", []any{ECMAArray{{"a", true}, {"5", false}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := DecodeAMF3(unhex(t, c.hex))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestAMF3Errors(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"string cut", "06 09 61", errShort},
		{"integer cut", "04 ff", errShort},
		{"string reference to nothing", "06 02", errReference},
		{"traits reference to nothing", "0a 01", errReference},
		{"huge array", "09 ffffffff 01", errShort},
		{"huge vector", "0d ffffffff 00", errShort},
		{"huge dictionary", "11 ffffffff 00", errShort},
		{"huge class", "0a fffffffb 01", errShort},
		{"unknown class", "0a 07 03 58", errExternal},
		{"unknown marker", "7f 01", errMarker},
		{"deep arrays", strings.Repeat("09 03 01", 40) + "01", errDepth},
		{"long string named often", "06 818001 " + strings.Repeat("61", 0x2000) + strings.Repeat("06 00", 200), errTooMany},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeAMF3(unhex(t, c.hex))
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestAppendTypes(t *testing.T) {
	b, err := Append(nil, int(1), int8(-1), uint32(7), float32(0.5), strings.Repeat("x", 70000),
		map[string]any{"b": 1, "a": []any{map[string]any{}}})
	require.NoError(t, err)
	got, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, []any{1.0, -1.0, 7.0, 0.5, strings.Repeat("x", 70000),
		Object{{"a", []any{Object{}}}, {"b", 1.0}}}, got)

	head := []byte("head")
	b, err = Append(head, "fine", struct{}{})
	require.ErrorIs(t, err, errUnencodable)
	require.Equal(t, head, b)
	_, err = Append(nil, Object{{strings.Repeat("k", 1<<16), nil}})
	require.ErrorIs(t, err, errLong)

	var deep any
	for range 100 {
		deep = []any{deep}
	}
	_, err = Append(nil, deep)
	require.ErrorIs(t, err, errDepth)
}

func TestMap(t *testing.T) {
	o := ECMAArray{{"n", 1.0}, {"o", Object{{"u", Undefined{}}}}, {"l", []any{ECMAArray{}}}, {"t", time.UnixMilli(0)}, {"n", 2.0}}
	require.Equal(t, map[string]any{
		"n": 2.0, "o": map[string]any{"u": nil}, "l": []any{map[string]any{}}, "t": "1970-01-01T00:00:00Z",
	}, o.Map())
	require.Equal(t, ECMAArray{{"a", 1.0}, {"b", "x"}}, FromMetadata(map[string]any{"b": "x", "a": 1.0}))
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"02 0007 636f6e6e656374 00 3ff0000000000000 03 0003 617070 02 0004 6c697665 0000 09",
		"08 00000001 0001 61 02 0001 78", "0a 00000002 05 0101", "11 0a 0b 01 03 61 06 03 62 01", "0c ffffffff 61",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := Decode(b)
		if err != nil {
			return
		}
		// What was decoded can be written, and means the same then.
		out, err := Append(nil, values...)
		if err != nil {
			require.ErrorIs(t, err, errDepth)
			return
		}
		again, err := Decode(out)
		require.NoError(t, err)
		out2, err := Append(nil, again...)
		require.NoError(t, err)
		require.True(t, bytes.Equal(out, out2))
	})
}

func FuzzDecodeAMF3(f *testing.F) {
	for _, s := range []string{
		"04 8100 05 3ff8000000000000 06 07 616263 06 00", "09 03 03 61 04 02 01 03",
		"0a 13 03 43 03 61 04 01 0a 01 04 02", "0d 03 00 ffffffff 10 03 00 01 03", "11 07 00 06 03 61 03 04 05 02 03 01",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		values, _ := DecodeAMF3(b)
		for _, v := range values {
			if o, ok := AsObject(v); ok {
				o.Map()
			}
		}
		_, _ = Append(nil, values...)
	})
}

// What a message declares costs nothing until its bytes are there.
func TestDecodeCost(t *testing.T) {
	b := unhex(t, "0a 00ffffff"+strings.Repeat("05", 100))
	require.Less(t, testing.AllocsPerRun(10, func() { _, _ = Decode(b) }), 20.0)
}
