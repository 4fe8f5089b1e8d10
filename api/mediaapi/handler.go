package mediaapi

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/api/tokens"
	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

// A Handler serves the API below /api/. Its fields must not change once it
// serves; ServeHTTP may be called from many goroutines at once.
type Handler struct {
	Hub  *stream.Hub
	Gate *access.Gate // nil: only this machine is let in

	Name      string        // of the server, for people; "": not said
	Version   string        // ditto
	Started   time.Time     // of the server; zero: when it was first asked
	MaxEvents int           // connections that may follow events at once; 0: 64
	Events    []EventSource // beside the hub's

	MaxDeclarations int           // streams that may be declared; 0: 10000
	Declarations    Declarations  // keeps them; nil: they are forgotten with the process
	Tokens          *tokens.Store // that the Gate takes; nil: 404
	Users           *users.Store  // that the authorizers of media, and the Gate, take; nil: none can be added
	// FixedUsers lists users who are not the API's to change, as those in a file.
	// nil: there are none. It may be called from many goroutines at once.
	FixedUsers func() []users.User

	// Snapshot makes a JPEG of what a live stream shows. stream.ErrNotFound and
	// stream.ErrUnsupported are answers, other errors are for the log. nil: 404.
	Snapshot func(ctx context.Context, streamName string) ([]byte, error)

	LogLevel *slog.LevelVar     // may be changed by admins; nil: 404
	Limits   *limit.Limiter     // what bounds peers; nil: 404
	Settings map[string]Setting // by name: what else admins may change while the server runs

	setup     sync.Once
	server    rest.Server
	started   time.Time
	closing   sync.Once
	closed    chan struct{}
	following atomic.Int64
	changing  sync.Mutex    // declarations, limits, settings, users: one change at a time
	bodyTime  time.Duration // 0: 10 s; for tests
	pingEvery time.Duration // 0: 15 s; for tests
}

// Declarations keeps what a hub has declared; *declared.File is one. Save is
// called by one goroutine at a time.
type Declarations interface {
	Save(ctx context.Context, hub *stream.Hub) error
}

// routes are all there are.
func (h *Handler) routes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/api/v2/streams", Need: access.Viewer, Serve: h.listStreams},
		{Method: "POST", Path: "/api/v2/streams", Need: access.Operator, Serve: h.declareStream},
		{Method: "GET", Path: "/api/v2/streams/{name}", Need: access.Viewer, Serve: h.getStream},
		{Method: "DELETE", Path: "/api/v2/streams/{name}", Need: access.Operator, Serve: h.endStream},
		{Method: "GET", Path: "/api/v2/streams/{name}/snapshot.jpg", Need: access.Viewer, Serve: h.getSnapshot},
		{Method: "GET", Path: "/api/v2/declarations", Need: access.Viewer, Serve: h.listDeclarations},
		{Method: "GET", Path: "/api/v2/declarations/{name}", Need: access.Viewer, Serve: h.getDeclaration},
		{Method: "PUT", Path: "/api/v2/declarations/{name}", Need: access.Operator, Serve: h.putDeclaration},
		{Method: "PATCH", Path: "/api/v2/declarations/{name}", Need: access.Operator, Serve: h.patchDeclaration},
		{Method: "DELETE", Path: "/api/v2/declarations/{name}", Need: access.Operator, Serve: h.deleteDeclaration},
		{Method: "GET", Path: "/api/v2/publishers", Need: access.Viewer, Serve: h.listPublishers},
		{Method: "GET", Path: "/api/v2/sessions", Need: access.Viewer, Serve: h.listSessions},
		{Method: "DELETE", Path: "/api/v2/sessions", Need: access.Operator, Serve: h.endSessions},
		{Method: "GET", Path: "/api/v2/sessions/{id}", Need: access.Viewer, Serve: h.getSession},
		{Method: "DELETE", Path: "/api/v2/sessions/{id}", Need: access.Operator, Serve: h.endSession},
		{Method: "GET", Path: "/api/v2/server", Need: access.Viewer, Serve: h.getServer},
		{Method: "GET", Path: "/api/v2/events", Need: access.Viewer, Serve: h.events},
		{Method: "GET", Path: "/api/v2/log-level", Need: access.Viewer, Serve: h.getLogLevel},
		{Method: "PUT", Path: "/api/v2/log-level", Need: access.Admin, Serve: h.putLogLevel},
		{Method: "GET", Path: "/api/v2/limits", Need: access.Viewer, Serve: h.getLimits},
		{Method: "GET", Path: "/api/v2/limits/usage", Need: access.Viewer, Serve: h.getUsage},
		{Method: "PUT", Path: "/api/v2/limits", Need: access.Admin, Serve: h.putLimits},
		{Method: "PATCH", Path: "/api/v2/limits", Need: access.Admin, Serve: h.patchLimits},
		{Method: "GET", Path: "/api/v2/config", Need: access.Viewer, Serve: h.getConfig},
		{Method: "PATCH", Path: "/api/v2/config", Need: access.Admin, Serve: h.patchConfig},
		{Method: "GET", Path: "/api/v2/tokens", Need: access.Admin, Serve: h.listTokens},
		{Method: "POST", Path: "/api/v2/tokens", Need: access.Admin, Serve: h.addToken},
		{Method: "DELETE", Path: "/api/v2/tokens", Need: access.Admin, Serve: h.revokeTokens},
		{Method: "GET", Path: "/api/v2/tokens/{id}", Need: access.Admin, Serve: h.getToken},
		{Method: "DELETE", Path: "/api/v2/tokens/{id}", Need: access.Admin, Serve: h.revokeToken},
		{Method: "GET", Path: "/api/v2/users", Need: access.Admin, Serve: h.listUsers},
		{Method: "POST", Path: "/api/v2/users", Need: access.Admin, Serve: h.addUser},
		{Method: "GET", Path: "/api/v2/users/{user}", Need: access.Admin, Serve: h.getUser},
		{Method: "PATCH", Path: "/api/v2/users/{user}", Need: access.Admin, Serve: h.patchUser},
		{Method: "DELETE", Path: "/api/v2/users/{user}", Need: access.Admin, Serve: h.deleteUser},
		{Method: "GET", Path: "/api/v2/me", Need: access.Viewer, Serve: h.getMe},
		{Method: "GET", Path: "/api/openapi.json", Need: access.Viewer, Serve: h.getOpenAPI},
	}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setup.Do(h.prepare)
	h.server.ServeHTTP(w, r)
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
	if h.pingEvery == 0 {
		h.pingEvery = 15 * time.Second
	}
	h.server = rest.Server{Gate: h.Gate, Routes: h.routes(), BodyTime: h.bodyTime}
}
