package webrtc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const eventsPath = "/events"

// eventsEvery is how often the figures are looked at, and keepAlive how often a
// silent stream of events says something, so that nobody between closes it.
const (
	eventsEvery = time.Second
	keepAlive   = 15 * time.Second
)

// events serves the server-sent events of a session (draft-ietf-wish-whep,
// urn:ietf:params:whep:ext:core:server-sent-events): a list of what is wanted
// is posted, and the answer's Location is where it comes.
func (e *Endpoint) events(w http.ResponseWriter, r *http.Request, s *Session) {
	h := w.Header()
	switch r.Method {
	case http.MethodPost:
		var wanted []string
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
		if err != nil || json.Unmarshal(b, &wanted) != nil {
			http.Error(w, "a JSON list of events is wanted", http.StatusBadRequest)
			return
		}
		kinds := e.kinds()
		wanted = slices.DeleteFunc(wanted, func(kind string) bool { return !slices.Contains(kinds, kind) })
		if len(wanted) == 0 {
			http.Error(w, "the events are "+strings.Join(kinds, ", "), http.StatusUnprocessableEntity)
			return
		}
		slices.Sort(wanted)
		e.want(s, slices.Compact(wanted))
		h.Set("Location", prefix(r)+r.URL.EscapedPath())
		w.WriteHeader(http.StatusCreated)
	case http.MethodGet:
		h.Set("Content-Type", "text/event-stream")
		e.follow(w, r, s)
	default:
		h.Set("Allow", "POST, GET, OPTIONS")
		http.Error(w, "post what is wanted, and get it", http.StatusMethodNotAllowed)
	}
}

// follow tells changes until the session or the request ends. A session has one
// such stream: another one ends it.
func (e *Endpoint) follow(w http.ResponseWriter, r *http.Request, s *Session) {
	mine := make(chan struct{})
	e.mu.Lock()
	if e.followers == nil {
		e.followers = make(map[*Session]chan struct{})
	}
	if before := e.followers[s]; before != nil {
		close(before)
	}
	e.followers[s] = mine
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.followers[s] == mine {
			delete(e.followers, s)
		}
	}()
	out := http.NewResponseController(w)
	tick := time.NewTicker(eventsEvery)
	defer tick.Stop()
	told := make(map[string]string)
	for at := time.Now(); ; {
		text := ""
		for _, kind := range e.wants(s) {
			if data := e.event(s, kind); data != told[kind] {
				told[kind] = data
				text += "event: " + kind + "\ndata: " + data + "\n\n"
			}
		}
		if text == "" && time.Since(at) >= keepAlive {
			text = ":\n\n"
		}
		if text != "" {
			at = time.Now()
			if _, err := io.WriteString(w, text); err != nil || out.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-s.Done():
			return
		case <-r.Context().Done():
			return
		case <-mine:
			return
		}
	}
}

// kinds are the events that there are.
func (e *Endpoint) kinds() (kinds []string) {
	if e.Layers != nil {
		kinds = append(kinds, "layers")
	}
	if e.Viewers != nil {
		kinds = append(kinds, "viewercount")
	}
	return kinds
}

// want notes which events a peer wants.
func (e *Endpoint) want(s *Session, kinds []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wanted == nil {
		e.wanted = make(map[*Session][]string)
	}
	if !s.ended() {
		e.wanted[s] = kinds
	}
}

func (e *Endpoint) wants(s *Session) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if kinds := e.wanted[s]; len(kinds) > 0 {
		return kinds
	}
	return e.kinds()
}

// event returns the data of an event as it is now.
func (e *Endpoint) event(s *Session, kind string) string {
	if kind == "viewercount" {
		return fmt.Sprintf(`{"viewercount":%d}`, e.Viewers(s))
	}
	return layersEvent(s.videoLine(), e.Layers(s))
}
