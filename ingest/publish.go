package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/name"
	"github.com/runnel-media/runnel/stream"
)

// Publish asks the Authorizer whether the peer of r may publish r.Stream, opens
// a session for it and makes it the stream's publisher. r.Action is set to
// auth.Publish. o may be nil; its Session is not used.
//
// The publisher ends when ctx does, when the Grant expires, when its session
// is kicked, and when another one replaces it; o.OnEvict is told of the last
// three, and of auth.ErrDenied if the grant expired. The caller closes the
// publisher and then its session, with the error that ended it, or ends ctx,
// which does both.
//
// Refusals are auth.ErrDenied, an *auth.Redirect, the Authorizer's own error,
// stream.ErrName, stream.ErrBusy and ErrServerClosed.
func (s *Server) Publish(ctx context.Context, r *auth.Request, o *stream.PublishOptions) (*stream.Publisher, error) {
	if s.isClosing() {
		return nil, ErrServerClosed
	}
	if err := name.Check(r.Stream); err != nil {
		return nil, err
	}
	r.Action = auth.Publish
	grant, err := auth.Check(ctx, s.Auth, r)
	if err != nil {
		var redirect *auth.Redirect
		if !errors.Is(err, auth.ErrDenied) && !errors.As(err, &redirect) {
			s.log().Error("ingest: the authorizer failed", "stream", r.Stream, "remote", r.Remote, "err", err)
			err = fmt.Errorf("ingest: authorizer: %w", err)
		}
		return nil, err
	}
	left := time.Until(grant.Expires)
	if !grant.Expires.IsZero() && left <= 0 {
		return nil, auth.ErrDenied
	}

	p := &publishing{}
	opts := stream.PublishOptions{}
	if o != nil {
		opts = *o
	}
	p.onEvict, opts.OnEvict = opts.OnEvict, p.evicted
	opts.Session = s.Hub.OpenSession(stream.SessionInfo{
		Role:     stream.RolePublish,
		Protocol: r.Protocol,
		Stream:   r.Stream,
		User:     grant.User,
		Remote:   r.Remote,
		Labels:   grant.Labels,
	}, p.kick)
	pub, err := s.Hub.Publish(ctx, r.Stream, &opts)
	if err != nil {
		opts.Session.Close(err)
		return nil, err
	}
	p.begin(pub)
	var expiry *time.Timer
	if !grant.Expires.IsZero() {
		expiry = time.AfterFunc(left, func() { opts.Session.Kick(auth.ErrDenied) })
	}
	context.AfterFunc(ctx, func() {
		if expiry != nil {
			expiry.Stop()
		}
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
