package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/httpauth"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// ServeHTTP publishes the body of a POST or PUT for as long as it lasts: FLV to
// /app/name.flv, an MPEG transport stream to /app/name.ts, or to /app/name with
// the Content-Type video/mp2t. The stream's vhost is that of a query parameter
// vhost=; a token is taken from token= or an Authorization header.
//
// The answer comes at the body's end: 204 if it was that, 400 if not, 408 if
// nothing came for IdleTimeout. Before it: 401 and 403 to who may not publish,
// 404 for a name that cannot be, 409 for a stream that has a publisher, 415
// for another type of content.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "publish by POST or PUT", http.StatusMethodNotAllowed)
		return
	}
	file, f := formatOf(r)
	if f == nil {
		http.NotFound(w, r)
		return
	}
	if !f.may(r.Header.Get("Content-Type")) {
		http.Error(w, "the content must be "+f.types[0], http.StatusUnsupportedMediaType)
		return
	}
	// A page of another site must not publish in its visitor's name, or from
	// the visitor's machine.
	var origins http.CrossOriginProtection
	if err := origins.Check(r); err != nil {
		http.Error(w, "not allowed from this origin", http.StatusForbidden)
		return
	}
	req, err := httpauth.Request(r, auth.Publish, file)
	if err != nil {
		http.Error(w, "bad stream name", http.StatusNotFound)
		return
	}
	req.Protocol = f.protocol
	u := &upload{rc: http.NewResponseController(w), format: f}
	if !s.addUpload(u) {
		s.answer(w, r, req, ErrServerClosed)
		return
	}
	defer s.removeUpload(u)
	s.answer(w, r, req, s.receive(r, req, u))
}

// receive publishes the body. It returns nil at its end.
func (s *Server) receive(r *http.Request, req *auth.Request, u *upload) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	o := s.options()
	o.OnEvict = u.evict
	pub, err := s.Publish(ctx, req, &o)
	if err != nil {
		return err
	}
	log := s.log().With("stream", req.Stream, "remote", req.Remote)
	log.Info("ingest: publishing over HTTP")
	u.body, u.session, u.idle = r.Body, pub.Session(), or(s.IdleTimeout, defaultIdleTimeout)
	_ = u.rc.SetReadDeadline(time.Now().Add(or(s.FirstPacketTimeout, defaultFirstPacketTimeout))) // not behind every middleware
	err = u.format.read(u, pub)
	if evicted := u.reason(); evicted != nil {
		err = evicted
	}
	_ = pub.Close()
	pub.Session().Close(err)
	log.Info("ingest: publisher left", "err", err)
	return err
}

// answer ends the request with the status that stands for err. It is the
// table from errors to statuses.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, req *auth.Request, err error) {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // nobody reads the rest of the body
	}
	switch {
	case httpauth.Refuse(w, r, req, err):
	case errors.Is(err, stream.ErrName):
		http.Error(w, "bad stream name", http.StatusNotFound)
	case errors.Is(err, stream.ErrBusy), errors.Is(err, stream.ErrReplaced):
		http.Error(w, "the stream has another publisher", http.StatusConflict)
	case errors.Is(err, stream.ErrKicked):
		http.Error(w, "ended by the operator", http.StatusForbidden)
	case errors.Is(err, stream.ErrClosed):
		http.Error(w, "the server is shutting down", http.StatusServiceUnavailable)
	case errors.Is(err, limit.ErrReached):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no room", http.StatusServiceUnavailable)
	case errors.Is(err, stream.ErrUnsupported):
		http.Error(w, "the codecs are not supported", http.StatusUnsupportedMediaType)
	case errors.Is(err, os.ErrDeadlineExceeded):
		http.Error(w, "nothing came for too long", http.StatusRequestTimeout)
	case errors.Is(err, flv.ErrMalformed), errors.Is(err, mpegts.ErrMalformed), errors.Is(err, io.ErrUnexpectedEOF):
		http.Error(w, "this is malformed, or not what it says", http.StatusBadRequest)
	default:
		http.Error(w, "cannot publish", http.StatusInternalServerError)
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
