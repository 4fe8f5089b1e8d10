package srsname

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCut(t *testing.T) {
	known := func(v string) bool { return v == "example.com" }
	for key, want := range map[string]Stream{
		"live/cam":             {DefaultVHost, "live", "cam"},
		"cam":                  {DefaultVHost, "", "cam"},
		"a/b/cam":              {DefaultVHost, "a/b", "cam"},
		"example.com/live/cam": {"example.com", "live", "cam"},
		"example.com/cam":      {"example.com", "", "cam"},
		"example.com":          {DefaultVHost, "", "example.com"},
	} {
		require.Equal(t, want, Cut(key, known), key)
	}
	require.Equal(t, Stream{DefaultVHost, "example.com/live", "cam"}, Cut("example.com/live/cam", nil))
}

func TestNames(t *testing.T) {
	s := Parts("", "live", "cam")
	require.Equal(t, "/live/cam", s.URL())
	require.Equal(t, "rtmp://__defaultVhost__/live", s.TCURL())
	other := Parts("example.com", "live", "cam")
	require.Equal(t, "example.com/live/cam", other.URL())
	require.NotEqual(t, s.ID(), other.ID())
	require.NotEqual(t, s.VHostID(), other.VHostID())
	require.Regexp(t, `^vid-[a-z2-7]{8}$`, s.ID())
	require.Equal(t, s.ID(), Cut("live/cam", nil).ID())
}
