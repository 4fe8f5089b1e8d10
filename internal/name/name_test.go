package name

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{"live/demo", "demo", "a/b/c/d", "live/Ünï-codé", "live/with space", "live/a.b_c-d+e=f,g", strings.Repeat("x", 255)} {
		require.NoError(t, Check(good), good)
	}
	for _, bad := range []string{
		"", "/", "live/", "/live", "live//demo", "..", "live/..", "../etc/passwd", "live/../demo", "live/.hidden", "live/_hls",
		"_x/demo", "live/a\x00b", "live/a\nb", "live/a\\b", "live/%2e%2e", "live/\xff\xfe", "live/a?b", "live/a#b", "live/a\u202eb",
		"live/ a", "live/a ", "live/<b>", strings.Repeat("x", 256), "live/\u2028",
	} {
		require.ErrorIs(t, Check(bad), ErrName, "%q", bad)
	}
}

func TestCheckPath(t *testing.T) {
	segment := strings.Repeat("x", 255)
	for _, good := range []string{"live/demo/20260102T030405.000Z/v12.m4s", segment + "/" + segment + "/" + segment} {
		require.NoError(t, CheckPath(good), good)
	}
	for _, bad := range []string{"", "..", "live/../x", "live/.x", segment + "x", "a/" + segment + "x", strings.Repeat("x/", 512) + "x"} {
		require.ErrorIs(t, CheckPath(bad), ErrName, "%q", bad)
	}
}

func TestJoin(t *testing.T) {
	for _, c := range []struct{ vhost, app, stream, want string }{
		{"", "live", "demo", "live/demo"},
		{DefaultVHost, "live", "demo", "live/demo"},
		{"example.com", "live", "demo", "example.com/live/demo"},
		{"", "a/b/c", "demo", "a/b/c/demo"},
		{"", "", "demo", "demo"},
		{"", "live", "", ""},
		{"", "live", "a/b", ""},
		{"", "..", "demo", ""},
		{"v", "", "..", ""},
	} {
		got, err := Join(c.vhost, c.app, c.stream)
		require.Equal(t, c.want, got)
		require.Equal(t, c.want == "", err != nil)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("live/demo")
	f.Add("live/../x")
	f.Fuzz(func(t *testing.T, key string) {
		if Check(key) != nil {
			return
		}
		require.NotContains(t, key, "..\\")
		require.NotContains(t, "/"+key+"/", "/../")
		require.NotContains(t, key, "\x00")
		require.LessOrEqual(t, len(key), MaxLen)
	})
}
