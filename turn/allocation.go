package turn

import (
	"context"
	"crypto/sha256"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// An Allocation is one client's relay addresses, and the session around them.
// Its methods may be called from any goroutine, also after its end.
type Allocation struct {
	srv     *Server
	id      uint64
	created time.Time
	realm   *realm
	lease   *lease
	shard   *shard        // whose loop reads the relay sockets
	network uint8         // protocolUDP or protocolTCP
	txID    stunwire.TxID // of the Allocate
	asked   int64         // BANDWIDTH in bits a second; 0: none

	cred atomic.Pointer[credential]
	due  atomic.Int64 // clock: the sweep has to look then

	nonceFloor atomic.Int64 // nonces made then or before are stale, in milliseconds of the wall clock

	mu           sync.Mutex // guards what follows; one core's alone while packets flow
	ended        bool
	path         *path // by which the client was last heard; nil: its stream is gone (mobility)
	next         *path // mobility: asked for, and not used yet
	relays       [2]relay
	expires      int64 // clock
	ticket       mobilityTicket
	peers        peers
	usage        Usage
	unfragmented bool           // DF is set on what goes to peers
	moveTx       stunwire.TxID  // of the Refresh that made next
	moveBy       int64          // clock: next is to be used before
	oldTicket    mobilityTicket // good until next is used
	partial      addressError
	done         []done       // requests, up to maxDone
	usedNonce    int64        // when the newest nonce was made, in milliseconds of the wall clock
	tcp          *tcpRelay    // of an allocation for TCP
	reserved     *reservation // the port beside, until it is taken
}

// A relay is a relay socket of one address family.
type relay struct {
	alloc *Allocation
	open  *openRelay // nil: there is none of the family
}

// Indices of Allocation.relays.
const (
	relayIPv4 = iota
	relayIPv6
)

func relayIndex(ip netip.Addr) int {
	if ip.Is4() {
		return relayIPv4
	}
	return relayIPv6
}

// ownedBy reports whether cred is of the user whose allocation it is. An access
// token names no user but the key that it was sealed with, and a fresh one may
// be sealed with another: tokens take each other's place.
func (a *Allocation) ownedBy(cred *credential) bool {
	own := a.cred.Load()
	if own.claim.token != [sha256.Size]byte{} && cred.claim.token != [sha256.Size]byte{} {
		return true
	}
	return own.user == cred.user && own.realm == cred.realm && (own.key == nil) == (cred.key == nil)
}

// ownedElsewhere is ownedBy for a request that comes by a path of its own. Since
// a token names nobody, whoever has one could take the session over there: it
// takes the session's own.
func (a *Allocation) ownedElsewhere(cred *credential) bool {
	own := a.cred.Load()
	return a.ownedBy(cred) && (own.claim.token == [sha256.Size]byte{} || own == cred)
}

// rate is the bits a second that the session may have each way. 0: no bound.
func (a *Allocation) rate(p *policy) int64 {
	rate := p.limits(a.realm).SessionRate
	for _, bound := range []int64{a.cred.Load().limits.BitRate, a.asked} {
		if bound > 0 && (rate <= 0 || bound < rate) {
			rate = bound
		}
	}
	return rate
}

// register makes an allocation one of the server's. It fails if the server is
// being closed.
func (s *Server) register(a *Allocation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrServerClosed
	}
	s.lastID++
	a.id = s.lastID
	s.live[a.id] = a
	a.realm.mu.Lock()
	a.realm.live++
	a.realm.made++
	a.realm.mu.Unlock()
	return nil
}

// setExpiry sets when the allocation ends unless it is refreshed; mu is held.
// The credential's own end bounds it.
func (a *Allocation) setExpiry(now int64, life time.Duration) time.Duration {
	if end := a.cred.Load().expires; !end.IsZero() {
		life = max(min(life, time.Until(end)), 0)
	}
	a.expires = now + int64(life)
	a.schedule(now)
	return life
}

// tidy is how often an allocation forgets what has run out, in nanoseconds.
const tidy = int64(30e9)

func (a *Allocation) schedule(now int64) { a.due.Store(min(a.expires, now+tidy)) }

// tick is called by the sweep when something is due.
func (a *Allocation) tick(now int64) {
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	reason := EndReason("")
	if now >= a.expires {
		reason = EndExpired
		if end := a.cred.Load().expires; !end.IsZero() && !end.After(time.Now()) {
			reason = EndCredential
		}
	}
	a.peers.tidy(now)
	unused := a.giveUpMove(now)
	a.schedule(now)
	a.mu.Unlock()
	if unused != nil {
		unused.leave(a)
	}
	if reason != "" {
		a.end(reason)
	}
}

// Close ends the session; the client finds out by 437.
func (a *Allocation) Close() error {
	a.end(EndClosed)
	return nil
}

func (a *Allocation) isEnded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended
}

