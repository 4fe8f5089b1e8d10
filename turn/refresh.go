package turn

import (
	"log/slog"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// refresh answers Refresh (RFC 8656 Section 8.2), and moves an allocation to a
// new path where the request has its ticket (RFC 8016 Section 3.2.2).
func (r *request) refresh() {
	a := r.path.alloc.Load()
	moving := false
	if a == nil {
		if a = r.ticketOwner(); a == nil {
			r.refuse(437)
			return
		}
		moving = true
	}
	if !a.ownedBy(r.cred) || moving && !a.ownedElsewhere(r.cred) {
		r.refuse(441)
		return
	}
	if !r.first(a) {
		return
	}
	family, hasFamily := r.msg.Get(stunwire.AttrRequestedAddressFamily)
	if hasFamily && len(family) != 4 {
		r.refuse(400)
		return
	}
	if hasFamily && !a.has(family[0]) {
		r.refuse(443)
		return
	}
	seconds, given := r.msg.Uint32(stunwire.AttrLifetime)
	if given && seconds == 0 {
		if hasFamily && a.dropFamily(family[0]) {
			r.refreshed(a, 0, false)
		} else {
			r.endSession(a)
		}
		return
	}
	a.adopt(r.cred, r.policy)
	if moving {
		if code := r.move(a); code != 0 {
			r.refuse(code)
			return
		}
	}
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		r.refuse(437)
		return
	}
	if !moving && a.path != r.path {
		a.confirm(r.path)
	}
	life := a.setExpiry(r.now, r.policy.allocationLifetime(seconds))
	expires := a.srv.at(a.expires)
	session := a.info().Session()
	a.mu.Unlock()
	r.refreshed(a, life, moving)
	a.srv.events.Emit(AllocationRefreshed{Time: time.Now(), Session: session, Expires: expires})
	a.logAttrs(slog.LevelDebug, "turn: session refreshed", slog.Time("expires", expires))
}

// endSession ends an allocation as its client asks for. A server that drains
// ends with its last one, but not before the client knows.
func (r *request) endSession(a *Allocation) {
	r.srv.hold()
	defer r.srv.letGo()
	a.end(EndRefreshed)
	r.loop = false // the answer goes out by itself, at once
	r.refreshed(a, 0, false)
	if c := r.path.stream; c != nil && r.srv.isEmpty() && c.settle() {
		c.linger()
	}
}

// refreshed sends the success of a Refresh.
func (r *request) refreshed(a *Allocation, life time.Duration, ticket bool) {
	b := r.success()
	b.AddUint32(stunwire.AttrLifetime, seconds32(life))
	if ticket {
		a.mu.Lock()
		b.Add(stunwire.AttrMobilityTicket, a.ticket[:])
		a.mu.Unlock()
	}
	r.finish(&b)
}

// adopt takes over what a newer proof of the same user grants, such as the
// later end of a fresh access token.
func (a *Allocation) adopt(cred *credential, p *policy) {
	own := a.cred.Load()
	if own == cred {
		return
	}
	if cred.user != own.user || cred.realm != own.realm { // a token sealed with another key: the session counts to whom it did
		c := *cred
		c.user, c.realm = own.user, own.realm
		cred = &c
	}
	a.cred.Store(cred)
	a.lease.setRate(a.rate(p))
}

// has reports whether there is a relay socket of an address family.
func (a *Allocation) has(family uint8) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch family {
	case familyIPv4:
		return a.relays[relayIPv4].open != nil
	case familyIPv6:
		return a.relays[relayIPv6].open != nil
	}
	return false
}

// dropFamily gives up one address of a dual allocation (RFC 8656 Section 8.2)
// and reports false if it is the only one.
func (a *Allocation) dropFamily(family uint8) bool {
	i := relayIPv4
	if family == familyIPv6 {
		i = relayIPv6
	}
	a.mu.Lock()
	o := a.relays[i].open
	if a.relays[1-i].open == nil || o == nil {
		a.mu.Unlock()
		return o == nil
	}
	a.relays[i].open = nil
	tcp := a.tcp
	a.mu.Unlock()
	o.close(a.srv)
	if tcp != nil {
		tcp.closeFamily(i)
	}
	return true
}
