package webpage

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func get(h http.Handler, method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestNew(t *testing.T) {
	h := New(Policy, fstest.MapFS{
		"index.html": {Data: []byte("<!doctype html><title>x</title>")}, "a/b.svg": {Data: []byte("<svg/>")},
	}, Player())
	for _, tt := range []struct{ path, contentType string }{
		{"/", "text/html; charset=utf-8"},
		{"/index.html", "text/html; charset=utf-8"},
		{"/?x=1", "text/html; charset=utf-8"},
		{"/player.js", "text/javascript; charset=utf-8"},
		{"/a/b.svg", "image/svg+xml"},
	} {
		r := get(h, "GET", tt.path)
		require.Equal(t, 200, r.StatusCode, tt.path)
		require.Equal(t, tt.contentType, r.Header.Get("Content-Type"))
		require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-cache", r.Header.Get("Cache-Control"))
		require.Equal(t, Policy, r.Header.Get("Content-Security-Policy"))
		require.NotZero(t, r.ContentLength)
		require.Equal(t, http.StatusNotModified, get(h, "GET", tt.path, "If-None-Match", r.Header.Get("ETag")).StatusCode)
		require.Equal(t, 200, get(h, "GET", tt.path, "If-None-Match", `"other"`).StatusCode)
		require.Equal(t, 200, get(h, "HEAD", tt.path).StatusCode)
		require.Equal(t, http.StatusMethodNotAllowed, get(h, "POST", tt.path).StatusCode)
	}
	for _, p := range []string{"/player/player.js", "/favicon.ico", "//", "/../webpage.go", "/player.js/", "/a/", "/a"} {
		require.Equal(t, 404, get(h, "GET", p).StatusCode, p)
	}
	require.Panics(t, func() { New(Policy, fstest.MapFS{"secret.pem": {Data: []byte("x")}}) })
}

func TestCheck(t *testing.T) {
	require.NoError(t, Check(Player()))
	for name, text := range map[string]string{
		"a.html": `<script>alert(1)</script>`,
		"b.html": `<p onclick="x()">`,
		"c.html": `<p style="color:red">`,
		"d.html": `<img src="//elsewhere.example/x.png">`,
		"e.html": `<link href="gone.css">`,
		"a.js":   `e.innerHTML = name`,
		"b.js":   `import { x } from "https://elsewhere.example/x.js";`,
		"c.js":   `import { x } from "./gone.js";`,
		"d.js":   "x();\r\n",
		"a.css":  `@import "x.css";`,
		"a.svg":  `<svg><script/></svg>`,
		"a.txt":  `x`,
	} {
		require.Error(t, Check(fstest.MapFS{name: {Data: []byte(text)}}), name)
	}
	require.ErrorContains(t, Check(Player(), Player()), "twice")
	require.Error(t, Check(fstest.MapFS{}))
}
