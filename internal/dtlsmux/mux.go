package dtlsmux

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
)

// A Mux is the DTLS side of one UDP socket. Set the fields, then give it every
// datagram that Is DTLS. Input and Sweep are for one goroutine at a time, the
// rest for any.
type Mux struct {
	// config · set before the first Input

	// GetCertificate returns the certificate to serve. It is asked for every
	// handshake, in a goroutine of its own, so that a new certificate is
	// served without a restart. Necessary.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	NextProtos     []string // ALPN, in our order of preference; nil: none is agreed on
	ClientAuth     tls.ClientAuthType
	ClientCAs      *x509.CertPool // for ClientAuth

	// Send sends a datagram and must not keep it. Called by Input, by Write
	// and Close of a Conn, and by handshakes. Necessary.
	Send func(b []byte, to netip.AddrPort) error

	// Receive gets the plaintext of each record, in the goroutine of Input. b
	// lies in Input's datagram. That is also how the owner learns of a Conn,
	// whose Owner is nil the first time, unless Opened has set it. Necessary.
	Receive func(c *Conn, b []byte)

	// Opened is asked, in a goroutine of its own, whether the Conn that a
	// handshake has made is to be, before anything is received by it. It may
	// set Owner. nil: all are to be.
	Opened func(c *Conn) bool

	// Closed is told, in the goroutine of Input or Sweep, of a Conn that the
	// peer closed, that was idle, or that a new handshake of its address
	// replaced. nil: nobody is told.
	Closed func(c *Conn)

	// Idle says for how long a Conn may go without a valid record; less than 0
	// ends it. It is called by Sweep, for each of them, and must not call the
	// Mux. nil: 15 minutes.
	Idle func(c *Conn) time.Duration

	HandshakeTimeout time.Duration // 0: 10 s
	MaxHandshakes    int           // at a time; 0: 256, some 40 KB each, 27 MB in all at the worst
	MaxPerSource     int           // of these, of one IPv4 address or IPv6 /64; 0: 32
	MaxConns         int           // established and in handshake; 0: 65536
	MTU              int           // of the datagrams of handshakes, bytes; 0: 1200

	Log *slog.Logger // failed handshakes, at debug level; nil: none

	// owned by Input and Sweep
	gate      *gate
	stateless bool // the gate asks for the cookie, not pion
	noGate    bool // for tests: as if pion/dtls were another

	handshakes halfopen.Gate

	mu       sync.Mutex
	peers    map[netip.AddrPort]peer // guarded by mu
	replaced []*Conn                 // guarded by mu; Closed is yet to be told
	closed   bool                    // guarded by mu
}

// A peer is what there is for one address; either may be nil.
type peer struct {
	conn      *Conn
	handshake *handshake
}

// Input takes one datagram from the socket. Records are decrypted in place.
// It does not block.
func (m *Mux) Input(b []byte, from netip.AddrPort) {
	if m.gate == nil {
		m.start()
	}
	m.mu.Lock()
	p := m.peers[from]
	replaced := m.replaced
	m.replaced = nil
	m.mu.Unlock()
	for _, c := range replaced {
		m.ended(c)
	}
	now := time.Now()
	for len(b) > 0 {
		r, rest, ok := cutRecord(b)
		if !ok {
			return
		}
		b = rest
		switch r.epoch {
		case 0:
			m.plain(&r, from, p, now)
		case 1:
			// First the handshake, which takes a copy: a record that a Conn
			// could not open is destroyed. Data waits for no handshake: a
			// client has none to send before it has our Finished.
			if p.handshake != nil && r.typ != typeData {
				p.handshake.Feed(r.raw)
			}
			if p.conn != nil {
				p.conn.input(&r, now)
			}
		}
	}
}

// start is the first Input's.
func (m *Mux) start() {
	m.gate = newGate()
	m.stateless = cookieReachable() && !m.noGate
	m.handshakes.Max = orDefault(m.MaxHandshakes, 256)
	m.handshakes.PerSource = orDefault(m.MaxPerSource, 32)
}

func orDefault(n, d int) int {
	if n <= 0 {
		return d
	}
	return n
}

func (m *Mux) mtu() int { return orDefault(m.MTU, 1200) }

// plain takes a record that is not encrypted: part of a handshake.
func (m *Mux) plain(r *record, from netip.AddrPort, p peer, now time.Time) {
	if body := r.body(); r.typ != typeHandshake || len(body) == 0 || body[0] != msgClientHello {
		if p.handshake != nil && (r.typ == typeHandshake || r.typ == typeChangeCipherSpec || r.typ == typeAlert) {
			p.handshake.Feed(r.raw)
		}
		return
	}
	hello, ok := parseClientHello(r.body())
	if !ok {
		return
	}
	random := [32]byte(hello.random)
	switch {
	case hello.tooOld():
		m.send(m.gate.refuseVersion(r), from)
		return
	case m.stateless && len(hello.cookie) == 0:
		if hello.seq == 0 {
			m.send(m.gate.helloVerify(r, &hello, from, now), from)
		}
		return
	case p.handshake != nil && p.handshake.random == random:
		p.handshake.Feed(r.raw) // again
		return
	case p.conn != nil && p.conn.random == random, // late
		p.handshake != nil && now.Sub(p.handshake.begun) < settled,
		m.stateless && (hello.seq != 1 || !m.gate.check(&hello, from, now)),
		!m.stateless && len(hello.cookie) > 0:
		return
	}
	m.begin(r, &hello, from, now)
}

