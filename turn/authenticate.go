package turn

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// authorizeTimeout bounds one question to Auth or Realms.
const authorizeTimeout = 10 * time.Second

// authenticate finds out who has sent the request, in the order of RFC 8489
// Section 9.2.4, and serves it then. What a session's own key can answer is
// answered at once; else Auth is asked, in a goroutine of its own unless wait
// says that this one may block.
//
// It differs from the RFC in one point: a nonce that is not valid gets 438
// before Auth is asked about the rest, so that only who receives what is sent
// to his address can make Auth work.
func (r *request) authenticate(wait bool) {
	s, m := r.srv, r.msg
	if !m.Has(stunwire.AttrMessageIntegrity) && !m.Has(stunwire.AttrMessageIntegritySHA256) {
		r.withoutIntegrity(wait)
		return
	}
	c, ok := s.readClaim(m)
	if !ok {
		r.refuse(400)
		return
	}
	a := r.about()
	if a != nil {
		if cred := a.cred.Load(); cred.key != nil && cred.claim.covers(c) {
			switch {
			case !intact(m, cred.key):
				r.challenge(401, c.realm, wait)
			case !r.fresh(c.realm) && !r.freshForOwner(a, c.realm):
				r.challenge(438, c.realm, wait)
			default:
				r.cred = cred
				r.serve()
			}
			return
		}
	}
	if !r.fresh(c.realm) {
		r.challenge(438, "", wait)
		return
	}
	r.off(wait, func() { r.ask(c) })
}

// about returns the allocation whose user is to have sent the request.
func (r *request) about() *Allocation {
	switch r.msg.Type.Method() {
	case stunwire.ConnectionBind:
		if id, ok := r.msg.Uint32(stunwire.AttrConnectionID); ok {
			return r.srv.connectionOwner(id)
		}
		return nil
	case stunwire.Refresh:
		if a := r.path.alloc.Load(); a != nil {
			return a
		}
		return r.ticketOwner()
	}
	return r.path.alloc.Load()
}

// fresh reports whether the request's nonce is good, for realm.
func (r *request) fresh(realm string) bool {
	return r.srv.ShortTerm || r.freshFrom(r.path.remote, realm)
}

func (r *request) freshFrom(client netip.AddrPort, realm string) bool {
	nonce, _ := r.msg.Get(stunwire.AttrNonce)
	made, ok := r.srv.nonces.check(nonce, r.srv.features(), client, realm, time.Now(), r.policy.NonceLife)
	r.made = made
	return ok && made > r.floor()
}

// freshForOwner lets ConnectionBind, which comes by a connection of its own, go
// with the nonce of the allocation's connection if both are of one host. Over
// TCP nobody forges that.
func (r *request) freshForOwner(a *Allocation, realm string) bool {
	if r.msg.Type.Method() != stunwire.ConnectionBind {
		return false
	}
	a.mu.Lock()
	owners := [...]*path{a.path, a.next}
	a.mu.Unlock()
	for _, owner := range owners {
		if owner != nil && owner.remote.Addr() == r.path.remote.Addr() && r.freshFrom(owner.remote, realm) {
			return true
		}
	}
	return false
}

// features are those of RFC 8489 that nonces announce.
func (s *Server) features() uint32 {
	f := uint32(featureAlgorithms)
	if s.Anonymity {
		f |= featureAnonymity
	}
	return f
}

// withoutIntegrity answers who has not said who he is, unless his certificate
// says so.
func (r *request) withoutIntegrity(wait bool) {
	if r.path.certified {
		if a := r.about(); a != nil && a == r.path.alloc.Load() && a.cred.Load().key == nil {
			r.cred = a.cred.Load()
			r.serve()
			return
		}
		m := r.msg.Type.Method()
		if (m == stunwire.Allocate || m == stunwire.ConnectionBind) && r.path.alloc.Load() == nil {
			r.off(wait, func() { r.askCertificate() })
			return
		}
	}
	if r.srv.ShortTerm {
		r.refuse(400) // RFC 8489 Section 9.1.3
		return
	}
	r.challenge(401, "", wait)
}

