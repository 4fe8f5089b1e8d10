package turn

import (
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A mobilityTicket lets its owner move his allocation (RFC 8016): nobody can
// guess it, and without the owner's key it is of no use. It is text of 130
// random bits: coturn's clients take a ticket for a string.
type mobilityTicket [26]byte

func newMobilityTicket() (t mobilityTicket) {
	copy(t[:], rand.Text())
	return t
}

// moveTimeout is how long a new path waits to be used, in nanoseconds; the old
// one stays meanwhile.
const moveTimeout = int64(30e9)

// newTicket gives an allocation that nobody else knows yet its first ticket.
func (s *Server) newTicket(a *Allocation) {
	a.ticket = newMobilityTicket()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tickets[a.ticket] = a
}

// ticketOwner returns the allocation that the request's ticket is for.
func (r *request) ticketOwner() *Allocation {
	v, ok := r.msg.Get(stunwire.AttrMobilityTicket)
	if !ok || len(v) != len(mobilityTicket{}) || !r.policy.Mobility {
		return nil
	}
	s := r.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tickets[mobilityTicket(v)]
}

// move makes the request's path one that the client may use from now on. The
// old one goes when it does, so that nothing is lost between (make before
// break). Connections of RFC 6062 with peers are no matter of the path: those that
// the client has bound end with its own. A path that was asked for before, and not used, goes at once: however
// often a client moves, it has two.
func (r *request) move(a *Allocation) (code int) {
	s, p := r.srv, r.path
	if a.network == protocolTCP && p.stream == nil { // RFC 6062 Section 5.1
		return 405
	}
	if p.kind == overUDP && p.shard.stray == p { // an allocation keeps its path
		p = &path{srv: s, shard: p.shard, kind: p.kind, local: p.local, remote: p.remote, to: p.to}
		r.path = p
	}
	ticket := newMobilityTicket()

	a.mu.Lock()
	if a.ended || !p.alloc.CompareAndSwap(nil, a) || p.kind == overUDP && !p.shard.attach(p) {
		p.alloc.CompareAndSwap(a, nil)
		a.mu.Unlock()
		return 437
	}
	unused := a.next
	a.next, a.moveTx = p, r.msg.TxID
	a.moveBy = r.now + moveTimeout
	drop := a.ticket
	if unused == nil {
		// The answer may get lost: until the new path is used, the ticket
		// that led to it is good.
		drop, a.oldTicket = a.oldTicket, a.ticket
	}
	a.ticket = ticket
	a.due.Store(min(a.due.Load(), a.moveBy))
	a.mu.Unlock()

	s.mu.Lock()
	delete(s.tickets, drop)
	s.tickets[ticket] = a
	s.mu.Unlock()
	if unused != nil {
		unused.leave(a)
	}
	p.busy()
	return 0
}

// confirm is called when the client uses a path that is not the last one; mu is
// held. The path that it had before is given up then.
func (a *Allocation) confirm(p *path) {
	if a.next != p {
		return // the old path, still
	}
	old := a.path
	a.path, a.next = p, nil
	drop := a.oldTicket
	a.oldTicket = mobilityTicket{}
	session := a.info().Session()
	a.srv.serving.Go(func() {
		if old != nil {
			old.leave(a)
		}
		a.srv.mu.Lock()
		delete(a.srv.tickets, drop)
		a.srv.mu.Unlock()
		a.srv.events.Emit(AllocationMoved{Time: time.Now(), Session: session})
		a.logAttrs(slog.LevelInfo, "turn: session moved",
			slog.String("transport", session.Transport), slog.String("client", session.Client.String()))
	})
}

// giveUpMove forgets a new path that was never used; mu is held. It returns
// the path.
func (a *Allocation) giveUpMove(now int64) *path {
	p := a.next
	if p == nil || now < a.moveBy || a.path == nil {
		return nil
	}
	a.next = nil
	return p
}

// lost is called when the connection of a path has ended. An allocation that
// has a ticket waits for its client, at its quota's cost, until it expires.
func (a *Allocation) lost(p *path) {
	a.mu.Lock()
	switch p {
	case a.path:
		a.path = nil
	case a.next:
		a.next = nil
	}
	stays := a.path != nil || a.next != nil || a.ticket != (mobilityTicket{})
	a.mu.Unlock()
	p.leave(a)
	if !stays {
		a.end(EndDisconnected)
	}
}
