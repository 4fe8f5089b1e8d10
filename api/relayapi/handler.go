package relayapi

import (
	_ "embed"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/relay"
)

//go:embed openapi.json
var openAPI []byte

// A Handler serves the relays and the cluster below /api/v2/. Its fields must not change once
// it serves; ServeHTTP may be called from many goroutines at once.
type Handler struct {
	Gate  *access.Gate // nil: only this machine is let in
	Relay *relay.Relay // nil: nothing is relayed

	setup  sync.Once
	server rest.Server
}

func (h *Handler) routes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/api/v2/relays", Need: access.Viewer, Serve: h.list},
		{Method: "GET", Path: "/api/v2/cluster", Need: access.Viewer, Serve: h.servers},
		{Method: "GET", Path: "/api/v2/cluster/streams", Need: access.Viewer, Serve: h.claims},
	}
}

// OpenAPI returns the document of what a Handler serves, for package api.
func (h *Handler) OpenAPI() []byte { return openAPI }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setup.Do(func() { h.server = rest.Server{Gate: h.Gate, Routes: h.routes()} })
	h.server.ServeHTTP(w, r)
}

type relayList struct {
	Relays []relay.Status `json:"relays"`
	Total  int            `json:"total"`
	Next   string         `json:"next,omitempty"`
}

func (h *Handler) list(c *rest.Call) {
	q, ok := c.Query("stream", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok {
		return
	}
	out := relayList{Relays: []relay.Status{}}
	if h.Relay != nil {
		all := h.Relay.Jobs()
		if name := q.Get("stream"); name != "" {
			all = slices.DeleteFunc(all, func(s relay.Status) bool { return s.Stream != name })
		}
		slices.SortFunc(all, func(a, b relay.Status) int { return strings.Compare(a.ID, b.ID) })
		out.Total = len(all)
		page, next := rest.Page(all, func(s relay.Status) string { return s.ID }, q.Get("after"), limit)
		out.Relays, out.Next = append(out.Relays, page...), next
	}
	c.Answer(out)
}
