package turn

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/dtlsmux"
	"github.com/runnel-media/runnel/internal/proxyproto"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// A shard is one loop: it reads a UDP socket that clients speak to, if it has
// one, and the relay sockets of its clients. Cores meet in nothing that a
// packet touches: the locks on its way are the shard's and the allocation's.
type shard struct {
	srv  *Server
	conn *udp.Conn // nil: the clients come by streams
	loop udp.Loop
	dtls *dtlsmux.Mux // nil: there is no DTLS

	mu     sync.Mutex                         // guards what follows
	paths  map[netip.AddrPort]*path           // of UDP clients with an allocation, by path.to
	asking map[netip.AddrPort][]stunwire.TxID // requests that are being looked into
	past   past                               // requests of sessions that ended

	// owned by the loop
	stray    *path // stands for clients without an allocation, one after the other
	msg      stunwire.Message
	out      []byte
	up, down outbox
	mark     udp.Mark       // of the datagram that DTLS is at
	client   netip.AddrPort // from whom that is
}

// listenerBuffer is what bursts of many clients may take of the kernel's
// memory, in bytes.
const listenerBuffer = 4 << 20

func newShard(s *Server, conn *udp.Conn) *shard {
	sh := &shard{
		srv: s, conn: conn,
		paths:  make(map[netip.AddrPort]*path),
		asking: make(map[netip.AddrPort][]stunwire.TxID),
		out:    make([]byte, 0, 1024),
		up:     outbox{stats: &s.stats},
		down:   outbox{stats: &s.stats},
	}
	sh.stray = &path{srv: s, shard: sh, kind: overUDP}
	if conn != nil {
		sh.stray.local = conn.LocalAddr()
		sh.dtls = s.newDTLS(sh)
		s.joinNAT(conn)
	}
	sh.loop.Flush = sh.flush
	return sh
}

// run reads until the shard is closed.
func (sh *shard) run() error {
	if sh.conn != nil {
		if err := sh.loop.Add(sh.conn, sh); err != nil {
			return err
		}
	}
	if sh.dtls != nil {
		sh.loop.Tick = func(now time.Time) time.Time {
			sh.dtls.Sweep()
			return now.Add(5 * time.Second)
		}
	}
	return sh.loop.Run()
}

// Close ends run.
func (sh *shard) Close() error { return sh.loop.Close() }

// close ends the shard and the sessions that its loop was reading for.
func (sh *shard) close() {
	_ = sh.loop.Close() // never fails
	if sh.conn != nil {
		_ = sh.conn.Close() // the loop may never have had it
	}
	for a := range sh.srv.Allocations() {
		if a.shard == sh {
			a.end(EndServerClosed)
		}
	}
	if sh.dtls != nil {
		_ = sh.dtls.Close() // never fails
	}
}

// flush sends what handlers have collected.
func (sh *shard) flush() {
	sh.up.flush()
	sh.down.flush()
}

// HandlePackets takes what clients have sent.
func (sh *shard) HandlePackets(ps []udp.Packet) {
	now := sh.srv.clock()
	policy := sh.srv.policy.Load()
	for i := range ps {
		p := &ps[i]
		if len(p.Data) == 0 || p.Addr.Port() == 0 {
			continue
		}
		if sh.srv.proxied(p.Addr.Addr()) {
			for d := range p.Datagrams() {
				if client, rest, ok := sh.unwrap(d, p.Addr); ok {
					sh.datagrams(&udp.Packet{Data: rest, Addr: p.Addr, Mark: p.Mark}, client, policy, now)
				}
			}
			continue
		}
		sh.datagrams(p, p.Addr, policy, now)
	}
}

// datagrams takes what one client has sent; p.Addr is where answers go.
func (sh *shard) datagrams(p *udp.Packet, client netip.AddrPort, policy *policy, now int64) {
	if isDTLS(p.Data[0]) {
		if sh.dtls == nil {
			sh.srv.stats.drop(dropMalformed, 1)
			return
		}
		sh.mark, sh.client = p.Mark, client
		for d := range p.Datagrams() {
			sh.dtls.Input(d, p.Addr)
		}
		return
	}
	from := sh.path(p.Addr, client)
	a := from.alloc.Load()
	if a == nil || !allChannels(p) {
		for d := range p.Datagrams() {
			sh.datagram(from, policy, d, p.Mark, now)
		}
		return
	}
	a.fromClient(&sh.up, from, policy, p, now)
}

