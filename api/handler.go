package api

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
)

// A Handler sends requests to the parts that there are; what is nil is 404. Its
// fields must not change once it serves; ServeHTTP may be called from many
// goroutines at once.
type Handler struct {
	Media   http.Handler // /api/v2/: a *mediaapi.Handler
	Record  http.Handler // /api/v2/recordings, recorders and clips: a *recordapi.Handler
	Relay   http.Handler // /api/v2/relays, /api/v2/cluster: a *relayapi.Handler
	TURN    http.Handler // /api/v2/turn/, which is cut off: a *turnapi.Handler
	SRS     http.Handler // /api/v1/: a *srsapi.Handler
	Metrics http.Handler // /metrics; put an access.Gate before it
	Console http.Handler // /console/, which is cut off: console.Handler()

	// Gate stands before /api/openapi.json, the document of what Media, Record,
	// Relay and TURN serve. nil: only this machine is let in.
	Gate *access.Gate

	// Ready says what the server still waits for, or that it drains, for
	// /readyz. It should return soon. nil: it is always ready.
	Ready func(context.Context) error

	setup sync.Once
	docs  rest.Server
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
	return strings.HasPrefix(path, "/api/v1/") || strings.HasPrefix(path, "/api/v2/") || ofConsole(path)
}

// ofConsole reports whether a path is the console's or one of its files', and
// not a stream's of an app "console".
func ofConsole(path string) bool {
	rest, ok := strings.CutPrefix(path, "/console")
	if !ok || rest != "" && rest[0] != '/' {
		return false
	}
	_, ext, _ := strings.Cut(rest, ".")
	switch ext {
	case "", "html", "js", "css", "svg":
		return true
	}
	return false
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
	case path == "/console" && h.Console != nil:
		// As a relative one it holds below a prefix that a proxy cuts off too.
		w.Header().Set("Location", "console/")
		w.WriteHeader(http.StatusMovedPermanently)
		return
	case strings.HasPrefix(path, "/console/"):
		if h.Console != nil {
			next = http.StripPrefix("/console", h.Console)
		}
	case strings.HasPrefix(path, "/api/v2/turn/"):
		if h.TURN != nil {
			next = http.StripPrefix("/api/v2/turn", h.TURN)
		}
	case path == "/api/openapi.json":
		h.setup.Do(h.document)
		next = &h.docs
	case under(path, "/api/v2/recordings"), under(path, "/api/v2/recorders"), path == "/api/v2/clips":
		next = h.Record
	case path == "/api/v2/relays", under(path, "/api/v2/cluster"):
		next = h.Relay
	case strings.HasPrefix(path, "/api/v2/"):
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

// under reports whether a path is a collection or something in it.
func under(path, collection string) bool {
	rest, ok := strings.CutPrefix(path, collection)
	return ok && (rest == "" || rest[0] == '/')
}

// document joins what the parts say of themselves.
func (h *Handler) document() {
	var parts []rest.Part
	for _, p := range []struct {
		prefix string
		part   http.Handler
	}{{"", h.Media}, {"", h.Record}, {"", h.Relay}, {"/api/v2/turn", h.TURN}} {
		if d, ok := p.part.(interface{ OpenAPI() []byte }); ok {
			parts = append(parts, rest.Part{Prefix: p.prefix, Text: d.OpenAPI()})
		}
	}
	serve := func(c *rest.Call) { c.Refuse(http.StatusNotFound, "there is no such part here") }
	if text, err := rest.Merge("Runnel API", parts...); err == nil && len(parts) > 0 {
		serve = func(c *rest.Call) { c.AnswerBytes(text) }
	}
	h.docs = rest.Server{Gate: h.Gate, Routes: []rest.Route{{Method: "GET", Path: "/api/openapi.json", Need: access.Viewer, Serve: serve}}}
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
