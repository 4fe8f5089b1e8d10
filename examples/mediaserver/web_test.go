package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/webpage"
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
	for _, path := range []string{"/", "/index.html", "/style.css", "/app.js", "/player.js", "/icon.svg"} {
		r := get(h, "GET", path)
		require.Equal(t, 200, r.StatusCode, path)
		policy := r.Header.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'self';")
		require.NotContains(t, policy, "unsafe")
	}
	for _, p := range []string{"/web", "/web/index.html", "/favicon.ico", "/live/demo", "/../web.go", "/app.js/"} {
		require.Equal(t, 404, get(h, "GET", p).StatusCode, p)
	}
}

func TestWebFiles(t *testing.T) {
	require.NoError(t, webpage.Check(web(), webpage.Player()))
}
