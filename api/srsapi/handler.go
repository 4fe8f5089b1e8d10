package srsapi

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/stream"
)

// Compatible is the version of SRS whose API this is.
const Compatible = "7.0.18"

// A Handler serves the API. Its fields must not change once it serves;
// ServeHTTP may be called from many goroutines at once.
type Handler struct {
	Hub *stream.Hub
	// Gate lets requests in: viewers look, operators kick. With Gate.Basic it
	// is asked as SRS is. nil: only this machine.
	Gate      *access.Gate
	ServerID  string          // "vid-…" with SRS; "": a random one
	ServiceID string          // of this process; "": a random one
	Started   time.Time       // of the server; zero: when it was first asked
	Features  map[string]bool // adds to, or corrects, what /features says

	// VHosts are the virtual hosts that there are beside the default one. Others
	// are listed while somebody publishes or plays there.
	VHosts   []string
	Fragment time.Duration // of HLS, for the virtual hosts; 0: it is off

	setup    sync.Once
	local    access.Gate // in place of a nil Gate
	started  time.Time
	mu       sync.Mutex
	cpu      cpuSample // for the CPU's share
	bodyTime time.Duration
}

// SRS's codes.
const (
	streamNotFound = 2048
	clientNotFound = 2049
	vhostNotFound  = 2051
)

// An envelope is around every answer; the other fields depend on the route.
type envelope struct {
	Code    int    `json:"code"`
	Server  string `json:"server,omitempty"`
	Service string `json:"service,omitempty"`
	PID     string `json:"pid,omitempty"`

	URLs    any `json:"urls,omitempty"`
	Data    any `json:"data,omitempty"`
	Vhosts  any `json:"vhosts,omitempty"`
	Vhost   any `json:"vhost,omitempty"`
	Streams any `json:"streams,omitempty"`
	Stream  any `json:"stream,omitempty"`
	Clients any `json:"clients,omitempty"`
	Client  any `json:"client,omitempty"`
	HTTPAPI any `json:"http_api,omitempty"`
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setup.Do(h.prepare)
	control := http.NewResponseController(w)
	if r.ContentLength != 0 { // nobody wants a body, but net/http reads it to its end
		_ = control.SetReadDeadline(time.Now().Add(h.bodyTime))
	}
	_ = control.SetWriteDeadline(time.Now().Add(30 * time.Second))
	h.serve(w, r)
	_ = control.Flush() // within the time that there is
	_ = control.SetWriteDeadline(time.Time{})
}

func (h *Handler) prepare() {
	id := strings.ToLower(rand.Text())
	if h.ServiceID == "" {
		h.ServiceID = id[:8]
	}
	if h.ServerID == "" {
		h.ServerID = "vid-" + id[8:15]
	}
	if h.started = h.Started; h.started.IsZero() {
		h.started = time.Now()
	}
	if h.bodyTime == 0 {
		h.bodyTime = 10 * time.Second
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	gate := h.Gate
	if gate == nil {
		gate = &h.local
	}
	need := access.Viewer
	kick := r.Method == http.MethodDelete
	if kick {
		need = access.Operator
	}
	if gate.CORS(w, r, "GET, HEAD, DELETE") {
		return
	}
	caller, no := gate.Admit(w, r, need)
	if no != nil {
		send(w, no.Status, envelope{Code: no.Status})
		return
	}
	status, e := http.StatusOK, envelope{}
	kind, id, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "tests/"), "/")
	switch {
	case kick && kind == "clients" && id != "":
		e = h.kick(id)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		status, e = http.StatusMethodNotAllowed, envelope{Code: http.StatusMethodNotAllowed}
		w.Header().Set("Allow", "GET, HEAD, DELETE")
	default:
		e = h.look(r, kind, id)
	}
	gate.Audit(r, caller, status)
	if e.Code == 0 {
		e.Server, e.Service, e.PID = h.ServerID, h.ServiceID, strconv.Itoa(os.Getpid())
	}
	send(w, status, e)
}

func (h *Handler) look(r *http.Request, kind, id string) envelope {
	start, count := page(r)
	switch kind {
	case "versions":
		return envelope{Data: versions()}
	case "summaries":
		return envelope{Data: h.summaries()}
	case "rusages":
		return envelope{Data: rusages()}
	case "self_proc_stats":
		return envelope{Data: h.selfProcStats()}
	case "system_proc_stats":
		return envelope{Data: h.systemProcStats()}
	case "meminfos":
		return envelope{Data: memInfos()}
	case "authors":
		return envelope{Data: authors{License: "MIT", Contributors: "https://github.com/runnel-media/runnel"}}
	case "features":
		return envelope{Data: h.features()}
	case "requests":
		return envelope{Data: request(r)}
	case "raw":
		return raw(r.URL.Query().Get("rpc"))
	case "clusters":
		return envelope{Data: clusters(r)}
	case "vhosts":
		return h.vhosts(id, start, count)
	case "streams":
		return h.streams(id, start, count)
	case "clients":
		return h.clients(id, start, count)
	}
	return envelope{URLs: map[string]string{
		"versions":          "the version of SRS whose API this is",
		"summaries":         "the summary(pid, argv, pwd, cpu, mem) of the server",
		"rusages":           "what the process has used",
		"self_proc_stats":   "the process, as the system sees it",
		"system_proc_stats": "the time of the CPUs",
		"meminfos":          "the memory of the machine",
		"authors":           "the license",
		"features":          "what the server can do",
		"requests":          "the request itself",
		"vhosts":            "the virtual hosts, all or one by its id",
		"streams":           "the streams, all or one by its id",
		"clients":           "the clients, all or one by its id; DELETE ends one",
		"raw":               "the settings, which cannot be changed here",
		"clusters":          "the origin of a stream, if it is elsewhere",
	}}
}

// How many entries a list has, from SRS but for the most.
const (
	minCount = 10
	maxCount = 10_000
)

// page reads start= and count=; what is no number counts as not given.
func page(r *http.Request) (start, count int) {
	q := r.URL.Query()
	start, _ = strconv.Atoi(q.Get("start"))
	count, _ = strconv.Atoi(q.Get("count"))
	return max(0, start), min(max(minCount, count), maxCount)
}

// cut returns the part of a list that a page shows.
func cut[T any](list []T, start, count int) []T {
	list = list[min(start, len(list)):]
	return list[:min(count, len(list))]
}

func (h *Handler) kick(id string) envelope {
	s := h.Hub.Session(id)
	if s == nil {
		return envelope{Code: clientNotFound}
	}
	s.Kick(nil)
	return envelope{}
}

func send(w http.ResponseWriter, status int, e envelope) {
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	body, err := json.Marshal(e)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":500}`)
	}
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone, then
}
