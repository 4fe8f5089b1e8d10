package webrtc

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// A Dialect is how SRS's clients say what they want: whom they ask for is in the
// query, or in a JSON object, in place of the path.
type Dialect struct {
	JSON                bool // an object is posted, and one is the answer
	ServerID, ServiceID string
	// VHost says which virtual host is meant, of the Host header's or the
	// URL's host and what is named by vhost=; nil: the latter.
	VHost func(host, named string) string
	// Path is that of the session's own URL; "": the one of the request.
	Path string
}

// ServeSRS serves a request of a client of SRS's.
func (e *Endpoint) ServeSRS(w http.ResponseWriter, r *http.Request, d *Dialect, begin Begin) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link")
	h.Set("Cache-Control", "no-store")
	switch {
	case r.Method == http.MethodOptions:
		preflight(w, "POST, DELETE, PATCH, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete, r.Method == http.MethodPatch:
		e.resource(w, r, r.URL.Query().Get("token"))
	case r.Method != http.MethodPost:
		h.Set("Allow", "POST, DELETE, PATCH, OPTIONS")
		http.Error(w, "post an offer", http.StatusMethodNotAllowed)
	case d.JSON:
		e.postJSON(w, r, d, begin)
	default:
		e.postQuery(w, r, d, begin)
	}
}

// as returns the request as one for the stream at /app/name.
func (d *Dialect) as(r *http.Request, path, host string, query url.Values) *http.Request {
	if d.VHost != nil {
		vhost := d.VHost(host, query.Get("vhost"))
		query.Del("vhost")
		if vhost != "" {
			query.Set("vhost", vhost)
		}
	}
	there := *r
	there.URL = &url.URL{Path: path, RawQuery: query.Encode()}
	return &there
}

// hostOf is a host without its port.
func hostOf(s string) string { return (&url.URL{Host: s}).Hostname() }

// postQuery is WHIP and WHEP as SRS has them: ?app=&stream=, an offer, and a
// session's URL with a token in its query. The type of the body is not looked at.
func (e *Endpoint) postQuery(w http.ResponseWriter, r *http.Request, d *Dialect, begin Begin) {
	offer, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxSDP))
	if err != nil {
		http.Error(w, "the body is too long or was cut off", http.StatusRequestEntityTooLarge)
		return
	}
	q := r.URL.Query()
	app, name := q.Get("app"), q.Get("stream")
	s, id, answer := e.begin(w, d.as(r, "/"+app+"/"+name, hostOf(r.Host), q), offer, begin)
	if s == nil {
		return
	}
	path := d.Path
	if path == "" {
		path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	at := url.Values{"action": {"delete"}, "token": {id}, "app": {app}, "stream": {name}, "session": {s.ice.Load().name()}}
	h := w.Header()
	h.Set("Content-Type", "application/sdp")
	h.Set("Location", path+"?"+at.Encode())
	h.Set("ETag", s.ETag())
	e.link(w, r)
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(answer)
}

// postJSON is SRS's own form. Its "clientip" is not believed.
func (e *Endpoint) postJSON(w http.ResponseWriter, r *http.Request, d *Dialect, begin Begin) {
	type object struct {
		Code      int    `json:"code"`
		Error     string `json:"error,omitempty"`
		Server    string `json:"server"`
		Service   string `json:"service"`
		PID       string `json:"pid"`
		SDP       string `json:"sdp,omitempty"`
		SessionID string `json:"sessionid,omitempty"`
	}
	out := object{Server: d.ServerID, Service: d.ServiceID, PID: strconv.Itoa(os.Getpid())}
	var in struct {
		StreamURL string `json:"streamurl"`
		SDP       string `json:"sdp"`
	}
	// Line ends are two characters longer in JSON.
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2*MaxSDP))
	var at *url.URL
	switch {
	case err != nil:
		out.Code, out.Error = http.StatusRequestEntityTooLarge, "the body is too long or was cut off"
	case json.Unmarshal(b, &in) != nil || in.SDP == "":
		out.Code, out.Error = http.StatusBadRequest, "not a JSON object with streamurl and sdp"
	default:
		if at, err = url.Parse(in.StreamURL); err != nil || at.Host == "" {
			out.Code, out.Error = http.StatusBadRequest, "streamurl is not webrtc://host/app/stream"
		}
	}
	if out.Code == 0 {
		said := &said{header: make(http.Header)}
		s, id, answer := e.begin(said, d.as(r, at.Path, at.Hostname(), at.Query()), []byte(in.SDP), begin)
		if s != nil {
			out.SDP, out.SessionID = string(answer), id
			e.link(w, r)
		} else {
			out.Code, out.Error = said.status, strings.TrimSpace(said.text.String())
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the peer is gone then
}

// said is an answer that is to be given in other words.
type said struct {
	header http.Header
	status int
	text   bytes.Buffer
}

func (s *said) Header() http.Header         { return s.header }
func (s *said) WriteHeader(status int)      { s.status = status }
func (s *said) Write(b []byte) (int, error) { return s.text.Write(b) }
