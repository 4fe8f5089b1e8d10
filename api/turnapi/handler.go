package turnapi

import (
	_ "embed"
	"net/http"
	"sync"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
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
	server   rest.Server
	policyMu sync.Mutex // one PATCH at a time
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Gate == nil {
		c := &rest.Call{W: w, R: r}
		c.Refuse(http.StatusForbidden, "nobody may call: there is no gate")
		return
	}
	h.setup.Do(func() { h.server = rest.Server{Gate: h.Gate, Routes: h.routes()} })
	h.server.ServeHTTP(w, r)
}

func (h *Handler) routes() []rest.Route {
	list := []rest.Route{
		{Method: "GET", Path: "/sessions", Need: access.Viewer, Serve: h.listSessions},
		{Method: "DELETE", Path: "/sessions", Need: access.Operator, Serve: h.endSessions},
		{Method: "GET", Path: "/sessions/{id}", Need: access.Viewer, Serve: h.getSession},
		{Method: "DELETE", Path: "/sessions/{id}", Need: access.Operator, Serve: h.endSession},
		{Method: "GET", Path: "/stats", Need: access.Viewer, Serve: func(c *rest.Call) { c.Answer(h.Server.Stats()) }},
		{Method: "GET", Path: "/events", Need: access.Viewer, Serve: h.events},
		{Method: "GET", Path: "/policy", Need: access.Viewer, Serve: h.getPolicy},
		{Method: "PATCH", Path: "/policy", Need: access.Admin, Serve: h.patchPolicy},
		{Method: "GET", Path: "/openapi.json", Need: access.Viewer, Serve: func(c *rest.Call) { c.AnswerBytes(openAPI) }},
	}
	if h.Users != nil {
		list = append(list,
			rest.Route{Method: "GET", Path: "/users", Need: access.Admin, Serve: h.listUsers},
			rest.Route{Method: "PUT", Path: "/users/{name}", Need: access.Admin, Serve: h.putUser},
			rest.Route{Method: "DELETE", Path: "/users/{name}", Need: access.Admin, Serve: h.deleteUser})
	}
	if h.Drain != nil {
		list = append(list, rest.Route{Method: "POST", Path: "/drain", Need: access.Operator, Serve: func(c *rest.Call) {
			h.Drain()
			c.Status = http.StatusAccepted
			c.W.WriteHeader(c.Status)
		}})
	}
	if h.ReloadCertificates != nil {
		list = append(list, rest.Route{Method: "POST", Path: "/certificates", Need: access.Admin, Serve: func(c *rest.Call) {
			if err := h.ReloadCertificates(); err != nil {
				c.Refuse(http.StatusUnprocessableEntity, err.Error())
				return
			}
			c.Done()
		}})
	}
	return list
}

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the document of what a Handler can serve, for package api.
func (h *Handler) OpenAPI() []byte { return openAPI }