// end ends the session for good. Only the first call counts.
func (a *Allocation) end(reason EndReason) {
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	a.ended = true
	paths := [...]*path{a.path, a.next}
	tcp, reserved := a.tcp, a.reserved
	open := [...]*openRelay{a.relays[relayIPv4].open, a.relays[relayIPv6].open}
	a.reserved = nil
	usage := a.usage
	session := a.info().Session()
	ticket, oldTicket := a.ticket, a.oldTicket
	a.mu.Unlock()

	for _, p := range paths {
		if p != nil {
			p.leave(a)
		}
	}
	s := a.srv
	for _, o := range open {
		if o != nil {
			o.close(s)
		}
	}
	if tcp != nil {
		tcp.close()
	}
	if reserved != nil && reason == EndServerClosed {
		s.dropReservations(func(r *reservation) bool { return r == reserved })
	}
	a.lease.release()

	s.mu.Lock()
	delete(s.live, a.id)
	delete(s.tickets, ticket)
	delete(s.tickets, oldTicket)
	s.drained()
	s.mu.Unlock()

	a.realm.mu.Lock()
	a.realm.live--
	a.realm.past.add(&usage)
	a.realm.mu.Unlock()

	s.events.Emit(AllocationEnded{Time: time.Now(), Session: session, Reason: reason, Usage: usage})
	a.logAttrs(slog.LevelInfo, "turn: session ended",
		slog.String("reason", string(reason)),
		slog.Duration("duration", time.Since(a.created)),
		slog.Any("usage", usage))
}

// logAttrs writes a line about the session.
func (a *Allocation) logAttrs(level slog.Level, msg string, attrs ...slog.Attr) {
	log := a.srv.log()
	ctx := context.Background()
	if !log.Enabled(ctx, level) {
		return
	}
	cred := a.cred.Load()
	log.LogAttrs(ctx, level, msg, append([]slog.Attr{
		slog.Uint64("session", a.id), slog.String("realm", cred.realm), slog.String("user", cred.user),
	}, attrs...)...)
}

// AllocationInfo is what an allocation is at one moment.
type AllocationInfo struct {
	ID        uint64            `json:"id"` // unique in the life of the Server
	Created   time.Time         `json:"created"`
	Expires   time.Time         `json:"expires"`
	Realm     string            `json:"realm"`
	User      string            `json:"user"`
	Labels    map[string]string `json:"labels,omitempty"` // of the grant; not to be changed
	Transport string            `json:"transport"`        // of the client: "udp", "tcp", "tls", "dtls"
	Client    netip.AddrPort    `json:"client"`
	Server    netip.AddrPort    `json:"server"`  // to which the client speaks
	Network   string            `json:"network"` // of the relay addresses: "udp" or "tcp"
	Relayed   []netip.AddrPort  `json:"relayed"`

	Permissions []netip.Addr              `json:"permissions,omitempty"`
	Channels    map[uint16]netip.AddrPort `json:"channels,omitempty"`
	Connections int                       `json:"connections,omitempty"` // TCP, to peers

	BitRate int64 `json:"bitRate,omitempty"` // bits a second each way; 0: no bound
	Usage   Usage `json:"usage"`
}

// Info returns what the allocation is now, or was at its end.
func (a *Allocation) Info() AllocationInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.info()
}

// transport is what the client came by last; mu is held.
func (a *Allocation) transport() transport {
	if a.path != nil {
		return a.path.kind
	}
	return overTCP // its connection is lost, and it may come back
}

// info is Info; mu is held.
func (a *Allocation) info() AllocationInfo {
	cred := a.cred.Load()
	i := AllocationInfo{
		ID: a.id, Created: a.created, Expires: a.srv.at(a.expires),
		Realm: cred.realm, User: cred.user, Labels: cred.labels,
		Network: "udp", Usage: a.usage,
		BitRate: a.rate(a.srv.policy.Load()),
	}
	if p := a.path; p != nil {
		i.Transport, i.Client, i.Server = p.kind.String(), p.remote, p.local
	}
	if a.network == protocolTCP {
		i.Network = "tcp"
	}
	for _, r := range a.relays {
		if r.open != nil {
			i.Relayed = append(i.Relayed, r.open.public)
		}
	}
	i.Permissions, i.Channels = a.peers.list(a.srv.clock())
	if a.tcp != nil {
		i.Connections = a.tcp.count()
	}
	return i
}

// Allocations returns the allocations that are live now.
func (s *Server) Allocations() iter.Seq[*Allocation] {
	s.mu.Lock()
	list := make([]*Allocation, 0, len(s.live))
	for _, a := range s.live {
		list = append(list, a)
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *Allocation) int { return int(int64(a.id) - int64(b.id)) })
	return slices.Values(list)
}

// Allocation returns the live allocation with that id, nil if there is none.
func (s *Server) Allocation(id uint64) *Allocation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}
