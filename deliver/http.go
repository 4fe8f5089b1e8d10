package deliver

import (
	"errors"
	"net/http"
	"path"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/httpauth"
	"github.com/runnel-media/runnel/stream"
)

// ServeHTTP answers GET (and HEAD and OPTIONS) of the paths in the package
// comment. A token comes as query parameter "token" or as a bearer token, a
// virtual host as query parameter "vhost". Refusals are 400 for a bad name, 401
// or 403, 404 for a stream that is not live, 415 for codecs that the container
// cannot carry, and 503.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.allowOrigin(w.Header())
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Range")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if s.serveHLS(w, r) {
		return
	}
	ext := path.Ext(r.URL.Path)
	c, ok := httpContainer(ext)
	if !ok {
		http.NotFound(w, r)
		return
	}
	websocket := isUpgrade(r)
	req, err := httpRequest(r, strings.TrimSuffix(r.URL.Path, ext))
	if err != nil {
		http.Error(w, "bad stream name", http.StatusBadRequest)
		return
	}
	req.Protocol = "http-" + string(c)
	if websocket {
		req.Protocol = "ws-" + string(c)
	}
	if r.Method == http.MethodHead {
		key, sub, _, err := s.find(r.Context(), req, c, false)
		if err != nil {
			s.refuse(w, r, req, err)
			return
		}
		key.header(w.Header())
		sub.Close()
		return
	}
	if websocket && !validHandshake(r) {
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, "bad WebSocket handshake", http.StatusBadRequest)
		return
	}
	p, err := s.admit(r.Context(), req, c, websocket)
	if err != nil {
		s.refuse(w, r, req, err)
		return
	}
	switch {
	case websocket:
		p.serveWebSocket(w, r)
	case r.ProtoMajor == 1:
		p.hijack(w, r)
	default:
		p.serveResponse(w, r)
	}
}

// httpRequest makes the authorizer's question of a request for a stream.
func httpRequest(r *http.Request, streamPath string) (*auth.Request, error) {
	return httpauth.Request(r, auth.Play, streamPath)
}

// refuse answers a player that may not or cannot play. It is the table from
// errors to statuses.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, req *auth.Request, err error) {
	switch {
	case httpauth.Refuse(w, r, req, err):
	case errors.Is(err, stream.ErrNotFound):
		http.Error(w, "no such stream", http.StatusNotFound)
	case errors.Is(err, stream.ErrUnsupported):
		http.Error(w, "the stream's codecs cannot be sent in this container: "+s.codecs(req.Stream), http.StatusUnsupportedMediaType)
	case errors.Is(err, stream.ErrClosed), errors.Is(err, errFull), errors.Is(err, limit.ErrReached):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no room", http.StatusServiceUnavailable)
	default:
		if r.Context().Err() == nil { // else it has gone, perhaps while it waited for the stream
			s.log().Error("deliver: cannot play", "stream", req.Stream, "remote", req.Remote, "err", err)
		}
		http.Error(w, "cannot play", http.StatusServiceUnavailable)
	}
}

// codecs lists the codecs of a stream.
func (s *Server) codecs(name string) string {
	st := s.Hub.Stream(name)
	if st == nil {
		return "none"
	}
	var list []string
	for _, t := range st.Tracks() {
		list = append(list, t.Codec.String())
	}
	return strings.Join(list, ", ")
}

// header describes the media. A live response is never to be kept.
func (k feedKey) header(h http.Header) {
	k.container.describe(h, k.sent())
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}
