package webrtc

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
	"github.com/runnel-media/runnel/stun"
)

// Errors that callers branch on.
var (
	ErrClosed  = net.ErrClosed
	ErrGone    = errors.New("webrtc: the peer is gone")     // nothing came from it for Transport.Timeout
	ErrHungUp  = errors.New("webrtc: the peer hung up")     // it closed its DTLS association
	ErrNoPath  = errors.New("webrtc: the peer never came")  // no ICE, or no DTLS, within Transport.Setup
	ErrTooMany = errors.New("webrtc: too many sessions")    // of one peer, or in all
	errNoAddr  = errors.New("webrtc: no address to be had") // Serve was not called
)

// A Transport is one UDP port, and perhaps a TCP port, that any number of sessions
// share. Set its fields before ServePacket. All methods are safe for concurrent use.
type Transport struct {
	// Addrs are the addresses under which peers reach the port; empty: the
	// socket's, or those of this machine if that is unspecified.
	Addrs []netip.Addr
	// STUN is the host:port of a server that ServePacket asks, before it
	// serves, under what address the socket is seen from outside; answers name
	// that too. For hosts behind a NAT that keeps the mapping for all peers, as
	// those of clouds do. Empty: none is asked.
	STUN string
	Log  *slog.Logger // nil: slog.Default()

	Timeout     time.Duration // how long a peer may be silent; default 30 s
	Setup       time.Duration // how long it may take to connect; default 15 s
	MaxSessions int           // in all; default 10,000
	// Full has sessions make connectivity checks themselves, to the addresses
	// that their peers name (RFC 8445), for hosts behind a NAT or a firewall that
	// lets in only what was asked for. Else they are ICE-lite, which is right
	// where peers reach the port, and costs less.
	Full bool
	// MaxPerSource is how many sessions one IPv4 address, or IPv6 /64, may
	// have, as Offer.From says; default 500, less than 0: no bound.
	MaxPerSource int

	// Estimate has viewers that can do so tell when each packet came
	// (transport-wide congestion control), so that SendStats.Bandwidth is
	// estimated of all of them. Else it is what those say that estimate it
	// themselves (REMB), which costs less: a viewer reports some ten times a
	// second otherwise.
	Estimate bool
	// Playout, if set, tells viewers for how long to hold pictures back
	// (playout-delay); nil: they decide.
	Playout *Playout

	mu          sync.Mutex
	closed      bool
	certificate *tls.Certificate
	ports       []*port
	opened      chan struct{}       // closed with the first of them
	sessions    map[string]*Session // by our ufrags
	count       int                 // of sessions
	sources     map[netip.Addr]int  // how many sessions each has
	done        sync.WaitGroup

	dropped atomic.Uint64
}

// Playout bounds the delay between a picture's coming and its being shown: from
// 0, for none that can be avoided, to 40 s, in steps of 10 ms.
type Playout struct{ Min, Max time.Duration }

// A port is one UDP socket and the goroutine that reads it, or one TCP port,
// whose connections' goroutines take turns.
type port struct {
	transport *Transport
	conn      *udp.Conn    // nil for TCP
	listener  net.Listener // nil for UDP
	strangers halfopen.Gate
	closed    chan struct{} // with the port
	loop      udp.Loop
	mapped    netip.AddrPort // what STUN says that it is outside; zero: nothing

	// owned by the loop
	paths   map[netip.AddrPort]*Session // that have proved themselves
	swept   time.Time
	out     []byte                     // scratch of answers
	plain   []byte                     // scratch of what is decrypted
	publish map[*Session]struct{}      // those that receive, which Tick looks after
	full    map[*Session]struct{}      // those that make checks
	asked   map[stunwire.TxID]*Session // by the checks that are not answered
	tcp     map[netip.AddrPort]*tcpConn
}

const maxDatagram = 2048

