package mediaapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/stream"
)

// A streamInfo is a stream at one moment: live, declared, or both.
type streamInfo struct {
	Name          string          `json:"name"`
	Live          bool            `json:"live"`
	Title         string          `json:"title,omitempty"`
	Labels        labels          `json:"labels,omitempty"`
	Started       time.Time       `json:"started,omitzero"`
	Publishing    bool            `json:"publishing"`          // false: it waits for its publisher, the first or one to come back
	Publisher     string          `json:"publisher,omitempty"` // ID of its session, if it has one
	Viewers       int             `json:"viewers"`
	Frames        uint64          `json:"frames"`
	Bytes         uint64          `json:"bytes"`
	DroppedFrames uint64          `json:"dropped_frames"`
	BitRate       stream.BitRates `json:"bit_rate"`
	Position      float64         `json:"position"` // seconds of media
	Latency       latency         `json:"latency"`
	Tracks        []trackInfo     `json:"tracks"`

	// Of one stream only, not of a list.
	Metadata    map[string]any   `json:"metadata,omitempty"` // what the publisher says
	Declaration *declarationInfo `json:"declaration,omitempty"`
}

// latency is from a frame's arrival to its socket write, in seconds.
type latency struct {
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Count  uint64  `json:"count"`
}

func latencyOf(h *stream.Histogram) latency {
	_, count, _ := h.Snapshot()
	return latency{h.Quantile(0.5).Seconds(), h.Quantile(0.99).Seconds(), count}
}

// peers are the sessions by stream: how many play it and which publishes it.
type peers struct {
	viewers    map[string]int
	publishers map[string]*stream.Session
}

func (h *Handler) peers() peers {
	p := peers{map[string]int{}, map[string]*stream.Session{}}
	for s := range h.Hub.Sessions() {
		info := s.Info()
		if info.Role == stream.RolePlay {
			p.viewers[info.Stream]++
			continue
		}
		// One that was taken over may take a moment to go.
		if old := p.publishers[info.Stream]; old == nil || old.Info().Started.Before(info.Started) {
			p.publishers[info.Stream] = s
		}
	}
	return p
}

// A known is a stream that is live, or declared, or both.
type known struct {
	name string
	live *stream.Stream
	decl *stream.Declaration
}

func (h *Handler) find(name string) (k known, ok bool) {
	k = known{name, h.Hub.Stream(name), h.Hub.Declaration(name)}
	return k, k.live != nil || k.decl != nil
}

// all returns the streams that match, by name.
func (h *Handler) all(match func(known) bool) []known {
	byName := map[string]known{}
	for s := range h.Hub.Streams() {
		byName[s.Name()] = known{name: s.Name(), live: s}
	}
	for name, d := range h.Hub.Declarations() {
		byName[name] = known{name, byName[name].live, d}
	}
	var list []known
	for _, k := range byName {
		if match(k) {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b known) int { return strings.Compare(a.name, b.name) })
	return list
}

func (k known) labelled(name, text string) bool {
	if k.decl == nil {
		return false
	}
	got, ok := k.decl.Labels[name]
	return ok && got == text
}

func (k known) describe(p peers) streamInfo {
	info := streamInfo{Name: k.name, Live: k.live != nil, Viewers: p.viewers[k.name], Tracks: []trackInfo{}}
	if k.decl != nil {
		info.Title, info.Labels = k.decl.Title, k.decl.Labels
	}
	if k.live == nil {
		return info
	}
	st := k.live.Stats()
	info.Started, info.Publishing = k.live.Started(), k.live.Publishing()
	info.Frames, info.Bytes, info.DroppedFrames, info.BitRate = st.Frames, st.Bytes, st.Dropped, st.BitRate
	info.Position, info.Latency = st.Position.Seconds(), latencyOf(&k.live.Latency)
	if info.Publishing {
		info.Publisher = p.publishers[k.name].ID()
	}
	for _, ts := range st.Tracks {
		t := describeTrack(ts.Track)
		t.trackFigures = &trackFigures{ts.Frames, ts.Bytes, ts.FrameRate, ts.KeyInterval.Seconds()}
		info.Tracks = append(info.Tracks, t)
	}
	return info
}

// describeOne says all of one stream.
func (h *Handler) describeOne(k known) streamInfo {
	info := k.describe(h.peers())
	if k.live != nil {
		left := maxMetadata
		info.Metadata, _ = presentable(map[string]any(k.live.Metadata()), 0, &left).(map[string]any)
	}
	if k.decl != nil {
		d := describeDeclaration(k.name, k.decl)
		info.Declaration = &d
	}
	return info
}

