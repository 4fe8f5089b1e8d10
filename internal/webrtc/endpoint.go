package webrtc

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
)

// An Endpoint is what WHIP (RFC 9725) and WHEP have in common over HTTP: an
// offer is posted, the answer names a resource, which is deleted at the end. The
// zero value is ready.
//
// A resource is at PREFIX/_session/SECRET, where PREFIX is what the host has
// stripped from the path. No stream has a name that begins so, and who does not
// know the secret can't end the session.
type Endpoint struct {
	// ICEServers are told to peers whose offer is answered, and to nobody
	// else, as the values of Link headers (RFC 9725 Section 4.6). nil: none.
	ICEServers func(r *http.Request) []string
	// Viewers says how many a session's stream has, to those of its peers that
	// want to be told by server-sent events. nil: nobody is told.
	Viewers func(*Session) int
	// Layers says which forms of the pictures there are for a session, to those
	// of its peers that want to be told, and Choose does what a peer wants of
	// them; it reports false if it can't. nil: there is no choice.
	Layers func(*Session) []Layer
	Choose func(*Session, Choice) bool

	mu        sync.Mutex
	resources map[string]*Session
	followers map[*Session]chan struct{} // closed to end a stream of events
	wanted    map[*Session][]string      // which events a peer wants; none: all
}

// Begin answers the offer of a request for the stream at r.URL.Path. An error
// is one that it has answered itself.
type Begin func(w http.ResponseWriter, r *http.Request, o *Offer) (s *Session, answer []byte, err error)

const sessionPath = "/_session/"

// Serve serves a request whose path begins after what the host has stripped.
func (e *Endpoint) Serve(w http.ResponseWriter, r *http.Request, begin Begin) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Accept-Post, Accept-Patch")
	h.Set("Cache-Control", "no-store")
	if id, ok := strings.CutPrefix(r.URL.Path, sessionPath); ok {
		e.resource(w, r, id)
		return
	}
	switch r.Method {
	case http.MethodPost:
		e.post(w, r, begin)
	case http.MethodOptions:
		h.Set("Accept-Post", "application/sdp")
		preflight(w, "POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	default:
		h.Set("Allow", "POST, OPTIONS")
		http.Error(w, "post an offer", http.StatusMethodNotAllowed)
	}
}

func preflight(w http.ResponseWriter, methods string) {
	h := w.Header()
	h.Set("Allow", methods)
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
	h.Set("Access-Control-Max-Age", "86400")
}

func (e *Endpoint) link(w http.ResponseWriter, r *http.Request) {
	if e.ICEServers != nil {
		for _, l := range e.ICEServers(r) {
			w.Header().Add("Link", l)
		}
	}
}

// body reads a body of SDP, or answers why not.
func body(w http.ResponseWriter, r *http.Request, typ string) ([]byte, bool) {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != typ {
		http.Error(w, "the Content-Type has to be "+typ, http.StatusUnsupportedMediaType)
		return nil, false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxSDP))
	if err != nil {
		http.Error(w, "the body is too long or was cut off", http.StatusRequestEntityTooLarge)
		return nil, false
	}
	return b, true
}

// RefuseOffer answers an error of ParseOffer, Receive or Send.
func RefuseOffer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, ErrOffer):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, ErrTooMany), errors.Is(err, ErrClosed):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no room", http.StatusServiceUnavailable)
	default:
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

