package turn

import (
	"net/netip"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A request counts once. Sent again, because its answer was lost or by somebody
// who has listened, it gets the answer that it had and changes nothing. An
// allocation remembers its requests for that, as long as their nonces are good.
// Where that is too much to remember, and when the session has ended, all nonces
// up to then are declared stale: the client gets a new one with the 438, and
// what was sent before is worth nothing.

// A done is a request that an allocation has carried out, or refused.
type done struct {
	id     stunwire.TxID
	method stunwire.Method
	code   uint16 // of the answer; 0: success
	at     uint32 // seconds of the clock
}

// maxDone bounds what an allocation remembers, 20 bytes each. Clients send one
// request for each peer and one for themselves in some minutes.
const maxDone = 64

// first reports whether the request is the first that a has seen of its
// transaction; another one is answered again. From now on the answer counts.
func (r *request) first(a *Allocation) bool {
	method := r.msg.Type.Method()
	a.mu.Lock()
	a.usedNonce = max(a.usedNonce, r.made)
	if i := a.recall(method, r.msg.TxID); i >= 0 {
		code := int(a.done[i].code)
		a.mu.Unlock()
		r.again(a, code)
		return false
	}
	at := uint32(r.now / int64(time.Second))
	if len(a.done) >= maxDone {
		life := uint32(r.policy.NonceLife / time.Second)
		a.done = slices.DeleteFunc(a.done, func(d done) bool { return at-d.at > life })
	}
	if len(a.done) >= maxDone {
		a.done = a.done[:0]
		a.nonceFloor.Store(a.staleBefore())
	}
	a.done = append(a.done, done{r.msg.TxID, method, 0, at})
	a.mu.Unlock()
	r.noted = a
	return true
}

// recall returns the index of a request in a.done, -1 if it is not there; mu is
// held.
func (a *Allocation) recall(method stunwire.Method, id stunwire.TxID) int {
	return slices.IndexFunc(a.done, func(d done) bool { return d.id == id && d.method == method })
}

// staleBefore is a time, in the wall's milliseconds, up to which all nonces that
// clients have used for a were made; mu is held. Those of a fleet's other
// servers may be ahead.
func (a *Allocation) staleBefore() int64 { return max(time.Now().UnixMilli(), a.usedNonce) }

// note has the request answered by an error when it comes again, too.
func (r *request) note(code int) {
	a := r.noted
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.recall(r.msg.Type.Method(), r.msg.TxID); i >= 0 {
		a.done[i].code = uint16(code)
	}
}

// again answers a request that was answered with an error code, or 0 for
// success, before.
func (r *request) again(a *Allocation, code int) {
	r.srv.stats.drop(dropRepeated, 1)
	method := r.msg.Type.Method()
	switch {
	case code != 0:
		r.refuse(code)
	case method == stunwire.Connect: // it may still be under way, or over
		r.refuse(446)
	case method == stunwire.Refresh:
		left := time.Duration(0)
		a.mu.Lock()
		if seconds, given := r.msg.Uint32(stunwire.AttrLifetime); !given || seconds > 0 {
			left = time.Duration(a.expires - r.now)
		}
		moved := a.moveTx == r.msg.TxID
		a.mu.Unlock()
		r.refreshed(a, left, moved)
	default:
		b := r.success()
		r.finish(&b)
	}
}

// A past remembers when clients' sessions have ended. It is two maps, of which
// the older one is dropped when the younger one is full: the work does not
// depend on how many there are.
type past struct {
	young, old map[netip.AddrPort]int64 // milliseconds of the wall clock
}

// maxPast is how many clients each map of a past holds.
const maxPast = 4096

// remember makes the nonces stale that a client had up to a time.
func (sh *shard) remember(client netip.AddrPort, until int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := &sh.past
	if p.young == nil || len(p.young) >= maxPast {
		p.young, p.old = make(map[netip.AddrPort]int64), p.young
	}
	p.young[client] = until
}

// ended returns until when a client's nonces are stale.
func (sh *shard) ended(client netip.AddrPort) int64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return max(sh.past.young[client], sh.past.old[client])
}

// floor is the time, in milliseconds of the wall clock, at and before which
// nonces are stale for what the request is about.
func (r *request) floor() int64 {
	if a := r.about(); a != nil {
		return a.nonceFloor.Load()
	}
	if r.msg.Type.Method() == stunwire.Allocate && r.path.shard != nil {
		return r.path.shard.ended(r.path.remote)
	}
	return 0
}
