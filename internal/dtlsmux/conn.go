package dtlsmux

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Conn is an established DTLS association. It has no goroutine and no buffer.
type Conn struct {
	// Owner is for whoever owns the Conn, in the goroutine of Input.
	Owner any

	mux    *Mux
	remote netip.AddrPort
	random [32]byte // of the client, which tells a late ClientHello from a new one
	suite  uint16
	alpn   string
	certs  [][]byte // DER

	// sending · any goroutine
	out    half
	seq    atomic.Uint64 // the next record's
	closed atomic.Bool

	// receiving · owned by Input and Sweep
	in      half
	window  window
	last    time.Time // when a valid record came
	final   []byte    // the end of the handshake, until the client has shown that it got it
	scratch [scratchLen]byte
}

// RemoteAddr returns the client's address as it was given to Input.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// ConnectionState returns what the handshake agreed on. Version is 0xfefd, DTLS
// 1.2. PeerCertificates are those that the client proved to own; they were
// verified if Mux.ClientAuth asks for that.
func (c *Conn) ConnectionState() tls.ConnectionState {
	s := tls.ConnectionState{
		Version: version12, HandshakeComplete: true,
		CipherSuite: c.suite, NegotiatedProtocol: c.alpn,
	}
	for _, der := range c.certs {
		if cert, err := x509.ParseCertificate(der); err == nil {
			s.PeerCertificates = append(s.PeerCertificates, cert)
		}
	}
	return s
}

// Append appends one record to dst, for datagrams that the caller sends itself,
// by the batch. Its payload is the parts, one after the other; they must not
// lie in dst. The record is Overhead bytes longer than the payload; where dst
// has Spare bytes of capacity beyond it, nothing is allocated. net.ErrClosed
// after Close. For any goroutine.
func (c *Conn) Append(dst []byte, parts ...[]byte) ([]byte, error) {
	if c.closed.Load() {
		return dst, net.ErrClosed
	}
	return c.append(dst, typeData, parts...)
}

func (c *Conn) append(dst []byte, typ byte, parts ...[]byte) ([]byte, error) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > maxPlain {
		return dst, errTooLong
	}
	seq := c.seq.Add(1) - 1
	if seq > lastSeq {
		return dst, errExhausted
	}
	return c.out.seal(dst, typ, seq, n, parts), nil
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Write sends payload as one record in a datagram of its own. For any
// goroutine.
func (c *Conn) Write(payload []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if err := c.send(typeData, payload); err != nil {
		return 0, err
	}
	return len(payload), nil
}

func (c *Conn) send(typ byte, payload []byte) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b, err := c.append((*buf)[:0], typ, payload)
	if err != nil {
		return err
	}
	*buf = b
	return c.mux.Send(b, c.remote)
}

// Close tells the client and forgets the association. Mux.Closed is not called.
// For any goroutine.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.mux.remove(c)
	return c.send(typeAlert, []byte{1, 0}) // warning, close_notify
}

// input takes an encrypted record. What is not authentic, or came before, is
// dropped without a word.
func (c *Conn) input(r *record, now time.Time) {
	if r.raw[2] != version12&0xff || !c.window.fresh(r.seq) {
		return
	}
	plain, ok := c.in.open(r, &c.scratch)
	if !ok {
		return
	}
	c.window.mark(r.seq)
	c.last = now
	switch r.typ {
	case typeData:
		c.final = nil
		if !c.closed.Load() {
			c.mux.Receive(c, plain)
		}
	case typeHandshake:
		if len(plain) > 0 && plain[0] == msgFinished && c.final != nil {
			c.mux.Send(c.final, c.remote) // it did not get ours; an error is as good as a loss
		}
	case typeAlert:
		// close_notify, or a fatal one; warnings mean nothing to us
		if len(plain) == 2 && (plain[0] == 2 || plain[1] == 0) && !c.closed.Swap(true) {
			c.mux.remove(c)
			c.send(typeAlert, []byte{1, 0}) // RFC 5246 Section 7.2.1; it may be lost
			c.mux.ended(c)
		}
	}
}
