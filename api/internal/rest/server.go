package rest

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/api/access"
)

const (
	// MaxBody bounds what a request may carry, in bytes.
	MaxBody = 64 << 10
	// maxBodyTime bounds how long it may take.
	maxBodyTime = 10 * time.Second
	// maxAnswerTime bounds how long a client may take for the answer.
	maxAnswerTime = 30 * time.Second
)

// A Route is one operation. Its path is that of the OpenAPI document. {name}
// stands for a name with its slashes, and only constant segments may follow it:
// of the routes whose end a path has, the longest is taken.
type Route struct {
	Method, Path string
	Need         access.Role
	Serve        func(*Call)
}

// A Server sends requests to routes. Its fields must not change once it serves;
// ServeHTTP may be called from many goroutines at once.
type Server struct {
	Gate     *access.Gate // nil: only this machine is let in
	Routes   []Route
	BodyTime time.Duration // that a body may take; 0: 10 s

	setup sync.Once
	mux   *http.ServeMux
	local access.Gate // in place of a nil Gate
}

// A Call is one request that was let in, and where its answer goes.
type Call struct {
	W      http.ResponseWriter
	R      *http.Request
	Caller *access.Caller
	Status int   // of the answer, for the audit
	More   []any // for the audit, in pairs

	gate *access.Gate
	need access.Role
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.setup.Do(s.prepare)
	control := http.NewResponseController(w)
	if r.ContentLength != 0 {
		// Even of a body that is not read: net/http reads it to its end. Where
		// there are no deadlines, the server's own bounds hold.
		_ = control.SetReadDeadline(time.Now().Add(s.BodyTime))
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	}
	_ = control.SetWriteDeadline(time.Now().Add(maxAnswerTime))
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	head.Set("Referrer-Policy", "no-referrer")
	if !strings.HasPrefix(r.URL.Path, "/") || path.Clean(r.URL.Path) != r.URL.Path { // the mux would redirect
		s.enter(w, r, nil)
	} else {
		s.mux.ServeHTTP(w, r)
	}
	_ = control.Flush() // within the time that there is
	_ = control.SetWriteDeadline(time.Time{})
}

func (s *Server) prepare() {
	if s.BodyTime == 0 {
		s.BodyTime = maxBodyTime
	}
	lists := map[string][]Route{}
	for _, rt := range s.Routes {
		pattern, _ := split(rt.Path)
		lists[pattern] = append(lists[pattern], rt)
		if below, ok := strings.CutSuffix(pattern, "/{name...}"); ok && lists[below] == nil {
			lists[below] = []Route{} // or the mux would redirect from it
		}
	}
	s.mux = http.NewServeMux()
	for pattern, list := range lists {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.enter(w, r, choose(r, list)) })
	}
	if lists["/"] == nil {
		s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.enter(w, r, nil) })
	}
}

// split returns the pattern of a path, and what is to follow its {name}.
func split(p string) (pattern, end string) {
	before, end, ok := strings.Cut(p, "{name}")
	if !ok {
		return p, ""
	}
	return before + "{name...}", end
}

// choose returns those of the routes of a pattern whose end the path has, the
// longest, and takes that off the name.
func choose(r *http.Request, list []Route) []Route {
	name, longest := r.PathValue("name"), ""
	for _, rt := range list {
		_, end := split(rt.Path)
		if len(end) > len(longest) && len(name) > len(end) && strings.HasSuffix(name, end) {
			longest = end
		}
	}
	if longest != "" {
		r.SetPathValue("name", strings.TrimSuffix(name, longest))
	}
	var chosen []Route
	for _, rt := range list {
		if _, end := split(rt.Path); end == longest {
			chosen = append(chosen, rt)
		}
	}
	return chosen
}

func (s *Server) gate() *access.Gate {
	if s.Gate == nil {
		return &s.local
	}
	return s.Gate
}

// enter lets a request in to one of the routes of its path, of which there may
// be none. Strangers do not learn which paths there are.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, list []Route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	need := access.Viewer
	i := slices.IndexFunc(list, func(rt Route) bool { return rt.Method == method })
	if i >= 0 {
		need = list[i].Need
	}
	if s.gate().CORS(w, r, allowed(list)) {
		return
	}
	c := &Call{W: w, R: r, Status: http.StatusOK, gate: s.gate(), need: need}
	caller, no := s.gate().Admit(w, r, need)
	if no != nil {
		c.Refuse(no.Status, no.Detail)
		return
	}
	c.Caller = caller
	defer func() { s.gate().Audit(r, caller, c.Status, c.More...) }()
	switch {
	case i >= 0:
		list[i].Serve(c)
	case len(list) == 0:
		c.Refuse(http.StatusNotFound, "there is nothing of that name")
	default:
		w.Header().Set("Allow", allowed(list))
		c.Refuse(http.StatusMethodNotAllowed, "this takes "+allowed(list))
	}
}

// allowed lists the methods of a path.
func allowed(list []Route) string {
	var methods []string
	for _, rt := range list {
		methods = append(methods, rt.Method)
		if rt.Method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	return strings.Join(methods, ", ")
}

// Still reports whether the caller would be let in now as it was: answers that
// have no end ask now and then, for tokens are revoked.
func (c *Call) Still() bool {
	now, no := c.gate.Admit(blind{}, c.R, c.need)
	return no == nil && now.User == c.Caller.User
}

// blind takes the headers of an answer that is under way already.
type blind struct{}

func (blind) Header() http.Header         { return http.Header{} }
func (blind) Write(b []byte) (int, error) { return len(b), nil }
func (blind) WriteHeader(int)             {}
