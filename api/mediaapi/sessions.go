package mediaapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/stream"
)

// A sessionInfo is a peer at one moment.
type sessionInfo struct {
	stream.SessionInfo
	*sessionFigures
}

// sessionFigures are what the session of an opening event has not.
type sessionFigures struct {
	BytesIn      uint64  `json:"bytes_in"`
	BytesOut     uint64  `json:"bytes_out"`
	DroppedBytes uint64  `json:"dropped_bytes"` // not sent because the peer was too slow
	Skips        uint64  `json:"skips"`         // to a key frame
	FirstFrame   float64 `json:"first_frame"`   // seconds from the start to the first media; 0: none yet
	BitRate      float64 `json:"bit_rate"`
	Measured     any     `json:"measured,omitempty"` // what its protocol says of the connection
}

func describeSession(s *stream.Session) sessionInfo {
	figures := figuresOf(s.Stats())
	figures.Measured = s.Measured()
	return sessionInfo{s.Info(), figures}
}

func figuresOf(st stream.SessionStats) *sessionFigures {
	return &sessionFigures{
		BytesIn: st.BytesIn, BytesOut: st.BytesOut, DroppedBytes: st.Dropped, Skips: st.Skips,
		FirstFrame: st.FirstFrame.Seconds(), BitRate: st.BitRate,
	}
}

// A sessionFilter picks sessions. Empty fields match all.
type sessionFilter struct {
	stream, role, protocol, user string
	address                      netip.Prefix
}

// filterNames are the parameters that a sessionFilter has.
var filterNames = []string{"stream", "role", "protocol", "user", "address"}

func readFilter(q url.Values) (f sessionFilter, err error) {
	f = sessionFilter{stream: q.Get("stream"), role: q.Get("role"), protocol: q.Get("protocol"), user: q.Get("user")}
	if f.role != "" && f.role != string(stream.RolePlay) && f.role != string(stream.RolePublish) {
		return f, fmt.Errorf("role is %s or %s", stream.RolePlay, stream.RolePublish)
	}
	s := q.Get("address")
	if s == "" {
		return f, nil
	}
	if f.address, err = netip.ParsePrefix(s); err == nil {
		if f.address.Addr().Is4In6() {
			return f, fmt.Errorf("write the prefix %q as one of IPv4", s)
		}
		return f, nil
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return f, fmt.Errorf("address %q is neither an IP address nor a prefix", s)
	}
	ip = ip.Unmap()
	f.address = netip.PrefixFrom(ip, ip.BitLen())
	return f, nil
}

func (f *sessionFilter) match(i stream.SessionInfo) bool {
	return (f.stream == "" || f.stream == i.Stream) && (f.role == "" || f.role == string(i.Role)) &&
		(f.protocol == "" || f.protocol == i.Protocol) && (f.user == "" || f.user == i.User) &&
		(!f.address.IsValid() || f.address.Contains(i.Remote.Addr().Unmap().WithZone("")))
}

// A sessionList is a page, the oldest sessions first.
type sessionList struct {
	Sessions []sessionInfo `json:"sessions"`
	Total    int           `json:"total"`
	Next     string        `json:"next,omitempty"`
}

// A cursor is a place in the order of sessions, which need not be there any
// more.
type cursor struct {
	started int64 // Unix nanoseconds
	id      string
}

func cursorOf(i stream.SessionInfo) cursor { return cursor{i.Started.UnixNano(), i.ID} }

func (a cursor) compare(b cursor) int {
	return cmp.Or(cmp.Compare(a.started, b.started), strings.Compare(a.id, b.id))
}

func (a cursor) String() string { return strconv.FormatInt(a.started, 10) + "." + a.id }

func readCursor(s string) (cursor, error) {
	started, id, ok := strings.Cut(s, ".")
	n, err := strconv.ParseInt(started, 10, 64)
	if !ok || err != nil {
		return cursor{}, fmt.Errorf("after is what was next")
	}
	return cursor{n, id}, nil
}

func (h *Handler) listSessions(c *rest.Call) {
	q, ok := c.Query(append(slices.Clone(filterNames), "after", "limit")...)
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok {
		return
	}
	f, err := readFilter(q)
	var after cursor
	if s := q.Get("after"); err == nil && s != "" {
		after, err = readCursor(s)
	}
	if err != nil {
		c.Refuse(http.StatusBadRequest, err.Error())
		return
	}
	type entry struct {
		cursor
		session *stream.Session
	}
	var page []entry
	list := sessionList{Sessions: []sessionInfo{}}
	for s := range h.Hub.Sessions() {
		info := s.Info()
		if !f.match(info) {
			continue
		}
		list.Total++
		if e := (entry{cursorOf(info), s}); q.Get("after") == "" || e.compare(after) > 0 {
			page = append(page, e)
		}
	}
	slices.SortFunc(page, func(a, b entry) int { return a.compare(b.cursor) })
	if len(page) > limit {
		page = page[:limit]
		list.Next = page[limit-1].String()
	}
	for _, e := range page {
		list.Sessions = append(list.Sessions, describeSession(e.session))
	}
	c.Answer(list)
}

// session finds the session that the path names.
func (h *Handler) session(c *rest.Call) *stream.Session {
	s := h.Hub.Session(c.R.PathValue("id"))
	if s == nil {
		c.Refuse(http.StatusNotFound, "no such session is open")
	}
	return s
}

func (h *Handler) getSession(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	if s := h.session(c); s != nil {
		c.Answer(describeSession(s))
	}
}

// endSession kicks. The session may be in the list for a moment more, until its
// connection has gone.
func (h *Handler) endSession(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	if s := h.session(c); s != nil && c.Unchanged(describeSession(s)) {
		s.Kick(nil)
		c.Done()
	}
}

func (h *Handler) endSessions(c *rest.Call) {
	q, ok := c.Query(filterNames...)
	if !ok {
		return
	}
	f, err := readFilter(q)
	if err == nil && f == (sessionFilter{}) {
		err = fmt.Errorf("which? %s", strings.Join(filterNames, "=, ")+"=")
	}
	if err != nil {
		c.Refuse(http.StatusBadRequest, err.Error())
		return
	}
	ended := 0
	for s := range h.Hub.Sessions() {
		if f.match(s.Info()) && s.Kick(nil) {
			ended++
		}
	}
	c.More = []any{"filter", q.Encode(), "ended", ended}
	c.Answer(struct {
		Ended int `json:"ended"`
	}{ended})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// An identity is who the caller is.
type identity struct {
	User    string     `json:"user"`
	Role    string     `json:"role"`
	Expires *time.Time `json:"expires,omitempty"`
}

func (h *Handler) getMe(c *rest.Call) {
	me := identity{User: c.Caller.User, Role: c.Caller.Role.String()}
	if !c.Caller.Expires.IsZero() {
		me.Expires = &c.Caller.Expires
	}
	c.Answer(me)
}
