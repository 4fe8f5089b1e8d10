package turn

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// allocate answers Allocate (RFC 8656 Section 7.2).
func (r *request) allocate() {
	s, p := r.srv, r.path
	if a := p.alloc.Load(); a != nil {
		if a.txID == r.msg.TxID && a.ownedBy(r.cred) {
			r.allocated(a) // again: the answer was lost
			return
		}
		r.refuse(437)
		return
	}
	w, code := r.readWish()
	if code != 0 {
		r.fail(code)
		return
	}
	if r.redirect() {
		return
	}
	if s.isDraining() {
		r.fail(508)
		return
	}
	realm := s.realm(r.cred.realm)
	if err := realm.load(s, r.now); err != nil {
		r.fail(500)
		return
	}
	a := &Allocation{
		srv: s, created: time.Now(), realm: realm, shard: p.shard, network: w.network,
		txID: r.msg.TxID, asked: w.bitRate, path: p,
	}
	a.cred.Store(r.cred)
	a.usedNonce = r.made
	a.nonceFloor.Store(r.floor())
	a.relays[relayIPv4].alloc, a.relays[relayIPv6].alloc = a, a
	limits := r.policy.limits(realm)
	if n := r.cred.limits.Sessions; n > 0 && (limits.User <= 0 || n < limits.User) {
		limits.User = n
	}
	limits.SessionRate = a.rate(r.policy)
	if code := r.open(a, &w, limits); code != 0 {
		r.abandon(a)
		r.fail(code)
		return
	}
	a.setExpiry(r.now, r.policy.allocationLifetime(w.seconds))
	if w.mobility {
		s.newTicket(a)
	}
	if err := s.register(a); err != nil {
		r.abandon(a)
		return
	}
	if !p.alloc.CompareAndSwap(nil, a) || p.kind == overUDP && !p.shard.attach(p) {
		a.end(EndFailed) // another Allocate of the same client was faster
		r.fail(437)
		return
	}
	if err := a.listen(); err != nil {
		a.end(EndFailed)
		r.fail(500)
		return
	}
	if a.isEnded() { // meanwhile: it left the path before it was there
		p.leave(a)
		return
	}
	p.busy()
	// Told before the client is: what it does next is to be told after.
	info := a.Info()
	s.events.Emit(AllocationCreated{Time: a.created, Session: info.Session(), Expires: info.Expires})
	r.allocated(a)
	a.logAttrs(slog.LevelInfo, "turn: session began",
		slog.String("transport", info.Transport), slog.String("client", info.Client.String()),
		slog.String("server", info.Server.String()), slog.String("network", info.Network),
		slog.String("relayed", addresses(info.Relayed)), slog.Time("expires", info.Expires))
}

// addresses writes them in one line, which costs the log less than a list.
func addresses(list []netip.AddrPort) string {
	var room [2 * 48]byte
	b := room[:0]
	for i, a := range list {
		if i > 0 {
			b = append(b, ' ')
		}
		b = a.AppendTo(b)
	}
	return string(b)
}

// fail refuses an Allocate and tells of it.
func (r *request) fail(code int) {
	r.srv.events.Emit(AllocationFailed{
		Time: time.Now(), Realm: r.cred.realm, User: r.cred.user, Client: r.path.remote, Code: code,
	})
	r.srv.log().LogAttrs(r.srv.base, slog.LevelInfo, "turn: allocation refused",
		slog.Int("code", code), slog.String("realm", r.cred.realm), slog.String("user", r.cred.user),
		slog.String("client", r.path.remote.String()))
	r.refuse(code)
}

// abandon gives back what an allocation that did not come to be has taken.
func (r *request) abandon(a *Allocation) {
	for i := range a.relays {
		if o := a.relays[i].open; o != nil {
			o.close(r.srv)
		}
	}
	if a.reserved != nil {
		r.srv.dropReservations(func(x *reservation) bool { return x == a.reserved })
	}
	a.lease.release()
}

// An addressError says why one address of a dual allocation is missing.
type addressError struct {
	family uint8 // 0: none is
	code   int
}

// quotaCode is the error code for an error of quotas.
func quotaCode(err error) int {
	if errors.Is(err, errUserQuota) || errors.Is(err, errRealmQuota) {
		return 486
	}
	return 508
}

