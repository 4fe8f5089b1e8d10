package turnapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

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

func (h *Handler) listSessions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f, _, err := readFilter(q)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	after, limit := uint64(0), uint64(defaultLimit)
	if s := q.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			refuse(w, http.StatusBadRequest, "after is a number")
			return
		}
	}
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.ParseUint(s, 10, 64); err != nil || limit == 0 || limit > maxLimit {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("limit is 1 to %d", maxLimit))
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
	answer(w, list)
}

// session finds the session that the path names.
func (h *Handler) session(w http.ResponseWriter, r *http.Request) *turn.Allocation {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	var a *turn.Allocation
	if err == nil {
		a = h.Server.Allocation(id)
	}
	if a == nil {
		refuse(w, http.StatusNotFound, "no such session")
	}
	return a
}

func (h *Handler) getSession(w http.ResponseWriter, r *http.Request) {
	if a := h.session(w, r); a != nil {
		answer(w, a.Info())
	}
}

func (h *Handler) endSession(w http.ResponseWriter, r *http.Request) {
	if a := h.session(w, r); a != nil {
		_ = a.Close() // never fails
		w.WriteHeader(http.StatusNoContent)
	}
}

func (h *Handler) endSessions(w http.ResponseWriter, r *http.Request) {
	f, given, err := readFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if !given {
		refuse(w, http.StatusBadRequest, "which? realm=, user= or client=")
		return
	}
	ended := 0
	for a := range h.Server.Allocations() {
		if i := a.Info(); f.match(&i) {
			_ = a.Close() // never fails
			ended++
		}
	}
	answer(w, map[string]int{"ended": ended})
}

// events writes a line for every event until the client goes.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	_ = ctl.SetWriteDeadline(time.Time{}) // it has no end of its own
	w.Header().Set("Content-Type", "application/x-ndjson")
	events := h.Server.Events(r.Context())
	w.WriteHeader(http.StatusOK)
	if ctl.Flush() != nil {
		return
	}
	out := json.NewEncoder(w)
	for e := range events {
		if out.Encode(map[string]any{eventName(e): e}) != nil || ctl.Flush() != nil {
			return
		}
	}
}

// eventName is the key under which an event stands in its line.
func eventName(e turn.Event) string {
	switch e.(type) {
	case turn.AllocationCreated:
		return "created"
	case turn.AllocationFailed:
		return "failed"
	case turn.AllocationRefreshed:
		return "refreshed"
	case turn.AllocationMoved:
		return "moved"
	case turn.AllocationEnded:
		return "ended"
	case turn.EventsLost:
		return "lost"
	}
	return "other"
}
