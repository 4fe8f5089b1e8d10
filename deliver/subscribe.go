package deliver

import (
	"context"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// Play asks the Authorizer whether the peer of r may play r.Stream, opens a
// session for it and attaches a reader, for protocols that this package does
// not speak: what ingest.Server.Publish is for publishers. o may be nil. kick is
// called once if the session is to end, by an operator or because the right
// has ended; it must not block. The caller closes the Subscriber and the
// Session, the latter with the error that ended it.
//
// Refusals are auth.ErrDenied, an *auth.Redirect, the Authorizer's own error, a
// *limit.Error, stream.ErrNotFound and ErrServerClosed.
func (s *Server) Play(ctx context.Context, r *auth.Request, o *stream.SubscribeOptions, kick func(error)) (*stream.Subscriber, *stream.Session, error) {
	if err := s.door().Room(r, auth.Play); err != nil {
		return nil, nil, err
	}
	opts := stream.SubscribeOptions{Wait: s.Wait}
	if o != nil {
		opts = *o
	}
	sub, right, err := s.ask(ctx, r, &opts)
	if err != nil {
		return nil, nil, err
	}
	if err := right.Enter(); err != nil {
		sub.Close()
		return nil, nil, err
	}
	session := s.Hub.OpenSession(playSession(r, right), kick)
	right.Hold(session)
	return sub, session, nil
}
