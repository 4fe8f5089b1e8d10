package stun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// ErrMuxClosed is what a Mux's Serve returns after Close. It is net.ErrClosed.
var ErrMuxClosed = fmt.Errorf("stun: mux: %w", net.ErrClosed)

// A Packet is one datagram and who sent it.
type Packet struct {
	Data []byte
	From netip.AddrPort // never IPv4-mapped
}

// A Handler gets packets that follow each other. It runs in the goroutine that
// reads the socket: what takes long belongs elsewhere. The slice and the data
// are the Mux's again when it returns. With several sockets it runs in several
// goroutines at once.
type Handler func(ps []Packet)

// A Mux deals out the packets of a UDP socket, or of several with one address
// (SO_REUSEPORT): by their first byte to protocols (RFC 7983), and to the
// sessions of ICE, whose Binding requests name them (RFC 8445) and whose other
// packets come from addresses that they have taken.
//
// A packet goes to the first of these that there is:
//
//  1. a Binding request: the session whose user name fragment it names;
//  2. any other STUN message but Binding's, and ChannelData: TURN's, see STUN
//     and Channel;
//  3. the session that has taken its address;
//  4. the handler of its kind.
//
// What nobody takes is dropped and counted. The handlers must not change once
// Serve is called; nil ones take nothing. The methods may be called from many
// goroutines, handlers included.
type Mux struct {
	STUN    Handler // first byte 0 to 3, and well-formed
	Channel Handler // 64 to 79: TURN channels
	DTLS    Handler // 20 to 63
	Media   Handler // 128 to 191: RTP, RTCP and their secured kinds
	Other   Handler // the rest

	mu       sync.RWMutex // guards the following
	closed   bool
	sockets  []*udp.Conn
	sessions map[string]*Session // by local user name fragment
	addrs    map[netip.AddrPort]*Session
	running  sync.WaitGroup

	dropped atomic.Uint64
}

const (
	muxBatch   = 8  // of 64 KB: the system may hand over many datagrams as one
	muxPackets = 64 // what handlers get at once, at most
)

// Serve reads a socket until Close. It owns pc and closes it. What is sent
// goes through the first socket that is served.
func (m *Mux) Serve(pc net.PacketConn) error {
	c := udp.WrapOptions(pc, udp.Options{GRO: true})
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		c.Close()
		return ErrMuxClosed
	}
	m.sockets = append(m.sockets, c)
	m.running.Add(1)
	m.mu.Unlock()
	defer m.running.Done()
	err := m.read(c)
	c.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.sockets {
		if m.sockets[i] == c {
			m.sockets = append(m.sockets[:i:i], m.sockets[i+1:]...)
			break
		}
	}
	if m.closed {
		return ErrMuxClosed
	}
	return err
}

func (m *Mux) read(c *udp.Conn) error {
	batch := make([]udp.Packet, muxBatch)
	rooms := make([][]byte, muxBatch)
	for i := range rooms {
		rooms[i] = make([]byte, 1<<16)
	}
	packets := make([]Packet, 0, muxPackets)
	failed := 0
	for {
		for i := range batch {
			batch[i] = udp.Packet{Data: rooms[i]}
		}
		n, err := c.ReadBatch(batch)
		if err != nil {
			if failed++; errors.Is(err, net.ErrClosed) || failed > 16 {
				return fmt.Errorf("stun: %w", err)
			}
			time.Sleep(time.Duration(failed) * time.Millisecond) // Windows reports here that what was sent did not arrive
			continue
		}
		failed = 0
		for i := range batch[:n] {
			for d := range batch[i].Datagrams() {
				if len(packets) == cap(packets) {
					m.dispatch(packets)
					packets = packets[:0]
				}
				packets = append(packets, Packet{Data: d, From: batch[i].Addr})
			}
		}
		m.dispatch(packets)
		packets = packets[:0]
	}
}

