package mediaapi

import (
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/stream"
)

// A Handler serves the API below /api/. Its fields must not change once it
// serves; ServeHTTP may be called from many goroutines at once.
type Handler struct {
	Hub  *stream.Hub
	Gate *access.Gate // nil: only this machine is let in

	Name      string         // of the server, for people; "": not said
	Version   string         // ditto
	Started   time.Time      // of the server; zero: when it was first asked
	LogLevel  *slog.LevelVar // may be changed by admins; nil: 404
	MaxEvents int            // connections that may follow events at once; 0: 64

	setup     sync.Once
	started   time.Time
	mux       *http.ServeMux
	closing   sync.Once
	closed    chan struct{}
	local     access.Gate // in place of a nil Gate
	following atomic.Int64
	bodyTime  time.Duration // 0: maxBodyTime; for tests
	pingEvery time.Duration // 0: 15 s; for tests
}

const (
	// maxBody bounds what a request may carry, in bytes.
	maxBody = 64 << 10
	// maxBodyTime bounds how long it may take.
	maxBodyTime = 10 * time.Second
	// maxAnswerTime bounds how long a client may take for the answer.
	maxAnswerTime = 30 * time.Second
)

// A route is one operation. Its path is that of the OpenAPI document.
type route struct {
	method, path string
	need         access.Role
	serve        func(*Handler, *call)
}

// routes are all there are; {name} stands for a stream's name with its slashes.
func routes() []route {
	return []route{
		{"GET", "/api/v2/streams", access.Viewer, (*Handler).listStreams},
		{"GET", "/api/v2/streams/{name}", access.Viewer, (*Handler).getStream},
		{"DELETE", "/api/v2/streams/{name}", access.Operator, (*Handler).endStream},
		{"GET", "/api/v2/publishers", access.Viewer, (*Handler).listPublishers},
		{"GET", "/api/v2/sessions", access.Viewer, (*Handler).listSessions},
		{"DELETE", "/api/v2/sessions", access.Operator, (*Handler).endSessions},
		{"GET", "/api/v2/sessions/{id}", access.Viewer, (*Handler).getSession},
		{"DELETE", "/api/v2/sessions/{id}", access.Operator, (*Handler).endSession},
		{"GET", "/api/v2/server", access.Viewer, (*Handler).getServer},
		{"GET", "/api/v2/events", access.Viewer, (*Handler).events},
		{"GET", "/api/v2/log-level", access.Viewer, (*Handler).getLogLevel},
		{"PUT", "/api/v2/log-level", access.Admin, (*Handler).putLogLevel},
		{"GET", "/api/v2/me", access.Viewer, (*Handler).getMe},
		{"GET", "/api/openapi.json", access.Viewer, (*Handler).getOpenAPI},
	}
}

// A call is one request that was let in, and where its answer goes.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	caller *access.Caller
	status int   // of the answer, for the audit
	more   []any // for the audit, in pairs
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setup.Do(h.prepare)
	control := http.NewResponseController(w)
	if r.ContentLength != 0 {
		// Even of a body that is not read: net/http reads it to its end. Where
		// there are no deadlines, the server's own bounds hold.
		_ = control.SetReadDeadline(time.Now().Add(h.bodyTime))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	_ = control.SetWriteDeadline(time.Now().Add(maxAnswerTime))
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	head.Set("Referrer-Policy", "no-referrer")
	if !strings.HasPrefix(r.URL.Path, "/") || path.Clean(r.URL.Path) != r.URL.Path { // the mux would redirect
		h.enter(w, r, nil)
	} else {
		h.mux.ServeHTTP(w, r)
	}
	_ = control.Flush() // within the time that there is
	_ = control.SetWriteDeadline(time.Time{})
}

// Close ends the answers that have no end of their own, those to /events, for
// http.Server.RegisterOnShutdown.
func (h *Handler) Close() error {
	h.setup.Do(h.prepare)
	h.closing.Do(func() { close(h.closed) })
	return nil
}

func (h *Handler) prepare() {
	h.closed = make(chan struct{})
	h.started = h.Started
	if h.started.IsZero() {
		h.started = time.Now()
	}
	if h.bodyTime == 0 {
		h.bodyTime = maxBodyTime
	}
	if h.pingEvery == 0 {
		h.pingEvery = 15 * time.Second
	}
	methods := map[string][]route{}
	for _, rt := range routes() {
		pattern := strings.Replace(rt.path, "{name}", "{name...}", 1)
		methods[pattern] = append(methods[pattern], rt)
	}
	h.mux = http.NewServeMux()
	for pattern, list := range methods {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.enter(w, r, list) })
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.enter(w, r, nil) })
}

func (h *Handler) gate() *access.Gate {
	if h.Gate == nil {
		return &h.local
	}
	return h.Gate
}

// enter lets a request in to one of the routes of its path, of which there may
// be none. Strangers do not learn which paths there are.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request, list []route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	need := access.Viewer
	i := slices.IndexFunc(list, func(rt route) bool { return rt.method == method })
	if i >= 0 {
		need = list[i].need
	}
	if h.gate().CORS(w, r, allowed(list)) {
		return
	}
	c := &call{w: w, r: r, status: http.StatusOK}
	caller, no := h.gate().Admit(w, r, need)
	if no != nil {
		c.refuse(no.Status, no.Detail)
		return
	}
	c.caller = caller
	defer func() { h.gate().Audit(r, caller, c.status, c.more...) }()
	switch {
	case i >= 0:
		list[i].serve(h, c)
	case list == nil:
		c.refuse(http.StatusNotFound, "there is nothing of that name")
	default:
		w.Header().Set("Allow", allowed(list))
		c.refuse(http.StatusMethodNotAllowed, "this takes "+allowed(list))
	}
}

// allowed lists the methods of a path.
func allowed(list []route) string {
	var methods []string
	for _, rt := range list {
		methods = append(methods, rt.method)
		if rt.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	return strings.Join(methods, ", ")
}
