package turn

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A tcpRelay is what an allocation for TCP has beyond others (RFC 6062).
type tcpRelay struct {
	alloc *Allocation
	base  context.Context // of dials: ends with the allocation
	stop  context.CancelFunc

	mu     sync.Mutex // guards what follows
	peers  map[netip.AddrPort]*tcpPeer
	closed bool
}

// A tcpPeer is a connection with a peer, or one that is being made.
type tcpPeer struct {
	relay *tcpRelay
	addr  netip.AddrPort
	id    uint32 // CONNECTION-ID; 0: not connected yet
	conn  net.Conn
	timer *time.Timer // until ConnectionBind

	judged atomic.Uint32 // generation of the rules that have allowed the peer
}

// connectTimeout is how long a peer has to answer, and then the client to bind
// the connection (RFC 6062 Sections 5.2 and 5.4).
const connectTimeout = 30 * time.Second

// listenTCP takes the connections that peers make to a relayed address.
func (a *Allocation) listenTCP(o *openRelay) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.tcp == nil {
		a.tcp = &tcpRelay{alloc: a, peers: make(map[netip.AddrPort]*tcpPeer)}
		a.tcp.base, a.tcp.stop = context.WithCancel(a.srv.base)
	}
	t := a.tcp
	a.srv.serving.Go(func() { t.accept(o) })
}

// close ends every connection.
func (t *tcpRelay) close() {
	t.stop()
	t.mu.Lock()
	t.closed = true
	peers := t.peers
	t.peers = nil
	t.mu.Unlock()
	for _, p := range peers {
		p.end()
	}
}

// closeFamily ends the connections with peers of an address family, by its
// index in Allocation.relays.
func (t *tcpRelay) closeFamily(i int) {
	t.mu.Lock()
	var peers []*tcpPeer
	for addr, p := range t.peers {
		if relayIndex(addr.Addr()) == i {
			peers = append(peers, p)
		}
	}
	t.mu.Unlock()
	for _, p := range peers {
		p.end()
	}
}

func (t *tcpRelay) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.peers)
}

// add makes room for a connection with a peer. code is that of RFC 6062
// Section 5.2 if there is none.
func (t *tcpRelay) add(addr netip.AddrPort) (p *tcpPeer, code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, 437
	case t.peers[addr] != nil:
		return nil, 446
	case len(t.peers) >= t.alloc.srv.policy.Load().MaxConnections:
		return nil, 508
	}
	p = &tcpPeer{relay: t, addr: addr}
	t.peers[addr] = p
	return p, 0
}

// connected gives a connection its id, for ConnectionBind to name it. It
// reports false, and closes the connection, if the allocation has ended.
func (p *tcpPeer) connected(conn net.Conn) bool {
	t := p.relay
	s := t.alloc.srv
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = conn.Close()
		return false
	}
	p.conn = conn
	p.timer = time.AfterFunc(connectTimeout, p.end)
	s.mu.Lock()
	for p.id == 0 || s.connections[p.id] != nil {
		var b [4]byte
		rand.Read(b[:])
		p.id = binary.BigEndian.Uint32(b[:])
	}
	s.connections[p.id] = p
	s.mu.Unlock()
	return true
}

// end closes the connection and forgets it. Any number of times.
func (p *tcpPeer) end() {
	t := p.relay
	s := t.alloc.srv
	t.mu.Lock()
	if t.peers[p.addr] == p {
		delete(t.peers, p.addr)
	}
	conn, timer := p.conn, p.timer
	t.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
	s.mu.Lock()
	if s.connections[p.id] == p {
		delete(s.connections, p.id)
	}
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

// connect answers Connect (RFC 6062 Section 5.2), once the peer has.
func (r *request) connect() {
	a := r.allocation()
	if a == nil {
		return
	}
	to, ok := peer(r.msg)
	a.mu.Lock()
	t, relay := a.tcp, a.relays[relayIndex(to.Addr())].open
	a.mu.Unlock()
	if !ok || t == nil {
		r.refuse(400)
		return
	}
	if relay == nil {
		r.refuse(443)
		return
	}
	if a.judge(r.policy, to, false) != nil {
		r.refuse(403)
		return
	}
	p, code := t.add(to)
	if code != 0 {
		r.refuse(code)
		return
	}
	r.keep()
	r.srv.serving.Go(func() {
		ctx, cancel := context.WithTimeout(t.base, connectTimeout)
		defer cancel()
		conn, err := relay.dial(ctx, to)
		if err != nil {
			p.end()
			r.refuse(447)
			return
		}
		if !p.connected(conn) {
			return
		}
		b := r.success()
		b.AddUint32(stunwire.AttrConnectionID, p.id)
		r.finish(&b)
		a.logAttrs(slog.LevelDebug, "turn: peer connected", slog.String("peer", to.String()))
	})
}

// accept tells the client of the peers that connect, if they have permission
// (RFC 6062 Section 5.3).
func (t *tcpRelay) accept(o *openRelay) {
	a := t.alloc
	s := a.srv
	for {
		conn, err := o.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of file descriptors, mostly: it may pass
			case <-t.base.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		from := addrPortOf(conn.RemoteAddr())
		a.mu.Lock()
		p := a.path
		if p == nil {
			p = a.next
		}
		allowed := !a.ended && p != nil && a.permits(s.policy.Load(), from, s.clock())
		a.mu.Unlock()
		if !allowed {
			s.stats.drop(dropNoPermission, 1)
			_ = conn.Close()
			continue
		}
		peer, code := t.add(from)
		if code != 0 {
			_ = conn.Close()
			continue
		}
		if !peer.connected(conn) {
			return
		}
		b := stunwire.Build(nil, stunwire.NewType(stunwire.ConnectionAttempt, stunwire.Indication), txID())
		b.AddUint32(stunwire.AttrConnectionID, peer.id)
		b.AddXORAddr(stunwire.AttrXORPeerAddress, from)
		p.send(b.Bytes())
	}
}

// connectionOwner returns the allocation whose connection has that id.
func (s *Server) connectionOwner(id uint32) *Allocation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.connections[id]; p != nil {
		return p.relay.alloc
	}
	return nil
}

// connectionBind answers ConnectionBind (RFC 6062 Section 5.4): the request's
// own connection carries the bytes of the peer's from now on.
func (r *request) connectionBind() {
	s, c := r.srv, r.path.stream
	id, ok := r.msg.Uint32(stunwire.AttrConnectionID)
	if !ok || c == nil || r.path.alloc.Load() != nil || c.bound != nil {
		r.refuse(400)
		return
	}
	s.mu.Lock()
	p := s.connections[id]
	s.mu.Unlock()
	if p == nil {
		r.refuse(400)
		return
	}
	if !p.relay.alloc.ownedElsewhere(r.cred) {
		r.refuse(441)
		return
	}
	s.mu.Lock()
	taken := s.connections[id] != p // by another ConnectionBind, or the timer
	delete(s.connections, id)
	s.mu.Unlock()
	if taken || !p.timer.Stop() {
		r.refuse(400)
		return
	}
	c.bound = p
	c.busy()
	b := r.success()
	r.finish(&b)
}
