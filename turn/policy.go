package turn

import (
	"time"
)

// A Policy is what may be changed while a Server runs: hand a new one to
// [Server.SetPolicy], and never change one that was handed over. The zero
// value is safe: globally reachable peers only, the RFC's lifetimes, ten
// answers a second for who has not authenticated, no quota.
type Policy struct {
	Peers PeerPolicy

	// Allocations at a time; 0: no bound. A user or realm at its quota gets
	// 486, the server at its own 508. UserQuota and RealmQuota are overridden
	// by a realm's options.
	UserQuota, RealmQuota, ServerQuota int

	// Bits a second of relayed data, each way; 0: no bound. What is beyond is
	// dropped, or waits where TCP is relayed. SessionRate is overridden by a
	// realm's options and lowered by a grant's Limits and by BANDWIDTH.
	SessionRate, UserRate, RealmRate, ServerRate int64

	// Lifetimes of an allocation: what a client gets that asks for less or
	// for nothing (0: 10 minutes) and the most it can get (0: 1 hour).
	Lifetime, MaxLifetime time.Duration

	// PermissionLifetime (0: 5 minutes) and ChannelLifetime (0: 10 minutes)
	// are the RFC's; clients count on them.
	PermissionLifetime, ChannelLifetime time.Duration

	// MaxPermissions (0: 1024) and MaxChannels (0: 1024) of an allocation; at
	// the cap CreatePermission and ChannelBind get 508. MaxConnections (0: 128)
	// bounds its TCP connections (RFC 6062) in the same way.
	MaxPermissions, MaxChannels, MaxConnections int

	// NonceLife is how long a nonce is taken. 0: 10 minutes.
	NonceLife time.Duration

	// UnauthenticatedRate is how many error answers a second a source gets
	// that has not proved who it is, over UDP, after a burst of
	// UnauthenticatedBurst. 0: 10 and 20; negative: no bound.
	UnauthenticatedRate  float64
	UnauthenticatedBurst int

	// BindingRate is the same for STUN Binding over UDP. 0: no bound, for the
	// answer is hardly larger than the question.
	BindingRate float64

	// NoBinding leaves Binding requests without an answer unless they come
	// from a client with an allocation.
	NoBinding bool

	// Mobility lets clients move an allocation to a new address (RFC 8016).
	// Without it MOBILITY-TICKET gets 405.
	Mobility bool

	// RFC5766Channels takes channel numbers up to 0x7FFF, as clients of
	// RFC 5766 may use, where RFC 8656 ends at 0x4FFF.
	RFC5766Channels bool

	// ClientFamily answers requests without REQUESTED-ADDRESS-FAMILY with the
	// family that the client came with, where the RFC says IPv4.
	ClientFamily bool

	// NoTCP and NoUDP refuse allocations for that transport with 442.
	NoTCP, NoUDP bool

	// IdleTimeout ends a TCP, TLS or DTLS connection that has had no
	// allocation for so long, whatever else it says. 0: 30 seconds.
	IdleTimeout time.Duration

	// Alternates are servers that clients are sent to (300, ALTERNATE-SERVER)
	// in place of an allocation here; see [Alternate].
	Alternates []Alternate
}

// A policy is a Policy made ready for use. It is immutable, but for the
// limiters' and the alternates' own state.
type policy struct {
	Policy
	generation  uint32 // of SetPolicy; peers that were allowed under another one are judged anew
	peers       *peerRules
	unauth      *sourceLimiter
	binding     *sourceLimiter
	alternates  []*alternate
	lastChannel uint16
}

// Maximum numbers and times that a zero Policy stands for.
const (
	defaultLifetime           = 10 * time.Minute
	defaultMaxLifetime        = time.Hour
	defaultPermissionLifetime = 5 * time.Minute
	defaultChannelLifetime    = 10 * time.Minute
	defaultNonceLife          = 10 * time.Minute
	defaultIdleTimeout        = 30 * time.Second
	defaultMaxPermissions     = 1024
	defaultMaxChannels        = 1024
	defaultMaxConnections     = 128
	defaultUnauthRate         = 10
	defaultUnauthBurst        = 20
	absoluteMaxLifetime       = 24 * 365 * time.Hour
)