// challenge answers 401 or 438 with what the client needs to try again.
// Without a realm it is that of the request's ORIGIN.
func (r *request) challenge(code int, realm string, wait bool) {
	if r.srv.ShortTerm {
		r.refuse(code)
		return
	}
	if !r.mayRefuse() {
		return
	}
	if realm == "" {
		var known bool
		if realm, known = r.originRealm(); !known {
			r.askOrigin(code, wait)
			return
		}
	}
	r.sendChallenge(code, realm)
}

// askOrigin asks Realms about an ORIGIN, to challenge its sender. He has proved
// nothing, so that only a part of what may be asked at a time is for his kind.
func (r *request) askOrigin(code int, wait bool) {
	s := r.srv
	if wait {
		select {
		case s.ofStrangers <- struct{}{}:
		case <-s.done:
			return
		}
	} else {
		select {
		case s.ofStrangers <- struct{}{}:
		default:
			s.stats.drop(dropAuthorizerBusy, 1)
			return
		}
	}
	if !r.off(wait, func() {
		defer func() { <-s.ofStrangers }()
		if realm, ok := r.lookupRealm(); ok {
			r.sendChallenge(code, realm)
		}
	}) {
		<-s.ofStrangers
	}
}

func (r *request) sendChallenge(code int, realm string) {
	s := r.srv
	b := r.build(stunwire.Error)
	b.AddError(code, r.reason(code))
	b.AddString(stunwire.AttrRealm, realm)
	var nonce [nonceSize]byte
	made := max(time.Now().UnixMilli(), r.floor()+1)
	b.Add(stunwire.AttrNonce, s.nonces.append(nonce[:0], s.features(), r.path.remote, realm, made))
	b.Add(stunwire.AttrPasswordAlgorithms, s.algorithms())
	if s.ThirdParty != "" {
		b.AddString(stunwire.AttrThirdPartyAuthorization, s.ThirdParty)
	}
	s.stats.refused(code)
	r.finish(&b)
}

// off runs f where it may block, in another goroutine, and returns when it is
// done if wait; else the request is copied for it. At most Server.MaxAuthorizing
// run at a time, half of them for streams, which wait for their turn. Over UDP
// what comes beyond is dropped, and what is beyond the share of one source, and
// what is asked again while it is being looked into. off reports false if f is
// not run.
func (r *request) off(wait bool, f func()) bool {
	s := r.srv
	if wait {
		for _, turn := range [...]chan struct{}{s.ofStreams, s.authorizing} {
			select {
			case turn <- struct{}{}:
				defer func() { <-turn }()
			case <-s.done:
				return false
			}
		}
		// Not here: a client's goroutine would keep the stack that this needs.
		done := make(chan struct{})
		s.work(func() {
			defer close(done)
			f()
		})
		<-done
		return true
	}
	source := r.path.remote.Addr()
	if !s.askers.Enter(source) {
		s.stats.drop(dropAuthorizerBusy, 1)
		return false
	}
	select {
	case s.authorizing <- struct{}{}:
	default:
		s.askers.Leave(source)
		s.stats.drop(dropAuthorizerBusy, 1)
		return false
	}
	finished := func() {
		<-s.authorizing
		s.askers.Leave(source)
	}
	if !r.path.shard.begin(r.path.remote, r.msg.TxID) {
		finished()
		s.stats.drop(dropRepeated, 1)
		return false
	}
	r.keep()
	s.work(func() {
		defer func() {
			r.path.shard.finish(r.path.remote, r.msg.TxID)
			finished()
		}()
		f()
	})
	return true
}

// keep copies what the request borrows from a loop.
func (r *request) keep() {
	m := new(stunwire.Message)
	if m.Parse(bytes.Clone(r.msg.Raw)) != nil {
		panic("turn: a message parses only once")
	}
	r.msg, r.out, r.loop = m, nil, false
	if sh := r.path.shard; sh.stray == r.path {
		p := &path{srv: r.srv, shard: r.path.shard, kind: r.path.kind, local: r.path.local, remote: r.path.remote, to: r.path.to}
		r.path = p
	}
}