// dispatch hands over runs of packets that have the same handler. It looks
// each run up anew, since a handler may take the address of what follows.
func (m *Mux) dispatch(ps []Packet) {
	for len(ps) > 0 {
		m.mu.RLock()
		to, n := m.target(&ps[0]), 1
		for n < len(ps) && m.target(&ps[n]) == to {
			n++
		}
		m.mu.RUnlock()
		if h := m.handler(to); h != nil {
			h(ps[:n:n])
		} else {
			m.dropped.Add(uint64(n))
		}
		ps = ps[n:]
	}
}

// A kind is a protocol by the first byte of its packets.
type kind uint8

const (
	kindNone kind = iota // malformed STUN
	kindSTUN
	kindChannel
	kindDTLS
	kindMedia
	kindOther
)

// kindOf is RFC 7983 Section 7.
func kindOf(b []byte) kind {
	if len(b) == 0 {
		return kindNone
	}
	switch c := b[0]; {
	case c <= 3:
		if !stunwire.Is(b) {
			return kindNone
		}
		return kindSTUN
	case c >= 20 && c <= 63:
		return kindDTLS
	case c >= 64 && c <= 79:
		return kindChannel
	case c >= 128 && c <= 191:
		return kindMedia
	}
	return kindOther
}

// A target is where a packet goes: a session, or else the handler of a kind.
type target struct {
	session *Session
	kind    kind
}

// target is called with mu held for reading.
func (m *Mux) target(p *Packet) target {
	k := kindOf(p.Data)
	switch k {
	case kindNone:
		return target{}
	case kindSTUN:
		typ := stunwire.Type(p.Data[0])<<8 | stunwire.Type(p.Data[1])
		if typ.Method() != stunwire.Binding {
			return target{kind: k}
		}
		if typ.Class() == stunwire.Request && len(m.sessions) > 0 {
			if s := m.named(p.Data); s != nil {
				return target{session: s}
			}
		}
	case kindChannel:
		if m.Channel != nil {
			return target{kind: k}
		}
	}
	if s := m.addrs[p.From]; s != nil {
		return target{session: s}
	}
	return target{kind: k}
}

// named returns the session that a Binding request is for: its USERNAME is
// the receiver's fragment, a colon and the sender's.
func (m *Mux) named(b []byte) *Session {
	var w stunwire.Message
	if w.Parse(b) != nil {
		return nil
	}
	user, _ := w.Get(stunwire.AttrUsername)
	for i, c := range user {
		if c == ':' {
			return m.sessions[string(user[:i])] // does not allocate
		}
	}
	return nil
}

func (m *Mux) handler(t target) Handler {
	if t.session != nil {
		return t.session.handle
	}
	switch t.kind {
	case kindSTUN:
		return m.STUN
	case kindChannel:
		return m.Channel
	case kindDTLS:
		return m.DTLS
	case kindMedia:
		return m.Media
	case kindOther:
		return m.Other
	}
	return nil
}

// WriteTo sends a datagram. It does not wait: a full send buffer is an error.
func (m *Mux) WriteTo(b []byte, to netip.AddrPort) error {
	m.mu.RLock()
	var c *udp.Conn
	if len(m.sockets) > 0 {
		c = m.sockets[0]
	}
	m.mu.RUnlock()
	if c == nil {
		return ErrMuxClosed
	}
	return c.WriteTo(b, to)
}

// LocalAddr returns the address of the socket; zero before Serve and after
// Close.
func (m *Mux) LocalAddr() netip.AddrPort {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.sockets) == 0 {
		return netip.AddrPort{}
	}
	return m.sockets[0].LocalAddr()
}

// Dropped is how many packets nobody took.
func (m *Mux) Dropped() uint64 { return m.dropped.Load() }

// Close closes the sockets and the sessions, and waits for the Serve calls.
// Handlers must not call it.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	for _, c := range m.sockets {
		c.Close()
	}
	sessions := m.sessions
	m.sessions, m.addrs = nil, nil
	m.mu.Unlock()
	for _, s := range sessions {
		s.Close()
	}
	m.running.Wait()
	return nil
}