// open finds a share of the quotas and the relay sockets for an allocation that
// nobody knows yet.
func (r *request) open(a *Allocation, w *wish, limits quotaLimits) (code int) {
	if w.token != nil {
		reserved := r.srv.takeReservation(*w.token, r.cred)
		if reserved == nil {
			return 508
		}
		a.lease = reserved.lease
		a.lease.setRate(limits.SessionRate)
		a.relays[relayIndex(reserved.relay.local.Addr())].open = reserved.relay
		return 0
	}
	var err error
	if a.lease, err = r.srv.quota.acquire(a.realm.name, r.cred.user, limits); err != nil {
		return quotaCode(err)
	}
	for _, family := range w.families {
		o, reserved, code := r.openFamily(family, w, limits)
		switch {
		case code == 0:
			a.relays[relayIndex(o.local.Addr())].open = o
			a.reserved = reserved
		case !w.dual || a.partial.family != 0:
			return code
		default:
			a.partial = addressError{family, code}
		}
	}
	return 0
}

// openFamily opens one relay socket, and with w.reserve the one beside it.
func (r *request) openFamily(family uint8, w *wish, limits quotaLimits) (*openRelay, *reservation, int) {
	s := r.srv
	q := &RelayRequest{
		Network: "udp4", Even: w.even, User: r.cred.user, Realm: r.cred.realm,
		Client: r.path.remote, Server: r.path.local,
	}
	if w.network == protocolTCP {
		q.Network = "tcp4"
	}
	if family == familyIPv6 {
		q.Network = q.Network[:3] + "6"
	}
	for range tries {
		o, err := s.openRelay(s.base, q)
		if err != nil {
			return nil, nil, s.relayError(err)
		}
		if !w.reserve {
			return o, nil, 0
		}
		next := *q
		next.Even = false
		next.Port = netip.AddrPortFrom(o.local.Addr(), o.local.Port()+1)
		if beside, err := s.openRelay(s.base, &next); err == nil {
			reserved, err := s.reserve(beside, r.cred, limits, r.now)
			if err == nil {
				return o, reserved, 0
			}
			beside.close(s)
			o.close(s)
			return nil, nil, quotaCode(err)
		}
		o.close(s)
	}
	return nil, nil, 508
}

// relayError is the error code for an error of a RelayAllocator.
func (s *Server) relayError(err error) int {
	switch {
	case errors.Is(err, ErrNoFamily):
		return 440
	case errors.Is(err, ErrNoPort):
	default:
		s.log().LogAttrs(s.base, slog.LevelError, "turn: relay socket not opened", slog.Any("error", err))
	}
	return 508
}

// listen has the relay sockets read.
func (a *Allocation) listen() error {
	a.mu.Lock()
	open := [...]*openRelay{a.relays[relayIPv4].open, a.relays[relayIPv6].open}
	a.mu.Unlock()
	for i, o := range open {
		switch {
		case o == nil:
		case o.conn != nil:
			if err := a.shard.loop.Add(o.conn, &a.relays[i]); err != nil {
				return err
			}
		default:
			a.listenTCP(o)
		}
	}
	return nil
}

// allocated sends the success of an Allocate.
func (r *request) allocated(a *Allocation) {
	a.mu.Lock()
	b := r.success()
	for i := range a.relays {
		if o := a.relays[i].open; o != nil {
			b.AddXORAddr(stunwire.AttrXORRelayedAddress, o.public)
		}
	}
	b.AddUint32(stunwire.AttrLifetime, seconds32(time.Duration(a.expires-r.now)))
	b.AddXORAddr(stunwire.AttrXORMappedAddress, r.path.remote)
	if a.reserved != nil {
		b.Add(stunwire.AttrReservationToken, a.reserved.token[:])
	}
	if a.ticket != (mobilityTicket{}) {
		b.Add(stunwire.AttrMobilityTicket, a.ticket[:])
	}
	if e := a.partial; e.family != 0 {
		attr := stunwire.AttrAddressErrorCode
		if r.msg.Has(attrDraftAdditionalFamily) {
			attr = attrDraftAddressErrorCode
		}
		b.Add(attr, []byte{e.family, 0, byte(e.code / 100), byte(e.code % 100)})
	}
	a.mu.Unlock()
	r.finish(&b)
}
