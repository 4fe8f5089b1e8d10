package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

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

func TestWebHandler(t *testing.T) {
	h := webHandler()
	for _, tt := range []struct{ path, contentType string }{
		{"/", "text/html; charset=utf-8"},
		{"/index.html", "text/html; charset=utf-8"},
		{"/?x=1", "text/html; charset=utf-8"},
		{"/style.css", "text/css; charset=utf-8"},
		{"/app.js", "text/javascript; charset=utf-8"},
		{"/player.js", "text/javascript; charset=utf-8"},
		{"/icon.svg", "image/svg+xml"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			r := get(h, "GET", tt.path)
			require.Equal(t, 200, r.StatusCode)
			require.Equal(t, tt.contentType, r.Header.Get("Content-Type"))
			require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
			require.Equal(t, "no-cache", r.Header.Get("Cache-Control"))
			policy := r.Header.Get("Content-Security-Policy")
			require.Contains(t, policy, "default-src 'self';")
			require.NotContains(t, policy, "unsafe")
			require.NotZero(t, r.ContentLength)

			again := get(h, "GET", tt.path, "If-None-Match", r.Header.Get("ETag"))
			require.Equal(t, http.StatusNotModified, again.StatusCode)
			require.Equal(t, 200, get(h, "GET", tt.path, "If-None-Match", `"other"`).StatusCode)
			require.Equal(t, 200, get(h, "HEAD", tt.path).StatusCode)
			require.Equal(t, http.StatusMethodNotAllowed, get(h, "POST", tt.path).StatusCode)
		})
	}
	for _, p := range []string{"/web", "/web/index.html", "/favicon.ico", "/live/demo", "//", "/../web.go", "/app.js/"} {
		require.Equal(t, 404, get(h, "GET", p).StatusCode, p)
	}
}

// What the policy forbids must not be in the files: it would work nowhere, and
// be noticed in a browser only.
func TestWebFiles(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|(src|href)="(https?:)?//|javascript:`),
		".js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\("style"|from "[^.]`),
		".css":  regexp.MustCompile(`@import|url\(`),
		".svg":  regexp.MustCompile(`<script|<style|xlink`),
	}
	reference := regexp.MustCompile(`(?:src|href)="([a-z][^":]*)"|from "\./([^"]*)"`)
	h := webHandler()
	n := 0
	require.NoError(t, fs.WalkDir(webFiles, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		require.Contains(t, webTypes, path.Ext(name))
		data, err := webFiles.ReadFile(name)
		require.NoError(t, err)
		require.Empty(t, forbidden[path.Ext(name)].FindString(string(data)), name)
		for _, m := range reference.FindAllStringSubmatch(string(data), -1) {
			require.Equal(t, 200, get(h, "GET", "/"+m[1]+m[2]).StatusCode, "%s in %s", m[0], name)
		}
		require.False(t, strings.Contains(string(data), "\r"), name)
		return nil
	}))
	require.Greater(t, n, 5)
}
