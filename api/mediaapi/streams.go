package mediaapi

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/runnel-media/runnel/stream"
)

// A streamInfo is a stream at one moment.
type streamInfo struct {
	Name          string          `json:"name"`
	Started       time.Time       `json:"started"`
	Publishing    bool            `json:"publishing"`          // false: it waits for its publisher to come back
	Publisher     string          `json:"publisher,omitempty"` // ID of its session, if it has one
	Viewers       int             `json:"viewers"`
	Frames        uint64          `json:"frames"`
	Bytes         uint64          `json:"bytes"`
	DroppedFrames uint64          `json:"dropped_frames"`
	BitRate       stream.BitRates `json:"bit_rate"`
	Position      float64         `json:"position"` // seconds of media
	Latency       latency         `json:"latency"`
	Tracks        []trackInfo     `json:"tracks"`
	Metadata      map[string]any  `json:"metadata,omitempty"` // of one stream only, not of a list
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

type trackInfo struct {
	ID          uint8        `json:"id"`
	Kind        string       `json:"kind"`
	Codec       stream.Codec `json:"codec"`
	CodecString string       `json:"codec_string,omitempty"` // RFC 6381
	Language    string       `json:"language,omitempty"`
	Profile     string       `json:"profile,omitempty"`
	Level       string       `json:"level,omitempty"`
	Width       int          `json:"width,omitempty"`
	Height      int          `json:"height,omitempty"`
	SampleRate  int          `json:"sample_rate,omitempty"`
	Channels    int          `json:"channels,omitempty"`
	*trackFigures
}

// trackFigures are what a track in an event has not.
type trackFigures struct {
	Frames      uint64  `json:"frames"`
	Bytes       uint64  `json:"bytes"`
	FrameRate   float64 `json:"frame_rate"`
	KeyInterval float64 `json:"key_interval"` // seconds
}

func describeTrack(t *stream.Track) trackInfo {
	info := trackInfo{ID: t.ID, Kind: t.Kind().String(), Codec: t.Codec, CodecString: t.CodecString(), Language: t.Language}
	switch t.Kind() { // an error leaves out what is not known
	case stream.Video:
		v, _ := t.Video()
		info.Profile, info.Level, info.Width, info.Height = v.Profile, v.Level, v.Width, v.Height
	case stream.Audio:
		a, _ := t.Audio()
		info.Profile, info.SampleRate, info.Channels = a.Profile, a.Rate, a.Channels
	}
	return info
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

func describeStream(s *stream.Stream, p peers) streamInfo {
	st := s.Stats()
	info := streamInfo{
		Name: s.Name(), Started: s.Started(), Publishing: s.Publishing(), Viewers: p.viewers[s.Name()],
		Frames: st.Frames, Bytes: st.Bytes, DroppedFrames: st.Dropped, BitRate: st.BitRate,
		Position: st.Position.Seconds(), Latency: latencyOf(&s.Latency), Tracks: []trackInfo{},
	}
	if info.Publishing {
		info.Publisher = p.publishers[s.Name()].ID()
	}
	for _, ts := range st.Tracks {
		t := describeTrack(ts.Track)
		t.trackFigures = &trackFigures{ts.Frames, ts.Bytes, ts.FrameRate, ts.KeyInterval.Seconds()}
		info.Tracks = append(info.Tracks, t)
	}
	return info
}

// A streamList is a page. Next is the "after" of the next one; "": there is none.
type streamList struct {
	Streams []streamInfo `json:"streams"`
	Total   int          `json:"total"` // that match, of all pages
	Next    string       `json:"next,omitempty"`
}

func (h *Handler) listStreams(c *call) {
	q, ok := c.query("prefix", "search", "codec", "publishing", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.limit(q)
	if !ok {
		return
	}
	publishing := q.Get("publishing")
	if publishing != "" && publishing != "true" && publishing != "false" {
		c.refuse(http.StatusBadRequest, "publishing is true or false")
		return
	}
	search := strings.ToLower(q.Get("search"))
	page, total, next := h.page(q.Get("after"), limit, func(s *stream.Stream) bool {
		return strings.HasPrefix(s.Name(), q.Get("prefix")) &&
			strings.Contains(strings.ToLower(s.Name()), search) &&
			(publishing == "" || s.Publishing() == (publishing == "true")) &&
			(q.Get("codec") == "" || slices.ContainsFunc(s.Tracks(), func(t *stream.Track) bool { return t.Codec.String() == q.Get("codec") }))
	})
	list := streamList{Streams: []streamInfo{}, Total: total, Next: next}
	p := h.peers()
	for _, s := range page {
		list.Streams = append(list.Streams, describeStream(s, p))
	}
	c.answer(list)
}

// page returns the streams that match, in order of their names, from the one
// after a name on.
func (h *Handler) page(after string, limit int, match func(*stream.Stream) bool) (page []*stream.Stream, total int, next string) {
	for s := range h.Hub.Streams() {
		if match(s) {
			total++
			if s.Name() > after {
				page = append(page, s)
			}
		}
	}
	slices.SortFunc(page, func(a, b *stream.Stream) int { return strings.Compare(a.Name(), b.Name()) })
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].Name()
	}
	return page, total, next
}

// stream finds the stream that the path names.
func (h *Handler) stream(c *call) *stream.Stream {
	s := h.Hub.Stream(c.r.PathValue("name"))
	if s == nil {
		c.refuse(http.StatusNotFound, "no such stream is live")
	}
	return s
}

func (h *Handler) oneStream(s *stream.Stream) streamInfo {
	info := describeStream(s, h.peers())
	left := maxMetadata
	info.Metadata, _ = presentable(map[string]any(s.Metadata()), 0, &left).(map[string]any)
	return info
}

func (h *Handler) getStream(c *call) {
	if _, ok := c.query(); !ok {
		return
	}
	if s := h.stream(c); s != nil {
		c.answer(h.oneStream(s))
	}
}

func (h *Handler) endStream(c *call) {
	if _, ok := c.query(); !ok {
		return
	}
	if s := h.stream(c); s != nil && c.unchanged(h.oneStream(s)) {
		s.End(stream.ErrKicked)
		c.done()
	}
}

// A publisherInfo is who sends a stream in; Session is nil if this program
// itself does.
type publisherInfo struct {
	Stream  string          `json:"stream"`
	Since   time.Time       `json:"since"`
	Session *sessionInfo    `json:"session"`
	BitRate stream.BitRates `json:"bit_rate"`
}

type publisherList struct {
	Publishers []publisherInfo `json:"publishers"`
	Total      int             `json:"total"`
	Next       string          `json:"next,omitempty"`
}

func (h *Handler) listPublishers(c *call) {
	q, ok := c.query("prefix", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.limit(q)
	if !ok {
		return
	}
	page, total, next := h.page(q.Get("after"), limit, func(s *stream.Stream) bool {
		return s.Publishing() && strings.HasPrefix(s.Name(), q.Get("prefix"))
	})
	list := publisherList{Publishers: []publisherInfo{}, Total: total, Next: next}
	p := h.peers()
	for _, s := range page {
		info := publisherInfo{Stream: s.Name(), Since: s.Started(), BitRate: s.Stats().BitRate}
		if session := p.publishers[s.Name()]; session != nil {
			si := describeSession(session)
			info.Session, info.Since = &si, si.Started
		}
		list.Publishers = append(list.Publishers, info)
	}
	c.answer(list)
}

// What of a publisher's metadata is shown.
const (
	maxMetadata      = 500 // values, of all depths together
	maxMetadataDepth = 6
	maxMetadataText  = 1000 // bytes of one text
)

// presentable copies what a peer said as JSON can say it, within bounds: there
// are no NaN and no infinity in JSON.
func presentable(v any, depth int, left *int) any {
	if *left--; *left < 0 || depth > maxMetadataDepth {
		return nil
	}
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return v
	case string:
		return cut(v)
	case []any:
		list := []any{}
		for _, e := range v {
			if *left <= 0 {
				break
			}
			list = append(list, presentable(e, depth+1, left))
		}
		return list
	case map[string]any:
		if v == nil {
			return nil
		}
		m := map[string]any{}
		for _, key := range sortedKeys(v) {
			if *left <= 0 {
				break
			}
			m[cut(key)] = presentable(v[key], depth+1, left)
		}
		return m
	}
	return nil
}

func cut(s string) string {
	if len(s) <= maxMetadataText {
		return s
	}
	n := maxMetadataText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