// A streamList is a page. Next is the "after" of the next one; "": there is none.
type streamList struct {
	Streams []streamInfo `json:"streams"`
	Total   int          `json:"total"` // that match, of all pages
	Next    string       `json:"next,omitempty"`
}

// A streamFilter picks streams. Empty fields match all.
type streamFilter struct {
	prefix, search, codec      string
	publishing, live, declared *bool
	label, value               string
}

func readStreamFilter(q url.Values) (f streamFilter, err error) {
	f = streamFilter{prefix: q.Get("prefix"), search: strings.ToLower(q.Get("search")), codec: q.Get("codec")}
	for _, b := range []struct {
		name string
		to   **bool
	}{{"publishing", &f.publishing}, {"live", &f.live}, {"declared", &f.declared}} {
		switch s := q.Get(b.name); s {
		case "":
		case "true", "false":
			yes := s == "true"
			*b.to = &yes
		default:
			return f, fmt.Errorf("%s is true or false", b.name)
		}
	}
	if s := q.Get("label"); s != "" {
		var ok bool
		if f.label, f.value, ok = strings.Cut(s, "="); !ok || f.label == "" {
			return f, fmt.Errorf("label is NAME=VALUE")
		}
	}
	return f, nil
}

func (f *streamFilter) match(k known) bool {
	is := func(want *bool, is bool) bool { return want == nil || *want == is }
	title := ""
	if k.decl != nil {
		title = k.decl.Title
	}
	return strings.HasPrefix(k.name, f.prefix) &&
		(strings.Contains(strings.ToLower(k.name), f.search) || strings.Contains(strings.ToLower(title), f.search)) &&
		is(f.live, k.live != nil) && is(f.declared, k.decl != nil) && is(f.publishing, k.live != nil && k.live.Publishing()) &&
		(f.label == "" || k.labelled(f.label, f.value)) &&
		(f.codec == "" || k.live != nil && slices.ContainsFunc(k.live.Tracks(), func(t *stream.Track) bool { return t.Codec.String() == f.codec }))
}

func (h *Handler) listStreams(c *rest.Call) {
	q, ok := c.Query("prefix", "search", "codec", "publishing", "live", "declared", "label", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok {
		return
	}
	f, err := readStreamFilter(q)
	if err != nil {
		c.Refuse(http.StatusBadRequest, err.Error())
		return
	}
	all := h.all(f.match)
	page, next := rest.Page(all, func(k known) string { return k.name }, q.Get("after"), limit)
	list := streamList{Streams: []streamInfo{}, Total: len(all), Next: next}
	p := h.peers()
	for _, k := range page {
		list.Streams = append(list.Streams, k.describe(p))
	}
	c.Answer(list)
}

func (h *Handler) getStream(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	k, ok := h.find(c.R.PathValue("name"))
	if !ok {
		c.Refuse(http.StatusNotFound, "no such stream is live or declared")
		return
	}
	c.Answer(h.describeOne(k))
}

// endStream ends a stream, and forgets what was declared of it: first that, so
// that a publisher who comes back has no right any more.
func (h *Handler) endStream(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	k, ok := h.find(c.R.PathValue("name"))
	if !ok {
		c.Refuse(http.StatusNotFound, "no such stream is live or declared")
		return
	}
	if !c.Unchanged(h.describeOne(k)) || k.decl != nil && !h.change(c, k.name, nil) {
		return
	}
	if k.live != nil {
		k.live.End(stream.ErrKicked)
	}
	c.Done()
}

func (h *Handler) getSnapshot(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	if h.Snapshot == nil {
		c.Refuse(http.StatusNotFound, "there are no snapshots here")
		return
	}
	picture, err := h.Snapshot(c.R.Context(), c.R.PathValue("name"))
	switch {
	case err == nil:
		c.AnswerData("image/jpeg", picture)
	case errors.Is(err, stream.ErrNotFound), errors.Is(err, stream.ErrName):
		c.Refuse(http.StatusNotFound, "no such stream is live")
	case errors.Is(err, stream.ErrUnsupported):
		c.Refuse(http.StatusUnsupportedMediaType, "the stream has no picture")
	default:
		c.More = []any{"err", err}
		c.Refuse(http.StatusServiceUnavailable, "there is no picture now")
	}
}