// proxied reports whether datagrams from there begin with a PROXY header.
func (s *Server) proxied(from netip.Addr) bool {
	for _, p := range s.Proxies {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// unwrap takes the PROXY header off a datagram.
func (sh *shard) unwrap(b []byte, from netip.AddrPort) (client netip.AddrPort, rest []byte, ok bool) {
	h, rest, err := proxyproto.Strip(b)
	switch {
	case errors.Is(err, proxyproto.ErrNone), err == nil && h.Local:
		client, ok = from, true
	case err == nil:
		client, ok = canonical(h.Src), h.Src.Port() != 0
	}
	if !ok || len(rest) == 0 {
		sh.srv.stats.drop(dropMalformed, 1)
		return client, nil, false
	}
	return client, rest, true
}

// isDTLS and isChannel sort datagrams by their first byte (RFC 7983).
func isDTLS(b byte) bool    { return b >= 20 && b <= 63 }
func isChannel(b byte) bool { return b >= 64 && b <= 127 }

// allChannels reports whether no STUN is among the datagrams of one read.
func allChannels(p *udp.Packet) bool {
	step := p.Segment
	if step <= 0 {
		step = len(p.Data)
	}
	for i := 0; i < len(p.Data); i += step {
		if !isChannel(p.Data[i]) {
			return false
		}
	}
	return true
}

// path returns the path of a UDP client, or the stray one made to stand for it.
func (sh *shard) path(from, client netip.AddrPort) *path {
	sh.mu.Lock()
	p := sh.paths[from]
	sh.mu.Unlock()
	if p == nil || p.remote != client {
		p = sh.stray
		p.remote, p.to = client, from
	}
	return p
}

// datagram takes one message of a client that came in a datagram.
func (sh *shard) datagram(p *path, policy *policy, b []byte, mark udp.Mark, now int64) {
	if len(b) > 0 && isChannel(b[0]) {
		a := p.alloc.Load()
		if a == nil {
			sh.srv.stats.drop(dropNoAllocation, 1)
			return
		}
		a.fromClient(&sh.up, p, policy, &udp.Packet{Data: b, Mark: mark}, now)
		return
	}
	if sh.msg.Parse(b) != nil {
		sh.srv.stats.drop(dropMalformed, 1)
		return
	}
	sh.srv.message(p, policy, &sh.up, &sh.msg, mark, now, sh.out, false)
}

// message takes one STUN message of a client. Where it has to wait for
// somebody it does so in a goroutine of its own, unless wait says that it may.
func (s *Server) message(p *path, policy *policy, up *outbox, m *stunwire.Message, mark udp.Mark, now int64, out []byte, wait bool) {
	switch m.Type {
	case stunwire.NewType(stunwire.Send, stunwire.Indication):
		if a := p.alloc.Load(); a != nil {
			a.fromSend(up, p, policy, m, mark, now)
		} else {
			s.stats.drop(dropNoAllocation, 1)
		}
		return
	case stunwire.NewType(stunwire.Binding, stunwire.Request):
		s.binding(p, policy, m, now, out)
		return
	case stunwire.NewType(stunwire.Binding, stunwire.Indication):
		return // a keep-alive (RFC 8445 Section 11)
	}
	if m.Type.Class() != stunwire.Request {
		s.stats.drop(dropMalformed, 1)
		return
	}
	s.handle(p, m, now, out, wait)
}

// attach makes the path of a UDP client known. It reports false if the client
// has another one, with an allocation, by now.
func (sh *shard) attach(p *path) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if old := sh.paths[p.to]; old != nil && old.remote == p.remote && old != p {
		return false
	}
	sh.paths[p.to] = p
	return true
}

func (sh *shard) forget(p *path) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.paths[p.to] == p {
		delete(sh.paths, p.to)
	}
}

// maxAsking is how many requests of one client may be looked into at a time, so
// that one does not keep everybody else from Auth.
const maxAsking = 4

// begin notes that a request is being looked into, until finish. It reports
// false if it is already, or too many of the client's are.
func (sh *shard) begin(from netip.AddrPort, id stunwire.TxID) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.asking[from]
	if len(list) >= maxAsking || slices.Contains(list, id) {
		return false
	}
	sh.asking[from] = append(list, id)
	return true
}

func (sh *shard) finish(from netip.AddrPort, id stunwire.TxID) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := sh.asking[from]
	if i := slices.Index(list, id); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(sh.asking, from)
	} else {
		sh.asking[from] = list
	}
}
