package limit

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/halfopen"
)

// A Peer is who wants a session.
type Peer struct {
	Action auth.Action // auth.Publish, or else it plays
	Addr   netip.Addr
	Stream string      // hub key
	User   string      // "": the bounds by user do not hold
	Limits auth.Limits // of its Grant; the smaller bounds count
}

// A Lease is one session, counted in until Leave.
type Lease struct {
	limiter *Limiter
	peer    Peer
	serial  uint64

	// guarded by the Limiter's mu
	over       bool
	user, strm *group
	addr       *source // nil: it has none, or is exempt
	watched    Watched // nil before Watch
	bounded    bool    // it counts in the Limiter's bounded
	meter      meter
	ended      bool
	asked      time.Time // when it was, or the session began
	asking     bool
}

// Check reports whether there is room for one more session, with an *Error if
// not, and counts the refusal. It is for asking before an Authorizer is asked;
// Enter asks again.
func (l *Limiter) Check(p Peer) error {
	now := time.Now()
	p.Addr = p.Addr.Unmap()
	l.mu.Lock()
	var err error
	var told *Trip
	if r := l.full(&p, l.CurrentPolicy()); r != "" {
		err, told = l.trip(p.trip(r), now)
	}
	l.mu.Unlock()
	l.tell(told)
	return err
}

// Enter counts a session in, or says which bound is reached, with an *Error.
// Whoever entered has to Leave.
func (l *Limiter) Enter(p Peer) (*Lease, error) {
	now := time.Now()
	p.Addr = p.Addr.Unmap()
	l.mu.Lock()
	policy := l.CurrentPolicy()
	if r := l.full(&p, policy); r != "" {
		err, told := l.trip(p.trip(r), now)
		l.mu.Unlock()
		l.tell(told)
		return nil, err
	}
	defer l.mu.Unlock()
	l.serial++
	le := &Lease{limiter: l, peer: p, serial: l.serial, asked: now}
	l.all.sessions++
	if !l.exempt(policy, p.Addr) {
		if le.addr = l.source(p.Addr, now); le.addr != nil {
			le.addr.sessions++
		}
	}
	le.user, le.strm = enter(&l.users, p.User), enter(&l.streams, p.Stream)
	return le, nil
}

// full returns which bound is reached, "" if none is. mu is held.
func (l *Limiter) full(p *Peer, policy *Policy) Reason {
	perUser := policy.SessionsPerUser
	if n := p.Limits.Sessions; n > 0 && (perUser <= 0 || n < perUser) {
		perUser = n
	}
	reached := func(bound, n int) bool { return bound > 0 && n >= bound }
	switch {
	case reached(policy.SessionsPerAddr, l.sessionsOf(p.Addr)) && !l.exempt(policy, p.Addr):
		return SessionsPerAddr
	case p.User != "" && reached(perUser, sessions(l.users[p.User])):
		return SessionsPerUser
	case reached(policy.SessionsPerStream, sessions(l.streams[p.Stream])):
		return SessionsPerStream
	case reached(policy.Sessions, l.all.sessions):
		return Sessions
	}
	return ""
}

func (l *Limiter) sessionsOf(a netip.Addr) int {
	if s := l.sources[halfopen.Source(a)]; s != nil {
		return s.sessions
	}
	return 0
}

// trip is the Trip of a refusal of the peer.
func (p *Peer) trip(r Reason) Trip {
	return Trip{Reason: r, Addr: p.Addr, User: p.User, Stream: p.Stream}
}

func sessions(g *group) int {
	if g == nil {
		return 0
	}
	return g.sessions
}

// enter counts one more into a group, which it returns; "" is in none.
func enter(groups *map[string]*group, name string) *group {
	if name == "" {
		return nil
	}
	g := (*groups)[name]
	if g == nil {
		if *groups == nil {
			*groups = make(map[string]*group)
		}
		g = &group{}
		(*groups)[name] = g
	}
	g.sessions++
	return g
}

func leave(groups map[string]*group, name string, g *group) {
	if g == nil {
		return
	}
	if g.sessions--; g.sessions == 0 {
		delete(groups, name)
	}
}

// Leave counts the session out. It may be called more than once.
func (le *Lease) Leave() {
	if le == nil {
		return
	}
	l := le.limiter
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if le.over {
		return
	}
	le.over = true
	l.all.sessions--
	if le.addr != nil {
		le.addr.sessions--
		l.forget(le.peer.Addr, le.addr, now)
	}
	leave(l.users, le.peer.User, le.user)
	leave(l.streams, le.peer.Stream, le.strm)
	delete(l.leases, le)
	le.setBounded(false)
}

// Watched is a session as a Limiter sees and ends it.
type Watched interface {
	// Bytes returns how much media was received and sent so far.
	Bytes() uint64
	// End ends the session for err, which is an auth.ErrDenied and holds an
	// *Error. It must not block.
	End(err error)
	// Reauthorize asks the Authorizer again and, if it refuses, ends the
	// session. It may block.
	Reauthorize()
}

// Watch has the Limiter watch over the session until it leaves.
func (le *Lease) Watch(w Watched) {
	l := le.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if le.over {
		return
	}
	if l.leases == nil {
		l.leases = make(map[*Lease]struct{})
	}
	le.watched = w
	le.meter.total = w.Bytes()
	l.leases[le] = struct{}{}
	le.setBounded(le.peer.Limits.BitRate > 0)
	l.startTicking()
}

// SetLimits gives the session those of a new Grant, from now on.
func (le *Lease) SetLimits(limits auth.Limits) {
	l := le.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	le.peer.Limits = limits
	if le.watched != nil && !le.over {
		le.setBounded(limits.BitRate > 0)
		l.startTicking()
	}
}

func (le *Lease) setBounded(bounded bool) {
	if le.bounded == bounded {
		return
	}
	le.bounded = bounded
	if bounded {
		le.limiter.bounded++
	} else {
		le.limiter.bounded--
	}
}

// reached is what a session is ended with.
func reached(r Reason) error { return fmt.Errorf("%w: %w", auth.ErrDenied, &Error{r}) }
