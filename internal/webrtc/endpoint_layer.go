package webrtc

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/runnel-media/runnel/stream"
)

const layerPath = "/layer"

// A Layer is one form of a session's pictures (draft-ietf-wish-whep, the event
// "layers").
type Layer struct {
	RID     string `json:"rid"`
	Bitrate int64  `json:"bitrate,omitempty"` // bits a second; 0: it does not come now
	Width   int    `json:"width,omitempty"`
	Height  int    `json:"height,omitempty"`
}

// A Choice is what a peer wants to see.
type Choice struct {
	RID                 string // ""; the server chooses
	MaxWidth, MaxHeight int    // of what it chooses; 0: any
}

// layersEvent returns the data of the event, for the m-line of the video.
func layersEvent(line int, layers []Layer) string {
	type named struct {
		Layer
		EncodingID string `json:"encodingId"` // what drafts before 03 called the rid
	}
	list := []named{}
	for _, l := range layers {
		l.Bitrate = rounded(l.Bitrate) // else each look would be an event
		list = append(list, named{l, l.RID})
	}
	b, err := json.Marshal(map[string][]named{strconv.Itoa(line): list})
	if err != nil { // none of these types can fail
		return "{}"
	}
	return string(b)
}

// rounded returns a number with one or two digits that say something.
func rounded(n int64) int64 {
	if n <= 0 {
		return 0
	}
	unit := math.Pow10(max(int(math.Log10(float64(n)))-1, 0)) * 5
	return int64(math.Round(float64(n)/unit) * unit)
}

// parseChoice reads what a peer posts: {} leaves it to the server.
func parseChoice(b []byte) (c Choice, ok bool) {
	var said struct {
		RID        *string  `json:"rid"`
		EncodingID *string  `json:"encodingId"`
		MaxWidth   *float64 `json:"maxWidth"`
		MaxHeight  *float64 `json:"maxHeight"`
	}
	if json.Unmarshal(b, &said) != nil {
		return c, false
	}
	for _, rid := range []*string{said.EncodingID, said.RID} {
		if rid != nil {
			c.RID = *rid
		}
	}
	bound := func(v *float64) int {
		if v == nil || !(*v >= 1 && *v <= 1<<16) {
			return 0
		}
		return int(*v)
	}
	c.MaxWidth, c.MaxHeight = bound(said.MaxWidth), bound(said.MaxHeight)
	return c, len(c.RID) <= 64
}

// layer takes a choice (urn:ietf:params:whep:ext:core:layer). There is one video, so
// that its mediaId says nothing.
func (e *Endpoint) layer(w http.ResponseWriter, r *http.Request, s *Session) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		http.Error(w, "post a choice", http.StatusMethodNotAllowed)
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
	choice, ok := parseChoice(b)
	switch {
	case err != nil || !ok:
		http.Error(w, "a JSON object with rid is wanted", http.StatusBadRequest)
	case !e.Choose(s, choice):
		http.Error(w, "no such layer", http.StatusNotFound)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// videoLine returns which m-line is that of the video that is sent.
func (s *Session) videoLine() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.lines {
		if l.format != nil && !l.receive && l.media.Kind == stream.Video {
			return i
		}
	}
	return 0
}
