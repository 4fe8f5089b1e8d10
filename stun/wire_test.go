package stun

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A wire is a network of packets in memory, for tests in synctest bubbles.
type wire struct {
	mu    sync.Mutex
	socks map[netip.AddrPort]*sock
	nats  map[netip.Addr]*natBox // by outer address
	// meddle, if set, sees every packet and returns what is delivered.
	meddle func(from, to netip.AddrPort, b []byte) []byte
}

func newWire() *wire {
	return &wire{socks: make(map[netip.AddrPort]*sock), nats: make(map[netip.Addr]*natBox)}
}

type sock struct {
	wire *wire
	at   netip.AddrPort
	nat  *natBox // it is behind
	view PacketView
}

func (w *wire) listen(at string) *sock { return w.listenBehind(at, nil) }

func (w *wire) listenBehind(at string, nat *natBox) *sock {
	s := &sock{wire: w, at: netip.MustParseAddrPort(at), nat: nat}
	s.view.packets, s.view.closed, s.view.mux = make(chan packet, viewQueue), make(chan struct{}), new(Mux)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.socks[s.at] = s
	return s
}

func (w *wire) deliver(from, to netip.AddrPort, b []byte) {
	w.mu.Lock()
	if w.meddle != nil {
		b = w.meddle(from, to, b)
	}
	s := w.socks[to]
	if s == nil {
		if nat := w.nats[to.Addr()]; nat != nil {
			s = w.socks[nat.inside(from, to)]
		}
	}
	w.mu.Unlock()
	if s != nil && b != nil {
		s.view.handle([]Packet{{Data: b, From: from}})
	}
}

func (s *sock) WriteTo(b []byte, a net.Addr) (int, error) {
	select {
	case <-s.view.closed:
		return 0, net.ErrClosed
	default:
	}
	from, to := s.at, addrPortOf(a)
	if s.nat != nil {
		s.wire.mu.Lock()
		from = s.nat.outside(s.at, to)
		s.wire.mu.Unlock()
	}
	s.wire.deliver(from, to, b)
	return len(b), nil
}

func (s *sock) ReadFrom(b []byte) (int, net.Addr, error) { return s.view.ReadFrom(b) }
func (s *sock) LocalAddr() net.Addr                      { return net.UDPAddrFromAddrPort(s.at) }
func (s *sock) SetDeadline(t time.Time) error            { return s.view.SetDeadline(t) }
func (s *sock) SetReadDeadline(t time.Time) error        { return s.view.SetReadDeadline(t) }
func (s *sock) SetWriteDeadline(t time.Time) error       { return s.view.SetWriteDeadline(t) }
func (s *sock) Close() error                             { return s.view.Close() }
func (s *sock) conn(to string) *peerConn                 { return &peerConn{s, netip.MustParseAddrPort(to)} }

// A natBox translates what is behind it. The wire's mu guards it.
type natBox struct {
	outer              netip.Addr
	mapping, filtering Behavior
	hairpin            bool

	next  uint16
	maps  map[natKey]uint16
	inner map[uint16]netip.AddrPort
	sent  map[natKey]bool // what filters let in: from where to which port
}

type natKey struct {
	inside netip.AddrPort
	to     netip.AddrPort // as much of it as the behaviour looks at
}

func (w *wire) newNAT(outer string, mapping, filtering Behavior) *natBox {
	n := &natBox{outer: netip.MustParseAddr(outer), mapping: mapping, filtering: filtering, next: 50000,
		maps: make(map[natKey]uint16), inner: make(map[uint16]netip.AddrPort), sent: make(map[natKey]bool)}
	w.nats[n.outer] = n
	return n
}

func look(b Behavior, to netip.AddrPort) netip.AddrPort {
	switch b {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(to.Addr(), 0)
	}
	return to
}

func (n *natBox) outside(inside, to netip.AddrPort) netip.AddrPort {
	k := natKey{inside, look(n.mapping, to)}
	port, ok := n.maps[k]
	if !ok {
		n.next++
		port = n.next
		n.maps[k], n.inner[port] = port, inside
	}
	n.sent[natKey{inside, look(n.filtering, to)}] = true
	return netip.AddrPortFrom(n.outer, port)
}

// inside returns who gets a packet that comes to an outer address.
func (n *natBox) inside(from, to netip.AddrPort) netip.AddrPort {
	inside := n.inner[to.Port()]
	if from.Addr() == n.outer {
		if !n.hairpin {
			return netip.AddrPort{}
		}
		return inside
	}
	if !n.sent[natKey{inside, look(n.filtering, from)}] {
		return netip.AddrPort{}
	}
	return inside
}
