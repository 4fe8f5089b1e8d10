package recordapi

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/stream"
)

// A recorder says whether a stream is recorded, as soon as it is live, and what
// there is of it.
type recorder struct {
	Stream    string   `json:"stream"`
	Recording bool     `json:"recording"`
	File      *written `json:"file,omitempty"` // in lists: what ETags are made of does not grow by itself
}

// A written file is one that is not complete.
type written struct {
	Name     string    `json:"name"`
	Start    time.Time `json:"start"`    // wall clock of its first frame
	Duration float64   `json:"duration"` // seconds so far
	Size     int64     `json:"size"`     // bytes so far
}

// files are those that are being written, by stream.
func (h *Handler) files() map[string]*written {
	files := make(map[string]*written)
	for _, a := range h.Recorder.Active() {
		if a.Name != "" {
			files[a.Stream] = &written{a.Name, a.Start, a.Duration.Seconds(), a.Size}
		}
	}
	return files
}

type recorderList struct {
	Recorders []recorder `json:"recorders"`
	Total     int        `json:"total"`
	Next      string     `json:"next,omitempty"`
}

func (h *Handler) listRecorders(c *rest.Call) {
	q, ok := c.Query("after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok {
		return
	}
	hub := h.hub(c)
	if hub == nil {
		return
	}
	var all []recorder
	files := h.files()
	for s := range hub.Streams() {
		all = append(all, recorder{s.Name(), h.Recorder.Recording(s.Name()), files[s.Name()]})
	}
	slices.SortFunc(all, func(a, b recorder) int { return strings.Compare(a.Stream, b.Stream) })
	page, next := rest.Page(all, func(r recorder) string { return r.Stream }, q.Get("after"), limit)
	c.Answer(recorderList{append([]recorder{}, page...), len(all), next})
}

func (h *Handler) getRecorder(c *rest.Call) {
	if _, ok := c.Query(); !ok || h.hub(c) == nil {
		return
	}
	name := c.R.PathValue("name")
	c.Answer(recorder{Stream: name, Recording: h.Recorder.Recording(name)})
}

// putRecorder starts or stops. A stream that is not live is recorded when it
// comes up.
func (h *Handler) putRecorder(c *rest.Call) {
	if _, ok := c.Query(); !ok || h.hub(c) == nil {
		return
	}
	var body struct {
		Stream    string `json:"stream"` // as GET has it
		Recording *bool  `json:"recording"`
	}
	if !c.Read(&body) {
		return
	}
	name := c.R.PathValue("name")
	if body.Recording == nil || body.Stream != "" && body.Stream != name {
		c.Refuse(http.StatusUnprocessableEntity, "recording is true or false, of the path's stream")
		return
	}
	if !c.Unchanged(recorder{Stream: name, Recording: h.Recorder.Recording(name)}) {
		return
	}
	do := h.Recorder.Stop
	if *body.Recording {
		do = h.Recorder.Start
	}
	if err := stream.CheckStorageName(name); err != nil {
		c.Refuse(http.StatusUnprocessableEntity, "it is no name of a stream")
		return
	}
	if err := do(name); err != nil {
		c.More = []any{"err", err}
		c.Refuse(http.StatusServiceUnavailable, "the recorder does not run")
		return
	}
	c.More = []any{"recording", *body.Recording}
	c.Answer(recorder{Stream: name, Recording: *body.Recording})
}

// maxClip bounds what a clip may ask for.
const maxClip = 24 * time.Hour

func (h *Handler) clip(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	hub := h.hub(c)
	if hub == nil {
		return
	}
	var body struct {
		Stream string  `json:"stream"`
		Last   float64 `json:"last"` // seconds
	}
	if !c.Read(&body) {
		return
	}
	if body.Last <= 0 || body.Last > maxClip.Seconds() {
		c.Refuse(http.StatusUnprocessableEntity, "last is seconds, up to a day")
		return
	}
	if hub.Stream(body.Stream) == nil {
		c.Refuse(http.StatusNotFound, "no such stream is live")
		return
	}
	defer h.clipping.Add(-1)
	if h.clipping.Add(1) > maxClips {
		c.W.Header().Set("Retry-After", "5")
		c.Refuse(http.StatusServiceUnavailable, "other clips are being made")
		return
	}
	info, err := h.Recorder.Clip(c.R.Context(), body.Stream, time.Duration(body.Last*float64(time.Second)))
	if err != nil {
		c.More = []any{"stream", body.Stream, "err", err}
		status, why := http.StatusServiceUnavailable, "there is nothing to make a clip of yet, or it could not be stored; the log says why"
		if errors.Is(err, stream.ErrNotFound) {
			status, why = http.StatusNotFound, "no such stream is live"
		}
		c.Refuse(status, why)
		return
	}
	c.More = []any{"stream", body.Stream, "file", info.Name}
	c.Created("/api/v2/recordings/"+(&url.URL{Path: info.Name}).EscapedPath(), h.describeOne(info))
}
