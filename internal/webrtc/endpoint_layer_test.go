package webrtc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseChoice(t *testing.T) {
	for text, want := range map[string]Choice{
		`{}`:                                 {},
		`{"mediaId":"0","rid":"f"}`:          {RID: "f"},
		`{"mediaId":"1","encodingId":"q"}`:   {RID: "q"},
		`{"rid":"f","encodingId":"q"}`:       {RID: "f"},
		`{"maxWidth":640,"maxHeight":360.5}`: {MaxWidth: 640, MaxHeight: 360},
		`{"maxWidth":-1,"maxHeight":1e300}`:  {},
		`{"rid":null,"spatialLayerId":1}`:    {},
	} {
		got, ok := parseChoice([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{``, `[]`, `{"rid":1}`, `{"maxWidth":"x"}`, `{"rid":"12345678901234567890123456789012345678901234567890123456789012345"}`} {
		_, ok := parseChoice([]byte(text))
		require.False(t, ok, text)
	}
}

func FuzzChoice(f *testing.F) {
	f.Add([]byte(`{"mediaId":"0","rid":"f","maxWidth":640}`))
	f.Add([]byte(`{"encodingId":"q","maxHeight":1e400}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseChoice(b)
		if ok && (len(c.RID) > 64 || c.MaxWidth < 0 || c.MaxHeight < 0 || c.MaxWidth > 1<<16 || c.MaxHeight > 1<<16) {
			t.Fatalf("%+v", c)
		}
	})
}

func TestLayersEvent(t *testing.T) {
	require.JSONEq(t, `{"1":[{"rid":"f","encodingId":"f","bitrate":550000,"width":640,"height":360},{"rid":"q","encodingId":"q"}]}`,
		layersEvent(1, []Layer{{"f", 557_112, 640, 360}, {RID: "q"}}))
	require.JSONEq(t, `{"0":[]}`, layersEvent(0, nil))
	for n, want := range map[int64]int64{-1: 0, 0: 0, 3: 5, 9: 10, 101: 100, 2_345_678: 2_500_000} {
		require.Equal(t, want, rounded(n), n)
	}
}
