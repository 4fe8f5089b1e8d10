package turnapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/turn"
)

// A Handler serves the API at the root of its path; mount it elsewhere with
// http.StripPrefix. Its fields must not change once it serves; ServeHTTP may be
// called from many goroutines at once.
type Handler struct {
	Server *turn.Server

	// Gate decides who may call, and writes the audit log. A viewer may look,
	// an operator end sessions and drain, an admin change the server. nil
	// refuses everybody.
	Gate *access.Gate

	// What a host does not set is not to be had: 404.
	Users              *turnauth.Users // of static credentials
	Drain              func()          // begins to drain; must not block
	ReloadCertificates func() error

	setup    sync.Once
	mux      *http.ServeMux
	policyMu sync.Mutex // one PATCH at a time
}

// maxBody bounds what a request may carry, in bytes.
const maxBody = 64 << 10

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setup.Do(h.routes)
	w.Header().Set("Cache-Control", "no-store")
	if h.Gate == nil {
		refuse(w, http.StatusForbidden, "nobody may call: there is no gate")
		return
	}
	if h.Gate.CORS(w, r, "GET, PUT, POST, PATCH, DELETE") {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) routes() {
	h.mux = http.NewServeMux()
	handle := func(need access.Role, pattern string, serve http.HandlerFunc) {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			caller, no := h.Gate.Admit(w, r, need)
			if no != nil {
				refuse(w, no.Status, no.Detail)
				return
			}
			out := &statusWriter{ResponseWriter: w, status: http.StatusOK}
			serve(out, r)
			h.Gate.Audit(r, caller, out.status)
		})
	}
	handle(access.Viewer, "GET /sessions", h.listSessions)
	handle(access.Operator, "DELETE /sessions", h.endSessions)
	handle(access.Viewer, "GET /sessions/{id}", h.getSession)
	handle(access.Operator, "DELETE /sessions/{id}", h.endSession)
	handle(access.Viewer, "GET /stats", func(w http.ResponseWriter, _ *http.Request) { answer(w, h.Server.Stats()) })
	handle(access.Viewer, "GET /events", h.events)
	handle(access.Viewer, "GET /policy", h.getPolicy)
	handle(access.Admin, "PATCH /policy", h.patchPolicy)
	if h.Users != nil {
		handle(access.Admin, "GET /users", h.listUsers)
		handle(access.Admin, "PUT /users/{name}", h.putUser)
		handle(access.Admin, "DELETE /users/{name}", h.deleteUser)
	}
	if h.Drain != nil {
		handle(access.Operator, "POST /drain", func(w http.ResponseWriter, _ *http.Request) {
			h.Drain()
			w.WriteHeader(http.StatusAccepted)
		})
	}
	if h.ReloadCertificates != nil {
		handle(access.Admin, "POST /certificates", func(w http.ResponseWriter, _ *http.Request) {
			if err := h.ReloadCertificates(); err != nil {
				refuse(w, http.StatusUnprocessableEntity, err.Error())
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	// Who may not even look does not learn what there is.
	handle(access.Viewer, "/", func(w http.ResponseWriter, r *http.Request) { h.missing(w, r) })
}

// missing answers what is not there, with the methods that are.
func (h *Handler) missing(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{"DELETE", "GET", "PATCH", "POST", "PUT"} {
		other := *r
		other.Method = m
		if _, pattern := h.mux.Handler(&other); pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		refuse(w, http.StatusMethodNotAllowed, "not with this method")
		return
	}
	refuse(w, http.StatusNotFound, "there is no such thing")
}

// A statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// read decodes the body, one JSON value and no more, without unknown fields.
func read(w http.ResponseWriter, body io.Reader, into any) bool {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return true
		}
		err = errors.New("more than one value")
	}
	status := http.StatusBadRequest
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		status = http.StatusRequestEntityTooLarge
	}
	refuse(w, status, "body: "+err.Error())
	return false
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone, then
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}