// ServePacket serves a socket until Close, and returns net.ErrClosed then. It
// takes pc over. Several sockets may share one address (SO_REUSEPORT).
func (t *Transport) ServePacket(pc net.PacketConn) error {
	p := newPort(t)
	p.mapped = t.discover(pc)
	p.conn = udp.WrapOptions(pc, udp.Options{GRO: true, ReadBuffer: 2 << 20, WriteBuffer: 2 << 20})
	if err := p.loop.Add(p.conn, p); err != nil {
		return err
	}
	if err := t.open(p); err != nil {
		p.conn.Close()
		return err
	}
	defer t.done.Done()
	return p.loop.Run()
}

// discover asks what a socket's address is outside. Without an answer within a
// few seconds, the addresses that are known have to do.
func (t *Transport) discover(pc net.PacketConn) netip.AddrPort {
	if t.STUN == "" {
		return netip.AddrPort{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	network := "udp"
	if at, ok := pc.LocalAddr().(*net.UDPAddr); ok && at.IP.To4() != nil {
		network = "udp4"
	}
	server, err := net.ResolveUDPAddr(network, t.STUN)
	if err == nil {
		var at netip.AddrPort
		c := &stun.Client{}
		if at, err = c.BindingPacket(ctx, pc, server.AddrPort()); err == nil {
			_ = pc.SetDeadline(time.Time{})
			return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		}
	}
	_ = pc.SetDeadline(time.Time{})
	t.log().Warn("WebRTC: no address from STUN", "server", t.STUN, "error", err)
	return netip.AddrPort{}
}

func newPort(t *Transport) *port {
	p := &port{
		transport: t, paths: make(map[netip.AddrPort]*Session), publish: make(map[*Session]struct{}),
		full: make(map[*Session]struct{}), asked: make(map[stunwire.TxID]*Session),
		plain: make([]byte, 0, maxDatagram), closed: make(chan struct{}),
	}
	p.loop.Tick = p.tick
	return p
}

// open adds a port, whose server is to call t.done.Done.
func (t *Transport) open(p *port) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if t.ports = append(t.ports, p); len(t.ports) == 1 {
		close(t.isOpen())
	}
	t.done.Add(1)
	return nil
}

// isOpen returns what is closed when there is a port. Called with t.mu held.
func (t *Transport) isOpen() chan struct{} {
	if t.opened == nil {
		t.opened = make(chan struct{})
	}
	return t.opened
}

// await waits for the first port, for a host that serves HTTP just before.
func (t *Transport) await(bound time.Duration) {
	t.mu.Lock()
	opened := t.isOpen()
	t.mu.Unlock()
	select {
	case <-opened:
	default:
		select {
		case <-opened:
		case <-time.After(bound):
		}
	}
}

// local returns the port's own address.
func (p *port) local() netip.AddrPort {
	if p.conn != nil {
		return p.conn.LocalAddr()
	}
	if at, err := netip.ParseAddrPort(p.listener.Addr().String()); err == nil {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

// close ends the port, and its connections when what they have to say is said.
func (p *port) close() {
	close(p.closed)
	if p.listener != nil {
		p.listener.Close()
		p.loop.Do(func() {
			for _, c := range p.tcp {
				c.close()
			}
		})
	}
	p.loop.Close()
}

// write sends a datagram to an address of a peer. Called in the loop.
func (p *port) write(b []byte, to netip.AddrPort) {
	if p.conn != nil {
		_ = p.conn.WriteTo(b, to) // lost as on a network
	} else if c := p.tcp[to]; c != nil {
		c.send(b)
	}
}

// Close ends all sessions, ServePacket and Serve.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		t.done.Wait()
		return nil
	}
	t.closed = true
	sessions := make([]*Session, 0, len(t.sessions))
	for _, s := range t.sessions {
		sessions = append(sessions, s)
	}
	ports := t.ports
	t.mu.Unlock()
	for _, s := range sessions {
		s.Close()
	}
	for _, p := range ports {
		p.close()
	}
	t.done.Wait()
	return nil
}

// Dropped returns how many datagrams belonged to no session, or were not what
// they claimed to be.
func (t *Transport) Dropped() uint64 { return t.dropped.Load() }

// Sessions returns how many there are.
func (t *Transport) Sessions() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

func (t *Transport) log() *slog.Logger {
	if t.Log != nil {
		return t.Log
	}
	return slog.Default()
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// identity returns the certificate, which is made with the first session.
func (t *Transport) identity() (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.certificate == nil {
		c, err := newCertificate()
		if err != nil {
			return nil, err
		}
		t.certificate = &c
	}
	return t.certificate, nil
}

// add enters a session whose peer has that ufrag and password.
func (t *Transport) add(s *Session, theirs, password string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case len(t.ports) == 0:
		return errNoAddr
	case t.count >= or(t.MaxSessions, 10_000):
		return ErrTooMany
	}
	if limit := or(t.MaxPerSource, 500); limit > 0 && t.sources[s.source] >= limit && s.source.IsValid() {
		return ErrTooMany
	}
	if t.sources == nil {
		t.sources = make(map[netip.Addr]int)
	}
	t.sources[s.source]++
	if t.sessions == nil {
		t.sessions = make(map[string]*Session)
	}
	t.issue(s, theirs, password)
	t.count++
	s.home = t.ports[0]
	return nil
}

func (t *Transport) remove(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := s.ice.Load(); c != nil; c = c.before {
		delete(t.sessions, c.ours)
	}
	t.count--
	if t.sources[s.source]--; t.sources[s.source] == 0 {
		delete(t.sources, s.source)
	}
}

func (t *Transport) find(ufrag []byte) *Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sessions[string(ufrag)]
}

