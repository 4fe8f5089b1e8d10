// Package admission is the door that publishers and players of every protocol
// go through: it asks the Authorizer, counts them in at the Limiter, and ends
// their sessions when their right ends: at a Grant's time, when the Authorizer,
// asked again, refuses, and when they take more than they may.
package admission

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

// A Door is what a server asks.
type Door struct {
	Auth   auth.Authorizer
	Limits *limit.Limiter // not nil
	Log    *slog.Logger
}

// askAgain bounds a question about a session that is there.
const askAgain = 30 * time.Second

// Room reports whether one more session could be counted in, whoever it is,
// with a *limit.Error if not: where it can't, the Authorizer need not be
// bothered.
func (d Door) Room(r *auth.Request, action auth.Action) error {
	return d.Limits.Check(limit.Peer{Action: action, Addr: r.Remote.Addr(), Stream: r.Stream})
}

// Ask asks whether the peer of r may do r.Action. Refusals are those of the
// Authorizer, and auth.ErrDenied for a Grant that has ended.
func (d Door) Ask(ctx context.Context, r *auth.Request) (*Right, error) {
	fillIn(r)
	grant, err := auth.Check(ctx, d.Auth, r)
	if err != nil {
		return nil, err
	}
	if !grant.Expires.IsZero() && !time.Now().Before(grant.Expires) {
		return nil, auth.ErrDenied
	}
	right := &Right{Grant: grant, limits: d.Limits, peer: limit.Peer{
		Action: r.Action, Addr: r.Remote.Addr(), Stream: r.Stream, User: grant.User, Limits: grant.Limits,
	}}
	if d.Limits.CurrentPolicy().Reauthorize > 0 {
		right.again = &question{door: d, request: r, expires: grant.Expires}
	}
	return right, nil
}

// fillIn takes user= and password= of the query, where the protocol has no
// other place for them: RTMP.
func fillIn(r *auth.Request) {
	if r.User != "" || r.Password != "" || r.Proof != nil || !strings.Contains(r.RawQuery, "password=") {
		return
	}
	values, _ := url.ParseQuery(r.RawQuery) // what of it is well-formed
	r.User, r.Password = values.Get("user"), values.Get("password")
}

// A Right is a peer's to have sessions, in general one. A nil Right may Hold and
// Leave, without effect.
type Right struct {
	Grant  *auth.Grant // not to be modified
	limits *limit.Limiter
	peer   limit.Peer
	again  *question // nil: the Authorizer is not asked again

	session atomic.Pointer[stream.Session] // not nil from Hold to Leave

	mu     sync.Mutex   // is taken before the Limiter's, which Bytes is called with
	lease  *limit.Lease // not nil from Enter to Leave
	expiry *time.Timer  // nil: the Grant does not end, or no session is held
}

// A question is what is needed for asking again.
type question struct {
	door    Door
	request *auth.Request // not to be modified
	expires time.Time     // of the last Grant; guarded by the Right's mu
}

// Enter counts a session in, or says with a *limit.Error why not. Who entered
// has to Leave, or to Hold.
func (x *Right) Enter() error {
	lease, err := x.limits.Enter(x.peer)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.lease = lease
	x.mu.Unlock()
	return nil
}

// Hold ends the session, which has just been opened, when the right ends:
// kicked for an auth.ErrDenied. When the session is closed it leaves.
func (x *Right) Hold(s *stream.Session) {
	if x == nil {
		return
	}
	x.mu.Lock()
	x.session.Store(s)
	lease := x.lease
	x.expireAt(x.expires())
	x.mu.Unlock()
	if lease != nil {
		lease.Watch(x)
	}
	s.OnClose(x.Leave)
}

// Leave counts the session out. It may be called more than once, and Enter
// after it.
func (x *Right) Leave() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lease.Leave()
	x.lease = nil
	x.session.Store(nil)
	if x.expiry != nil {
		x.expiry.Stop()
		x.expiry = nil
	}
}

// expires returns when the right ends. mu is held.
func (x *Right) expires() time.Time {
	if x.again != nil {
		return x.again.expires
	}
	return x.Grant.Expires
}

// expireAt has the session end at t, never if t is zero. mu is held.
func (x *Right) expireAt(t time.Time) {
	if x.expiry != nil {
		x.expiry.Stop()
		x.expiry = nil
	}
	if !t.IsZero() {
		x.expiry = time.AfterFunc(time.Until(t), func() { x.End(auth.ErrDenied) })
	}
}

// Bytes implements limit.Watched.
func (x *Right) Bytes() uint64 { return x.session.Load().Bytes() }

// End implements limit.Watched.
func (x *Right) End(err error) { x.session.Load().Kick(err) }

// Reauthorize implements limit.Watched.
func (x *Right) Reauthorize() {
	s := x.session.Load()
	if x.again == nil || s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askAgain)
	defer cancel()
	r := *x.again.request // Authorizers get one each time, as of a new peer
	grant, err := auth.Check(ctx, x.again.door.Auth, &r)
	redirect := (*auth.Redirect)(nil)
	switch {
	case errors.Is(err, auth.ErrDenied), errors.As(err, &redirect),
		err == nil && (grant.User != x.Grant.User || !grant.Expires.IsZero() && !time.Now().Before(grant.Expires)):
		s.Kick(auth.ErrDenied)
	case err != nil:
		x.again.door.Log.Warn("auth: a session cannot be authorized again; it goes on", "stream", r.Stream, "user", x.Grant.User, "err", err)
	default:
		x.renew(s, grant)
	}
}

// renew goes on with a session under a new Grant.
func (x *Right) renew(s *stream.Session, grant *auth.Grant) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.session.Load() != s {
		return // it has ended meanwhile
	}
	x.lease.SetLimits(grant.Limits)
	if !grant.Expires.Equal(x.again.expires) {
		x.again.expires = grant.Expires
		x.expireAt(grant.Expires)
	}
}
