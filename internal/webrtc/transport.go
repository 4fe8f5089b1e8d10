package webrtc

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/udp"
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

// A Transport is one UDP port that any number of sessions share. Set its fields
// before ServePacket. All methods are safe for concurrent use.
type Transport struct {
	// Addrs are the addresses under which peers reach the port; empty: the
	// socket's, or those of this machine if that is unspecified.
	Addrs []netip.Addr
	Log   *slog.Logger // nil: slog.Default()

	Timeout     time.Duration // how long a peer may be silent; default 30 s
	Setup       time.Duration // how long it may take to connect; default 15 s
	MaxSessions int           // in all; default 10,000

	mu          sync.Mutex
	closed      bool
	certificate *tls.Certificate
	ports       []*port
	sessions    map[string]*Session // by our ufrags
	count       int                 // of sessions
	done        sync.WaitGroup

	dropped atomic.Uint64
}

// A port is one socket, and the goroutine that reads it.
type port struct {
	transport *Transport
	conn      *udp.Conn
	loop      udp.Loop

	// owned by the loop
	paths   map[netip.AddrPort]*Session // that have proved themselves
	swept   time.Time
	out     []byte                // scratch of answers
	plain   []byte                // scratch of what is decrypted
	publish map[*Session]struct{} // those that receive, which Tick looks after
}

const maxDatagram = 2048

// ServePacket serves a socket until Close, and returns net.ErrClosed then. It
// takes pc over. Several sockets may share one address (SO_REUSEPORT).
func (t *Transport) ServePacket(pc net.PacketConn) error {
	p := &port{
		transport: t, conn: udp.WrapOptions(pc, udp.Options{GRO: true, ReadBuffer: 2 << 20, WriteBuffer: 2 << 20}),
		paths: make(map[netip.AddrPort]*Session), publish: make(map[*Session]struct{}),
		plain: make([]byte, 0, maxDatagram),
	}
	p.loop.Tick = p.tick
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		p.conn.Close()
		return ErrClosed
	}
	if err := p.loop.Add(p.conn, p); err != nil {
		t.mu.Unlock()
		return err
	}
	t.ports = append(t.ports, p)
	t.done.Add(1)
	t.mu.Unlock()
	defer t.done.Done()
	return p.loop.Run()
}

// Close ends all sessions and ServePacket.
func (t *Transport) Close() error {
	t.mu.Lock()
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
		p.loop.Close()
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

// add enters a session whose peer has that ufrag.
func (t *Transport) add(s *Session, theirs string) error {
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
	if t.sessions == nil {
		t.sessions = make(map[string]*Session)
	}
	t.issue(s, theirs)
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

// candidates returns the addresses that an answer names.
func (t *Transport) candidates() (all []netip.AddrPort, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := make(map[netip.AddrPort]bool)
	for _, p := range t.ports {
		at := p.conn.LocalAddr()
		addrs := t.Addrs
		if len(addrs) == 0 {
			if addrs = []netip.Addr{at.Addr()}; at.Addr().IsUnspecified() {
				if addrs, err = machine(at.Addr().Is4()); err != nil {
					return nil, err
				}
			}
		}
		for _, a := range addrs {
			if c := netip.AddrPortFrom(a.Unmap(), at.Port()); !seen[c] {
				seen[c] = true
				all = append(all, c)
			}
		}
	}
	if len(all) == 0 {
		return nil, errNoAddr
	}
	return all, nil
}

// machine returns the addresses of this machine that others may reach, and the
// loopback ones last.
func machine(only4 bool) (all []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("webrtc: %w", err)
	}
	var loopback []netip.Addr
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		switch {
		case !ok || ip.IsLinkLocalUnicast() || only4 && !ip.Is4():
		case ip.IsLoopback():
			loopback = append(loopback, ip)
		default:
			all = append(all, ip)
		}
	}
	return append(all, loopback...), nil
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
				delete(p.paths, from)
				delete(p.publish, s)
			}
		}
		p.transport.expire(p, now)
	}
	if len(p.publish) > 0 {
		return now.Add(tickMedia)
	}
	return now.Add(tickIdle)
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