// SetPolicy puts p in force from now on, for live sessions too: their rates
// change, and peers that p does not allow any more are refused with the next
// packet. Allocations beyond a new quota stay. p must not be changed
// afterwards. It may be called before Serve and from any goroutine.
func (s *Server) SetPolicy(p *Policy) {
	if p == nil {
		p = &Policy{}
	}
	for {
		old := s.policy.Load()
		generation := uint32(1)
		if old != nil {
			generation = old.generation + 1
		}
		next := compilePolicy(p, generation)
		next.inherit(old)
		if s.policy.CompareAndSwap(old, next) {
			break
		}
	}
	s.applyRates()
}

// CurrentPolicy returns the policy in force, which must not be changed.
func (s *Server) CurrentPolicy() *Policy {
	s.init()
	return &s.policy.Load().Policy
}

func compilePolicy(in *Policy, generation uint32) *policy {
	p := &policy{Policy: *in, generation: generation}
	p.peers = p.Peers.compile()
	set(&p.Lifetime, defaultLifetime)
	set(&p.MaxLifetime, defaultMaxLifetime)
	p.MaxLifetime = min(p.MaxLifetime, absoluteMaxLifetime)
	p.Lifetime = min(p.Lifetime, p.MaxLifetime)
	set(&p.PermissionLifetime, defaultPermissionLifetime)
	set(&p.ChannelLifetime, defaultChannelLifetime)
	set(&p.NonceLife, defaultNonceLife)
	set(&p.IdleTimeout, defaultIdleTimeout)
	set(&p.MaxPermissions, defaultMaxPermissions)
	set(&p.MaxChannels, defaultMaxChannels)
	set(&p.MaxConnections, defaultMaxConnections)
	if p.UnauthenticatedRate == 0 {
		p.UnauthenticatedRate = defaultUnauthRate
	}
	set(&p.UnauthenticatedBurst, defaultUnauthBurst)
	p.unauth = newSourceLimiter(p.UnauthenticatedRate, p.UnauthenticatedBurst)
	p.binding = newSourceLimiter(p.BindingRate, int(min(2*p.BindingRate, 1e6)))
	p.lastChannel = 0x4FFF
	if p.RFC5766Channels {
		p.lastChannel = 0x7FFF
	}
	for i := range p.Alternates {
		p.alternates = append(p.alternates, &alternate{Alternate: p.Alternates[i]})
	}
	return p
}

// set gives *v the value def if it has none.
func set[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// inherit keeps the state of what did not change, so that a new policy does
// not forgive floods or forget which alternates are down.
func (p *policy) inherit(old *policy) {
	if old == nil {
		return
	}
	if old.UnauthenticatedRate == p.UnauthenticatedRate && old.UnauthenticatedBurst == p.UnauthenticatedBurst {
		p.unauth = old.unauth
	}
	if old.BindingRate == p.BindingRate {
		p.binding = old.binding
	}
	for _, a := range p.alternates {
		for _, b := range old.alternates {
			if a.Server == b.Server {
				a.down.Store(b.down.Load())
			}
		}
	}
}

// allocationLifetime is what a client gets that asks for seconds (0: nothing).
func (p *policy) allocationLifetime(seconds uint32) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, p.Lifetime), p.MaxLifetime)
}

// limits are the quotas and rates of a realm under p.
func (p *policy) limits(r *realm) quotaLimits {
	l := quotaLimits{
		User: p.UserQuota, Realm: p.RealmQuota, Server: p.ServerQuota,
		SessionRate: p.SessionRate, UserRate: p.UserRate, RealmRate: p.RealmRate, BitRate: p.ServerRate,
	}
	if o := r.options.Load(); o != nil {
		if o.UserQuota > 0 {
			l.User = o.UserQuota
		}
		if o.TotalQuota > 0 {
			l.Realm = o.TotalQuota
		}
		if o.BitRate > 0 {
			l.SessionRate = o.BitRate
		}
	}
	return l
}
