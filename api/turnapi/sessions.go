package turnapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/turn"
)

// A filter picks sessions. Empty fields match all.
type filter struct {
	realm, user string
	client      netip.Addr
}

func readFilter(q url.Values) (f filter, given bool, err error) {
	f = filter{realm: q.Get("realm"), user: q.Get("user")}
	if s := q.Get("client"); s != "" {
		if f.client, err = netip.ParseAddr(s); err != nil {
			return f, false, fmt.Errorf("client: %w", err)
		}
		f.client = f.client.Unmap()
	}
	return f, f != filter{}, nil
}

func (f *filter) match(i *turn.AllocationInfo) bool {
	return (f.realm == "" || f.realm == i.Realm) && (f.user == "" || f.user == i.User) &&
		(!f.client.IsValid() || f.client == i.Client.Addr().Unmap())
}

// How many sessions one answer lists.
const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// A sessionList is a page of them. Next is the "after" of the next page; 0:
// there is none.
type sessionList struct {
	Sessions []turn.AllocationInfo `json:"sessions"`
	Next     uint64                `json:"next,omitempty"`
}

func (h *Handler) listSessions(c *rest.Call) {
	q := c.R.URL.Query()
	f, _, err := readFilter(q)
	if err != nil {
		c.Refuse(http.StatusBadRequest, err.Error())
		return
	}
	after, limit := uint64(0), uint64(defaultLimit)
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			c.Refuse(http.StatusBadRequest, "after is a number")
			return
		}
	}
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.ParseUint(s, 10, 64); err != nil || limit == 0 || limit > maxLimit {
			c.Refuse(http.StatusBadRequest, fmt.Sprintf("limit is 1 to %d", maxLimit))
			return
		}
	}
	list := sessionList{Sessions: []turn.AllocationInfo{}}
	for a := range h.Server.Allocations() {
		i := a.Info()
		if i.ID <= after || !f.match(&i) {
			continue
		}
		if uint64(len(list.Sessions)) == limit {
			list.Next = list.Sessions[limit-1].ID
			break
		}
		list.Sessions = append(list.Sessions, i)
	}
	c.Answer(list)
}

// session finds the session that the path names.
func (h *Handler) session(c *rest.Call) *turn.Allocation {
	id, err := strconv.ParseUint(c.R.PathValue("id"), 10, 64)
	var a *turn.Allocation
	if err == nil {
		a = h.Server.Allocation(id)
	}
	if a == nil {
		c.Refuse(http.StatusNotFound, "no such session")
	}
	return a
}

func (h *Handler) getSession(c *rest.Call) {
	if a := h.session(c); a != nil {
		c.Answer(a.Info())
	}
}

func (h *Handler) endSession(c *rest.Call) {
	if a := h.session(c); a != nil && c.Unchanged(a.Info()) {
		_ = a.Close() // never fails
		c.Done()
	}
}

func (h *Handler) endSessions(c *rest.Call) {
	f, given, err := readFilter(c.R.URL.Query())
	if err != nil {
		c.Refuse(http.StatusBadRequest, err.Error())
		return
	}
	if !given {
		c.Refuse(http.StatusBadRequest, "which? realm=, user= or client=")
		return
	}
	ended := 0
	for a := range h.Server.Allocations() {
		if i := a.Info(); f.match(&i) {
			_ = a.Close() // never fails
			ended++
		}
	}
	c.Answer(map[string]int{"ended": ended})
}
