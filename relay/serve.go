package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/admission"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/httpauth"
	"github.com/runnel-media/runnel/stream"
)

// ServeHTTP answers other servers' relays by the relay protocol. Mount it at
// PathPrefix. GET of /_relay/app/name.flv plays the stream, POST or PUT
// publishes it; the Protocol of the question to Auth, which Guard goes before,
// is "relay". Refusals are 400 for a bad name, 401 or 403, 404 for a stream that
// cannot be had, 409 for one that has a publisher, and 503.
func (r *Relay) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.prepare()
	path, ok := strings.CutPrefix(q.URL.Path, PathPrefix)
	path, isFLV := strings.CutSuffix(path, ".flv")
	if !ok || !isFLV {
		http.NotFound(w, q)
		return
	}
	action, serve := auth.Play, r.play
	switch q.Method {
	case http.MethodGet:
	case http.MethodPost, http.MethodPut:
		action, serve = auth.Publish, r.receive
	default:
		w.Header().Set("Allow", "GET, POST, PUT")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	// Only servers have business here: no page, in no browser.
	if q.Header.Get("Origin") != "" || q.Header.Get("Sec-Fetch-Site") != "" {
		http.Error(w, "not for browsers", http.StatusForbidden)
		return
	}
	req, err := httpauth.Request(q, action, "/"+path)
	if err != nil {
		http.Error(w, "bad stream name", http.StatusBadRequest)
		return
	}
	req.Protocol = "relay"
	req.Session = rand.Text()
	if err := serve(w, q, req); err != nil {
		r.refuse(w, q, req, err)
	}
}

func (r *Relay) door() admission.Door {
	d := admission.Door{Auth: r.Guard(r.Auth), Limits: r.Limits, Log: r.log()}
	if d.Limits == nil {
		d.Limits = &r.own
	}
	return d
}

// refuse answers a request that came to nothing. It is the table from errors
// to statuses.
func (r *Relay) refuse(w http.ResponseWriter, q *http.Request, req *auth.Request, err error) {
	if q.ProtoMajor == 1 && req.Action == auth.Publish {
		w.Header().Set("Connection", "close") // nobody reads the rest of the body
	}
	switch {
	case httpauth.Refuse(w, q, req, err):
	case errors.Is(err, stream.ErrName):
		http.Error(w, "bad stream name", http.StatusBadRequest)
	case errors.Is(err, stream.ErrNotFound):
		http.Error(w, "no such stream", http.StatusNotFound)
	case errors.Is(err, stream.ErrBusy), errors.Is(err, stream.ErrReplaced):
		http.Error(w, "the stream has another publisher", http.StatusConflict)
	case errors.Is(err, stream.ErrUnsupported):
		http.Error(w, "the codecs are not supported", http.StatusUnsupportedMediaType)
	case errors.Is(err, flv.ErrMalformed), errors.Is(err, io.ErrUnexpectedEOF):
		http.Error(w, "this is malformed", http.StatusBadRequest)
	case errors.Is(err, stream.ErrClosed), errors.Is(err, limit.ErrReached):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no room", http.StatusServiceUnavailable)
	default:
		http.Error(w, "cannot relay", http.StatusServiceUnavailable)
	}
}

// admit lets a server in. Its session is kicked when the right to be here
// ends, which ends the context.
func (r *Relay) admit(ctx context.Context, req *auth.Request, right *admission.Right, role stream.Role) (context.Context, *stream.Session, error) {
	if err := right.Enter(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	session := r.Hub.OpenSession(stream.SessionInfo{
		ID: req.Session, Role: role, Protocol: req.Protocol, Stream: req.Stream,
		User: right.Grant.User, Remote: req.Remote, Labels: right.Grant.Labels,
		VHost: req.VHost, App: req.App, Name: req.Name, RawQuery: req.RawQuery,
	}, func(err error) { cancel(err) })
	right.Hold(session)
	return ctx, session, nil
}

// play sends the stream until it or the peer ends. Errors are from before the
// first byte.
func (r *Relay) play(w http.ResponseWriter, q *http.Request, req *auth.Request) error {
	door := r.door()
	if err := door.Room(req, auth.Play); err != nil {
		return err
	}
	right, err := door.Ask(q.Context(), req)
	if err != nil {
		return err
	}
	sub, err := r.Hub.Subscribe(q.Context(), req.Stream, &stream.SubscribeOptions{Wait: r.Wait, MaxLag: maxLag})
	if err != nil {
		return err
	}
	defer sub.Close()
	ctx, session, err := r.admit(q.Context(), req, right, stream.RolePlay)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "video/x-flv")
	h.Set("Cache-Control", "no-store")
	h.Set(headerEpoch, epochOf(sub.Stream()))
	h.Set(headerPath, strings.Join(append(slices.Clone(r.pathOf(req.Stream)), r.id), ","))
	out := &response{w: w, rc: http.NewResponseController(w), session: session, limit: r.timeout()}
	if err = out.flush(); err == nil { // the headers: who asks need not wait for media to know
		err = copyTo(ctx, sub, &flvSink{w: out, marks: true}, &Options{})
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	session.Close(err)
	return nil
}

// A response is written to with deadlines, and flushed each time.
type response struct {
	w       io.Writer
	rc      *http.ResponseController
	session *stream.Session
	limit   time.Duration
}

func (o *response) flush() error {
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.limit)) // not behind every middleware
	return o.rc.Flush()
}

func (o *response) Write(b []byte) (int, error) {
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.limit))
	n, err := o.w.Write(b)
	if err == nil {
		err = o.rc.Flush()
	}
	o.session.AddOut(n)
	return n, err
}

// receive publishes the body until it ends.
func (r *Relay) receive(w http.ResponseWriter, q *http.Request, req *auth.Request) error {
	door := r.door()
	if err := door.Room(req, auth.Publish); err != nil {
		return err
	}
	right, err := door.Ask(q.Context(), req)
	if err != nil {
		return err
	}
	ctx, session, err := r.admit(q.Context(), req, right, stream.RolePublish)
	if err != nil {
		return err
	}
	rc := http.NewResponseController(w)
	evict := make(chan error, 1)
	kicked := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(kicked)
		_ = rc.SetReadDeadline(time.Unix(1, 0))
	})
	err = func() error {
		pub, err := r.Hub.Publish(ctx, req.Stream, &stream.PublishOptions{Session: session, OnEvict: func(err error) {
			evict <- err
			session.Kick(err)
		}})
		if err != nil {
			return err
		}
		defer pub.Close()
		body := &request{body: q.Body, rc: rc, session: session, limit: r.idleTimeout()}
		return (&flv.Reader{R: body, Demuxer: &flv.Demuxer{Sink: &marked{Sink: pub}}}).ReadAll()
	}()
	if !stop() {
		<-kicked // rc is not to be used when the handler has returned
	}
	select {
	case err = <-evict:
	default:
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	session.Close(err)
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// A request's body is read with deadlines.
type request struct {
	body    io.Reader
	rc      *http.ResponseController
	session *stream.Session
	limit   time.Duration
	touched time.Time
}

func (u *request) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(u.touched) > u.limit/8 {
		u.touched = now
		_ = u.rc.SetReadDeadline(now.Add(u.limit)) // not behind every middleware
	}
	n, err := u.body.Read(b)
	u.session.AddIn(n)
	return n, err
}
