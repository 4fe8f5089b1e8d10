package turn

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/runnel-media/runnel/auth"
)

// A realm is what the server knows of one.
type realm struct {
	name string

	options atomic.Pointer[auth.RealmOptions] // nil: none
	rules   atomic.Pointer[peerRules]         // nil: none
	changes atomic.Uint32                     // of rules
	loaded  atomic.Int64                      // clock of the last load; 0: never

	mu      sync.Mutex // guards what follows
	loading bool
	live    int    // allocations
	made    uint64 // allocations since the beginning
	past    Usage  // of sessions that have ended
}

const (
	realmFresh  = int64(60e9) // nanoseconds that what Realms said is taken
	maxRealms   = 10000
	maxOrigins  = 1024
	originFresh = int64(60e9)
)

// realm returns the realm of a session.
func (s *Server) realm(name string) *realm {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.realms[name]
	if r == nil {
		r = &realm{name: name}
		if len(s.realms) >= maxRealms {
			s.forgetRealm()
		}
		s.realms[name] = r
	}
	return r
}

// forgetRealm makes room for another realm, with the counters of one that has
// no session; mu is held.
func (s *Server) forgetRealm() {
	for name, r := range s.realms {
		r.mu.Lock()
		idle := r.live == 0
		r.mu.Unlock()
		if idle {
			delete(s.realms, name)
			return
		}
	}
}

// load asks Realms about a realm if what is known is old. It blocks. What is
// known stays in force while Realms fails; the error is that nothing is.
func (r *realm) load(s *Server, now int64) error {
	if s.Realms == nil {
		return nil
	}
	if at := r.loaded.Load(); at != 0 && now-at < realmFresh {
		return nil
	}
	r.mu.Lock()
	if r.loading && r.loaded.Load() != 0 {
		r.mu.Unlock()
		return nil
	}
	r.loading = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.loading = false
	}()
	ctx, cancel := context.WithTimeout(s.base, authorizeTimeout)
	defer cancel()
	options, err := s.Realms.RealmOptions(ctx, r.name)
	var rules auth.PeerRules
	if err == nil {
		rules, err = s.Realms.PeerRules(ctx, r.name)
	}
	if err != nil {
		s.log().LogAttrs(ctx, slog.LevelError, "turn: Realms failed", slog.String("realm", r.name), slog.Any("error", err))
		if r.loaded.Load() != 0 {
			return nil
		}
		return err
	}
	r.options.Store(&options)
	r.rules.Store(compileRules(rules.Allow, rules.Deny))
	r.changes.Add(1)
	r.loaded.Store(s.clock())
	s.quota.setRates(r.name, s.policy.Load().limits(r))
	return nil
}

// realmLoads is how many realms are loaded anew each second, at most: a thousand
// with sessions are not much older than realmFresh.
const realmLoads = 20

// sweepRealms has the realms that have sessions loaded anew, some at a time.
func (s *Server) sweepRealms(now int64) {
	if s.Realms == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := 0
	for _, r := range s.realms {
		r.mu.Lock()
		stale := r.live > 0 && !r.loading && now-r.loaded.Load() >= realmFresh
		r.mu.Unlock()
		if !stale || s.closed {
			continue
		}
		s.serving.Go(func() { _ = r.load(s, now) }) // logged there
		if begun++; begun == realmLoads {
			return
		}
	}
}

// An originRealm is a remembered answer of Realms.RealmOf.
type originRealm struct {
	realm   string
	expires int64
}

// originRealm returns the realm for the request's ORIGINs if it is known
// without asking: that of the first which has one, else the server's.
func (r *request) originRealm() (string, bool) {
	s := r.srv
	if s.Realms == nil {
		return s.Realm, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for origin := range r.origins {
		o, ok := s.origins[origin]
		if !ok || o.expires <= r.now {
			return "", false
		}
		if o.realm != "" {
			return o.realm, true
		}
	}
	return s.Realm, true
}

// lookupRealm is originRealm that asks. It blocks. ok is false if nobody can
// tell at the moment.
func (r *request) lookupRealm() (name string, ok bool) {
	s := r.srv
	if s.Realms == nil {
		return s.Realm, true
	}
	for origin := range r.origins {
		if name, ok = s.lookupOrigin(origin); !ok || name != "" {
			return name, ok
		}
	}
	return s.Realm, true
}

// lookupOrigin asks for the realm of an ORIGIN; "" if it has none.
func (s *Server) lookupOrigin(origin string) (name string, ok bool) {
	ctx, cancel := context.WithTimeout(s.base, authorizeTimeout)
	defer cancel()
	name, err := s.Realms.RealmOf(ctx, origin)
	if err != nil {
		s.log().LogAttrs(ctx, slog.LevelError, "turn: Realms failed", slog.String("origin", origin), slog.Any("error", err))
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.origins) >= maxOrigins {
		clear(s.origins) // strangers choose the names: keep it bounded, not clever
	}
	s.origins[origin] = originRealm{realm: name, expires: s.clock() + originFresh}
	return name, true
}

// applyRates puts the rates of a new policy into the sessions that live.
func (s *Server) applyRates() {
	s.mu.Lock()
	realms := make([]*realm, 0, len(s.realms))
	for _, r := range s.realms {
		realms = append(realms, r)
	}
	allocations := make([]*Allocation, 0, len(s.live))
	for _, a := range s.live {
		allocations = append(allocations, a)
	}
	s.mu.Unlock()
	p := s.policy.Load()
	for _, r := range realms {
		s.quota.setRates(r.name, p.limits(r))
	}
	for _, a := range allocations {
		a.lease.setRate(a.rate(p))
	}
}