// begin starts a handshake, in place of one from the same address that is
// still going on. An established Conn stays until it is done (RFC 6347 Section
// 4.2.8).
func (m *Mux) begin(r *record, hello *clientHello, from netip.AddrPort, now time.Time) {
	if !m.handshakes.Enter(from.Addr()) {
		return
	}
	h, err := newHandshake(m, from, r, hello, now)
	if err != nil {
		m.handshakes.Leave(from.Addr())
		m.debug("DTLS handshake not begun", from, err)
		return
	}
	m.mu.Lock()
	p, known := m.peers[from]
	if m.closed || !known && len(m.peers) >= orDefault(m.MaxConns, 65536) {
		m.mu.Unlock()
		m.handshakes.Leave(from.Addr())
		return
	}
	old := p.handshake
	p.handshake = h
	if m.peers == nil {
		m.peers = make(map[netip.AddrPort]peer)
	}
	m.peers[from] = p
	m.mu.Unlock()
	if old != nil {
		old.stop()
	}
	go m.shake(h)
}

// shake runs a handshake to its end.
func (m *Mux) shake(h *handshake) {
	defer m.handshakes.Leave(h.remote.Addr())
	timeout := m.HandshakeTimeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	var final []byte
	c, err := h.run(timeout)
	if err != nil {
		m.debug("DTLS handshake failed", h.remote, err)
	}
	if c != nil && m.Opened != nil && !m.Opened(c) {
		c = nil
	}
	m.mu.Lock()
	p := m.peers[h.remote]
	if p.handshake != h || m.closed { // another one took its place
		if c != nil {
			c.closed.Store(true)
			m.replaced = append(m.replaced, c) // it was opened
		}
		m.mu.Unlock()
		return
	}
	p.handshake = nil
	if c != nil {
		if p.conn != nil && !p.conn.closed.Swap(true) {
			m.replaced = append(m.replaced, p.conn)
		}
		c.last = time.Now()
		p.conn = c
		final = c.final
	}
	m.set(h.remote, p)
	m.mu.Unlock()
	if final != nil { // now that Input finds c, which is Input's from here on
		m.send(final, h.remote)
	}
}

// set stores what there is for an address, or that there is nothing. mu is held.
func (m *Mux) set(a netip.AddrPort, p peer) {
	if p == (peer{}) {
		delete(m.peers, a)
	} else {
		m.peers[a] = p
	}
}

// remove forgets a Conn.
func (m *Mux) remove(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[c.remote]; p.conn == c {
		p.conn = nil
		m.set(c.remote, p)
	}
}

// Sweep ends the Conns that are idle and tells Closed what it has not been told
// yet. It looks at every Conn: every few seconds is often enough.
func (m *Mux) Sweep() {
	now := time.Now()
	m.mu.Lock()
	ended := m.replaced
	m.replaced = nil
	var old []*Conn
	for _, p := range m.peers {
		if p.conn == nil {
			continue
		}
		idle := 15 * time.Minute
		if m.Idle != nil {
			idle = m.Idle(p.conn)
		}
		if now.Sub(p.conn.last) > idle {
			old = append(old, p.conn)
		}
	}
	m.mu.Unlock()
	for _, c := range old {
		if !c.closed.Load() {
			c.Close()
			ended = append(ended, c)
		}
	}
	for _, c := range ended {
		m.ended(c)
	}
}

// Len returns how many Conns there are and how many handshakes go on.
func (m *Mux) Len() (conns, handshakes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.conn != nil {
			conns++
		}
	}
	return conns, m.handshakes.Len()
}

// Close closes every Conn and ends every handshake. Input does nothing more.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	peers := m.peers
	m.peers = nil
	m.mu.Unlock()
	for _, p := range peers {
		if p.handshake != nil {
			p.handshake.stop()
		}
		if p.conn != nil {
			p.conn.Close()
		}
	}
	return nil
}

func (m *Mux) ended(c *Conn) {
	if m.Closed != nil {
		m.Closed(c)
	}
}

// send sends what its receiver will ask for again if it is lost.
func (m *Mux) send(b []byte, to netip.AddrPort) {
	if err := m.Send(b, to); err != nil {
		m.debug("DTLS datagram not sent", to, err)
	}
}

func (m *Mux) debug(msg string, remote netip.AddrPort, err error) {
	if m.Log != nil {
		m.Log.Debug(msg, "remote", remote, "error", err)
	}
}
