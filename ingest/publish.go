package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/name"
	"github.com/runnel-media/runnel/stream"
)

// Publish asks the Authorizer whether the peer of r may publish r.Stream, opens
// a session for it and makes it the stream's publisher. r.Action is set to
// auth.Publish, r.Session to the session's ID. o may be nil; its Session is not used.
//
// The publisher ends when ctx does, when the Grant expires, when its session
// is kicked, and when another one replaces it; o.OnEvict is told of the last
// three, and of auth.ErrDenied if the grant expired. The caller closes the
// publisher and then its session, with the error that ended it, or ends ctx,
// which does both.
//
// Refusals are auth.ErrDenied, an *auth.Redirect, the Authorizer's own error, a
// *limit.Error, stream.ErrName, stream.ErrBusy and ErrServerClosed.
func (s *Server) Publish(ctx context.Context, r *auth.Request, o *stream.PublishOptions) (*stream.Publisher, error) {
	if s.isClosing() {
		return nil, ErrServerClosed
	}
	if err := name.Check(r.Stream); err != nil {
		return nil, err
	}
	r.Action = auth.Publish
	r.Session = rand.Text()
	door := s.door()
	if err := door.Room(r, auth.Publish); err != nil {
		return nil, err
	}
	right, err := door.Ask(ctx, r)
	if err != nil {
		var redirect *auth.Redirect
		switch {
		case errors.Is(err, auth.ErrDenied), errors.As(err, &redirect):
		case errors.Is(err, stream.ErrBusy), errors.Is(err, stream.ErrClosed): // a cluster's answer: another server has it, this one drains
		default:
			s.log().Error("ingest: the authorizer failed", "stream", r.Stream, "remote", r.Remote, "err", err)
			err = fmt.Errorf("ingest: authorizer: %w", err)
		}
		return nil, err
	}
	if err := right.Enter(); err != nil {
		return nil, err
	}

	p := &publishing{}
	opts := stream.PublishOptions{}
	if o != nil {
		opts = *o
	}
	p.onEvict, opts.OnEvict = opts.OnEvict, p.evicted
	opts.Session = s.Hub.OpenSession(stream.SessionInfo{
		ID:       r.Session,
		Role:     stream.RolePublish,
		Protocol: r.Protocol,
		Stream:   r.Stream,
		User:     right.Grant.User,
		Remote:   r.Remote,
		Labels:   right.Grant.Labels,
		VHost:    r.VHost,
		App:      r.App,
		Name:     r.Name,
		RawQuery: r.RawQuery,
		TCURL:    r.TCURL,
		PageURL:  r.PageURL,
	}, p.kick)
	pub, err := s.Hub.Publish(ctx, r.Stream, &opts)
	if err != nil {
		right.Leave()
		opts.Session.Close(err)
		return nil, err
	}
	p.begin(pub)
	right.Hold(opts.Session)
	context.AfterFunc(ctx, func() {
		_ = pub.Close()
		opts.Session.Close(nil)
	})
	return pub, nil
}

// publishing joins the two ways by which somebody else ends a publisher: its
// session is kicked, or its stream is taken away.
type publishing struct {
	onEvict func(error)
	once    sync.Once

	mu     sync.Mutex
	pub    *stream.Publisher // nil until it is there
	kicked bool
}

// kick is called when the session is to end. It does not block.
func (p *publishing) kick(err error) {
	p.mu.Lock()
	p.kicked = true
	pub := p.pub
	p.mu.Unlock()
	go func() {
		p.evicted(err) // first, so that it is not taken for a Close of the caller's
		if pub != nil {
			_ = pub.Close()
		}
	}()
}

// evicted tells the caller of Publish once.
func (p *publishing) evicted(err error) {
	p.once.Do(func() {
		if p.onEvict != nil {
			p.onEvict(err)
		}
	})
}

func (p *publishing) begin(pub *stream.Publisher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pub = pub
	if p.kicked {
		_ = pub.Close()
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}