func (e *Endpoint) post(w http.ResponseWriter, r *http.Request, begin Begin) {
	b, ok := body(w, r, "application/sdp")
	if !ok {
		return
	}
	s, id, answer := e.begin(w, r, b, begin)
	if s == nil {
		return
	}
	at := prefix(r) + sessionPath + id
	h := w.Header()
	h.Set("Content-Type", "application/sdp")
	h.Set("Location", at)
	h.Set("ETag", s.ETag())
	h.Set("Accept-Patch", "application/trickle-ice-sdpfrag")
	e.link(w, r)
	if kinds := e.kinds(); len(kinds) > 0 {
		h.Add("Link", "<"+at+eventsPath+`>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="`+strings.Join(kinds, ",")+`"`)
	}
	if e.Choose != nil {
		h.Add("Link", "<"+at+layerPath+`>; rel="urn:ietf:params:whep:ext:core:layer"`)
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(answer)
}

// begin answers an offer and enters its session under a secret. The session is
// nil if the offer has been refused.
func (e *Endpoint) begin(w http.ResponseWriter, r *http.Request, offer []byte, begin Begin) (s *Session, id string, answer []byte) {
	o, err := ParseOffer(offer)
	if err != nil {
		RefuseOffer(w, err)
		return nil, "", nil
	}
	s, answer, err = begin(w, r, o)
	if err != nil {
		return nil, "", nil
	}
	id = strings.NewReplacer("+", "-", "/", "_").Replace(secret(24))
	e.mu.Lock()
	if e.resources == nil {
		e.resources = make(map[string]*Session)
	}
	e.resources[id] = s
	e.mu.Unlock()
	s.atEnd(func() {
		e.mu.Lock()
		delete(e.resources, id)
		delete(e.wanted, s)
		e.mu.Unlock()
	})
	return s, id, answer
}

// prefix returns what the host has stripped from the path of a request.
func prefix(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if before, ok := strings.CutSuffix(path, r.URL.EscapedPath()); ok && strings.HasPrefix(path, "/") {
		return before
	}
	return ""
}

// resource serves a session's own URL.
func (e *Endpoint) resource(w http.ResponseWriter, r *http.Request, id string) {
	if r.Method == http.MethodOptions {
		methods := "DELETE, PATCH, OPTIONS"
		switch {
		case strings.HasSuffix(id, eventsPath):
			methods = "POST, GET, OPTIONS"
		case strings.HasSuffix(id, layerPath):
			methods = "POST, OPTIONS"
		}
		preflight(w, methods)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	id, events := strings.CutSuffix(id, eventsPath)
	id, layer := strings.CutSuffix(id, layerPath)
	e.mu.Lock()
	s := e.resources[id]
	e.mu.Unlock()
	if s == nil || events && len(e.kinds()) == 0 || layer && e.Choose == nil {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	if events {
		e.events(w, r, s)
		return
	}
	if layer {
		e.layer(w, r, s)
		return
	}
	switch r.Method {
	case http.MethodDelete:
		s.end(ErrHungUp)
		w.WriteHeader(http.StatusOK)
	case http.MethodPatch:
		e.patch(w, r, s)
	default:
		w.Header().Set("Allow", "DELETE, PATCH, OPTIONS")
		http.Error(w, "delete it, or trickle candidates", http.StatusMethodNotAllowed)
	}
}

// patch takes candidates that were found later (RFC 9725 Section 4.3.2), and
// restarts ICE (Section 4.3.3). A lite agent needs none of the candidates: the
// peer's checks tell its addresses.
func (e *Endpoint) patch(w http.ResponseWriter, r *http.Request, s *Session) {
	b, ok := body(w, r, "application/trickle-ice-sdpfrag")
	if !ok {
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && match != s.ETag() {
		http.Error(w, "that session has restarted", http.StatusPreconditionFailed)
		return
	}
	if ufrag := fragment(b, "ice-ufrag"); ufrag != "" && ufrag != s.ice.Load().theirs {
		answer, err := s.Restart(ufrag, fragment(b, "ice-pwd"))
		if err != nil {
			RefuseOffer(w, err)
			return
		}
		s.aim(candidatesOf(string(b)))
		h := w.Header()
		h.Set("Content-Type", "application/trickle-ice-sdpfrag")
		h.Set("ETag", s.ETag())
		_, _ = w.Write(answer)
		return
	}
	s.aim(candidatesOf(string(b)))
	w.WriteHeader(http.StatusNoContent)
}

// fragment returns the value of an attribute in a fragment of SDP (RFC 8840).
func fragment(b []byte, key string) string {
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), "a="+key+":"); ok {
			return v
		}
	}
	return ""
}
