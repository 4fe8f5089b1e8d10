package relayapi

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/relay"
)

// A server is one of the cluster.
type server struct {
	ID       string            `json:"id"`
	URL      string            `json:"url"`
	Load     float64           `json:"load"`
	Draining bool              `json:"draining"`
	Edge     bool              `json:"edge"`
	Self     bool              `json:"self"`
	Streams  int               `json:"streams"`
	Public   map[string]string `json:"public,omitempty"`
	TURN     []netip.AddrPort  `json:"turn,omitempty"`
}

type serverList struct {
	Servers []server `json:"servers"`
	Total   int      `json:"total"`
	Next    string   `json:"next,omitempty"`
}

// A claim is a stream and the server that has its publisher.
type claim struct {
	Name   string `json:"name"`
	Server string `json:"server"`
}

type claimList struct {
	Streams []claim `json:"streams"`
	Total   int     `json:"total"`
	Next    string  `json:"next,omitempty"`
}

// cluster returns the relay if it is in one.
func (h *Handler) inCluster(c *rest.Call) bool {
	if h.Relay == nil || h.Relay.Registry == nil {
		c.Refuse(http.StatusNotFound, "this server is in no cluster")
		return false
	}
	return true
}

func (h *Handler) servers(c *rest.Call) {
	q, ok := c.Query("after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok || !h.inCluster(c) {
		return
	}
	all := h.Relay.Members()
	page, next := rest.Page(all, func(m relay.Member) string { return m.ID }, q.Get("after"), limit)
	out := serverList{Servers: make([]server, len(page)), Total: len(all), Next: next}
	for i, m := range page {
		url, _, _ := strings.Cut(m.URL, "?") // what follows may be a secret
		out.Servers[i] = server{
			ID: m.ID, URL: url, Load: m.Load, Draining: m.Draining, Edge: m.Edge, Self: m.Self,
			Streams: m.Streams, Public: m.Public, TURN: m.TURN,
		}
	}
	c.Answer(out)
}

func (h *Handler) claims(c *rest.Call) {
	q, ok := c.Query("server", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok || !h.inCluster(c) {
		return
	}
	id := q.Get("server")
	if id == "" {
		c.Refuse(http.StatusBadRequest, "the server is missing")
		return
	}
	all := h.Relay.Owned(id)
	page, next := rest.Page(all, func(s string) string { return s }, q.Get("after"), limit)
	out := claimList{Streams: make([]claim, len(page)), Total: len(all), Next: next}
	for i, name := range page {
		out.Streams[i] = claim{Name: name, Server: id}
	}
	c.Answer(out)
}
