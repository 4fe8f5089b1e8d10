package api

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// A Handler sends requests to the parts that there are; what is nil is 404. Its
// fields must not change once it serves; ServeHTTP may be called from many
// goroutines at once.
type Handler struct {
	Media   http.Handler // /api/v2/ and /api/openapi.json: a *mediaapi.Handler
	TURN    http.Handler // /api/v2/turn/, which is cut off: a *turnapi.Handler
	SRS     http.Handler // /api/v1/: a *srsapi.Handler
	Metrics http.Handler // /metrics; put an access.Gate before it

	// Ready says what the server still waits for, or that it drains, for
	// /readyz. It should return soon. nil: it is always ready.
	Ready func(context.Context) error
}

// readyTime bounds what Ready may take.
const readyTime = 5 * time.Second

// Serves reports whether a path is one of the control plane's, for hosts that
// serve other things at the same address, such as streams of an app "api".
func Serves(path string) bool {
	switch path {
	case "/api/", "/api/v1", "/api/openapi.json", "/metrics", "/healthz", "/readyz":
		return true
	}
	return strings.HasPrefix(path, "/api/v1/") || strings.HasPrefix(path, "/api/v2/")
}

// ServeHTTP answers one request. /healthz and /readyz are open to everybody,
// and say no more than yes or no.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	var next http.Handler
	switch {
	case path == "/healthz":
		answer(w, r, true)
		return
	case path == "/readyz":
		ctx, cancel := context.WithTimeout(r.Context(), readyTime)
		defer cancel()
		answer(w, r, h.Ready == nil || h.Ready(ctx) == nil)
		return
	case path == "/metrics":
		next = h.Metrics
	case strings.HasPrefix(path, "/api/v2/turn/"):
		if h.TURN != nil {
			next = http.StripPrefix("/api/v2/turn", h.TURN)
		}
	case strings.HasPrefix(path, "/api/v2/"), path == "/api/openapi.json":
		next = h.Media
	case path == "/api/", path == "/api/v1", strings.HasPrefix(path, "/api/v1/"):
		next = h.SRS
	}
	if next == nil {
		http.NotFound(w, r)
		return
	}
	next.ServeHTTP(w, r)
}

func answer(w http.ResponseWriter, r *http.Request, yes bool) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if !yes {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}
