package console

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/webpage"
)

func TestFiles(t *testing.T) {
	require.NoError(t, webpage.Check(web(), webpage.Player()))
}

func TestHandler(t *testing.T) {
	h := Handler()
	for path, status := range map[string]int{
		"/": 200, "/app.js": 200, "/player.js": 200, "/style.css": 200, "/icon.svg": 200,
		"/web/app.js": 404, "/console.go": 404, "/../console.go": 404, "/x": 404,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, status, w.Code, path)
		if status == 200 {
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'self';")
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")
		}
	}
}