// secret returns a random text of n bytes' worth, in letters that ICE allows.
func secret(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawStdEncoding.EncodeToString(b)
}

// HandlePackets gets what the socket has read.
func (p *port) HandlePackets(ps []udp.Packet) {
	now := time.Now()
	for i := range ps {
		for d := range ps[i].Datagrams() {
			if !p.handle(d, ps[i].Addr, now) {
				p.transport.dropped.Add(1)
			}
		}
	}
}

// handle deals a datagram out by its first byte (RFC 7983).
func (p *port) handle(d []byte, from netip.AddrPort, now time.Time) bool {
	if len(d) == 0 || len(d) > maxDatagram {
		return false
	}
	switch first := d[0]; {
	case first < 4:
		return p.binding(d, from, now)
	case first >= 20 && first < 64:
		if s := p.paths[from]; s != nil {
			return s.dtls.feed(d)
		}
	case first >= 128 && first < 192:
		if s := p.paths[from]; s != nil {
			return s.media(p, d, now)
		}
	}
	return false
}

const (
	tickMedia = 10 * time.Millisecond // while sessions receive
	tickIdle  = 500 * time.Millisecond
)

// tick asks for what is missing, reports, and lets go of who is silent.
func (p *port) tick(now time.Time) (next time.Time) {
	for s := range p.publish {
		s.tick(now)
	}
	if now.Sub(p.swept) >= tickIdle {
		p.swept = now
		for from, s := range p.paths {
			if s.ended() {
				if c := p.tcp[from]; c != nil {
					c.close()
				}
				delete(p.paths, from)
				delete(p.publish, s)
			}
		}
		p.transport.expire(p, now)
	}
	next = now.Add(tickIdle)
	if len(p.publish) > 0 {
		next = now.Add(tickMedia)
	}
	for s := range p.full {
		switch {
		case s.ended():
			p.unask(s)
		default:
			s.check(p, now)
			if s.path.Load() == nil && len(p.publish) == 0 {
				next = now.Add(checkEvery)
			}
		}
	}
	return next
}

// expire ends the sessions of a port that were not heard of for long.
func (t *Transport) expire(p *port, now time.Time) {
	var late []*Session
	t.mu.Lock()
	for _, s := range t.sessions {
		if s.home == p && s.late(now) != nil {
			late = append(late, s)
		}
	}
	t.mu.Unlock()
	for _, s := range late {
		s.end(s.late(now))
	}
}
