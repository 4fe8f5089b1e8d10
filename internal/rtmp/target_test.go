package rtmp

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		name, app, tcURL, stream string
		want                     target
	}{
		{"plain", "live", "rtmp://h/live", "cam", target{key: "live/cam", app: "live", name: "cam"}},
		{"token with the stream", "live", "rtmp://h/live", "cam?token=a%2Fb&x=1",
			target{key: "live/cam", app: "live", name: "cam", query: "token=a%2Fb&x=1", token: "a/b"}},
		{"token with the app", "live?token=t", "rtmp://h/live?token=t", "cam",
			target{key: "live/cam", app: "live", name: "cam", query: "token=t", token: "t"}},
		{"token in tcUrl only", "live", "rtmp://h/live?token=t", "cam",
			target{key: "live/cam", app: "live", name: "cam", query: "token=t", token: "t"}},
		{"the stream's token goes first", "live?token=app&y=2", "", "cam?token=stream",
			target{key: "live/cam", app: "live", name: "cam", query: "token=stream&token=app&y=2", token: "stream"}},
		{"the same query twice", "live?token=t", "", "cam?token=t",
			target{key: "live/cam", app: "live", name: "cam", query: "token=t", token: "t"}},
		{"vhost with the app", "live?vhost=v.example", "", "cam",
			target{key: "v.example/live/cam", vhost: "v.example", app: "live", name: "cam", query: "vhost=v.example"}},
		{"vhost with the stream", "live", "", "cam?vhost=v.example&token=t",
			target{key: "v.example/live/cam", vhost: "v.example", app: "live", name: "cam", query: "vhost=v.example&token=t", token: "t"}},
		{"vhost with dots", "live...vhost...v.example", "", "cam",
			target{key: "v.example/live/cam", vhost: "v.example", app: "live", name: "cam", query: "vhost=v.example"}},
		{"vhost with a slash behind", "live?vhost=v.example/", "", "cam",
			target{key: "v.example/live/cam", vhost: "v.example", app: "live", name: "cam", query: "vhost=v.example"}},
		{"default vhost", "live?vhost=__defaultVhost__", "", "cam",
			target{key: "live/cam", app: "live", name: "cam", query: "vhost=__defaultVhost__"}},
		{"the host is no vhost", "live", "rtmp://v.example/live", "cam", target{key: "live/cam", app: "live", name: "cam"}},
		{"several levels, cut at the end", "a/b/c", "", "d", target{key: "a/b/c/d", app: "a/b/c", name: "d"}},
		{"several levels, cut as ffmpeg does", "a/b", "", "c/d", target{key: "a/b/c/d", app: "a/b/c", name: "d"}},
		{"several levels, cut at the start", "a", "", "b/c/d?token=t", target{key: "a/b/c/d", app: "a/b/c", name: "d", query: "token=t", token: "t"}},
		{"not cut at all", "live/cam?token=t", "rtmp://h/live/cam?token=t", "", target{key: "live/cam", app: "live", name: "cam", query: "token=t", token: "t"}},
		{"slashes at the ends", "/live/", "", "/cam/", target{key: "live/cam", app: "live", name: "cam"}},
		{"kind of file", "live", "", "mp4:cam.mp4", target{key: "live/cam.mp4", app: "live", name: "cam.mp4"}},
		{"no app", "", "", "cam", target{key: "cam", name: "cam"}},
		{"beyond ASCII", "live", "", "кам", target{key: "live/кам", app: "live", name: "кам"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseTarget(c.app, c.tcURL, c.stream)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestTargetRefused(t *testing.T) {
	for _, c := range []struct{ name, app, stream string }{
		{"nothing", "", ""},
		{"no stream", "live", ""},
		{"only a query", "live", "?token=t"},
		{"dots", "..", "cam"},
		{"dots in the stream", "live", "../cam"},
		{"percent", "live", "%2e%2e"},
		{"NUL", "live", "a\x00b"},
		{"newline", "live", "a\nb"},
		{"backslash", "live", `a\b`},
		{"not UTF-8", "live", "a\xff"},
		{"300 bytes", "live", strings.Repeat("a", 300)},
		{"empty segment", "a//b", "cam"},
		{"reserved", "live", "_hls"},
		{"reserved app", "_api", "cam"},
		{"vhost dots", "live?vhost=..", "cam"},
		{"vhost of two segments", "live?vhost=a%2Fb", "cam"},
		{"control characters in the query", "live", "cam?a=\r\nb"},
		{"long query", "live", "cam?a=" + strings.Repeat("a", maxQuery)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseTarget(c.app, "", c.stream)
			require.ErrorIs(t, err, stream.ErrName)
		})
	}
}

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url  string
		want location
	}{
		{"rtmp://host/live/cam?token=a/b", location{addr: "host:1935", host: "host", tcURL: "rtmp://host/live", app: "live", stream: "cam?token=a/b"}},
		{"rtmp://host:1936/a/b/c", location{addr: "host:1936", host: "host", tcURL: "rtmp://host:1936/a/b", app: "a/b", stream: "c"}},
		{"rtmps://[::1]/live/cam", location{tls: true, addr: "[::1]:443", host: "::1", tcURL: "rtmps://[::1]/live", app: "live", stream: "cam"}},
		{"rtmp://host/app?vhost=v/cam?token=t", location{addr: "host:1935", host: "host", tcURL: "rtmp://host/app?vhost=v", app: "app?vhost=v", stream: "cam?token=t"}},
	} {
		got, err := parseURL(c.url)
		require.NoError(t, err, c.url)
		require.Equal(t, c.want, got)
	}
	for _, bad := range []string{"", "http://host/a/b", "rtmp://", "rtmp:///a/b", "rtmp://host", "rtmp://host/cam", "rtmp://ho st/a/b", "rtmp://host:x/a/b"} {
		_, err := parseURL(bad)
		require.Error(t, err, bad)
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("live?vhost=v", "rtmp://h/live", "cam?token=t")
	f.Add("live...vhost...v", "", "a/b/c")
	f.Add("/..//", "?", "mp4:%00")
	f.Fuzz(func(t *testing.T, app, tcURL, name string) {
		got, err := parseTarget(app, tcURL, name)
		if err != nil {
			require.ErrorIs(t, err, stream.ErrName)
			return
		}
		key := got.app + "/" + got.name
		if got.vhost != "" {
			key = got.vhost + "/" + key
		}
		require.Equal(t, strings.TrimPrefix(key, "/"), got.key)
	})
}
