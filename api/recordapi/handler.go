package recordapi

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
)

// A Handler serves the recordings below /api/v2/. Its fields must not change
// once it serves; ServeHTTP may be called from many goroutines at once.
type Handler struct {
	Gate     *access.Gate    // nil: only this machine is let in
	Library  *record.Library // nil: there are no lists
	Recorder *record.Recorder

	// PlayURL returns where a recording can be played, "" for nowhere, such as
	// record.Handler.Sign's. nil: it is not said.
	PlayURL func(*record.Info) string

	setup    sync.Once
	server   rest.Server
	clipping atomic.Int64
}

// maxClips bounds the clips that are made at once.
const maxClips = 4

func (h *Handler) routes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/api/v2/recordings", Need: access.Viewer, Serve: h.list},
		{Method: "GET", Path: "/api/v2/recordings/{name}", Need: access.Viewer, Serve: h.get},
		{Method: "DELETE", Path: "/api/v2/recordings/{name}", Need: access.Admin, Serve: h.remove},
		{Method: "GET", Path: "/api/v2/recorders", Need: access.Viewer, Serve: h.listRecorders},
		{Method: "GET", Path: "/api/v2/recorders/{name}", Need: access.Viewer, Serve: h.getRecorder},
		{Method: "PUT", Path: "/api/v2/recorders/{name}", Need: access.Operator, Serve: h.putRecorder},
		{Method: "POST", Path: "/api/v2/clips", Need: access.Operator, Serve: h.clip},
	}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setup.Do(func() { h.server = rest.Server{Gate: h.Gate, Routes: h.routes()} })
	h.server.ServeHTTP(w, r)
}

// hub returns where the streams are that are recorded, or refuses.
func (h *Handler) hub(c *rest.Call) *stream.Hub {
	if h.Recorder == nil || h.Recorder.Hub == nil {
		c.Refuse(http.StatusNotFound, "nothing is recorded here")
		return nil
	}
	return h.Recorder.Hub
}
