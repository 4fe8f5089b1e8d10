// Package oneport serves plain STUN and TURN and the same over TLS on one TCP
// port. The first byte of a connection tells which: a TLS handshake record
// begins with 22, a STUN message with 0 to 3 (RFC 7983). Whatever else comes,
// HTTP for one, is closed without an answer.
package oneport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
	"github.com/runnel-media/runnel/internal/rawtcp"
)

// Options bound what a peer costs until its first byte, and its handshake, are
// there. The zero value has the defaults.
type Options struct {
	// Timeout is for the first byte and the TLS handshake together; 0: 10 s.
	Timeout time.Duration
	// MaxHalfOpen is how many connections may be in that state, in all;
	// 0: 1024. One in a TLS handshake holds 10 to 20 KB, and 100 KB at the
	// worst, if its ClientHello is as long as crypto/tls takes it.
	MaxHalfOpen int
	// MaxPerSource is the same of one IPv4 address or IPv6 /64; 0: 64, since
	// many clients may stand behind one address.
	MaxPerSource int
	// TLSOnly closes connections that begin with STUN, PlainOnly those that
	// begin with TLS.
	TLSOnly, PlainOnly bool

	Log *slog.Logger // what was closed and why, at debug level; nil: none
}

// nextProtos are the ALPN names of TURN and of NAT discovery (RFC 7443).
var nextProtos = []string{"stun.turn", "stun.nat-discovery"}

// Why a connection was closed.
var (
	errProtocol = errors.New("oneport: neither STUN nor TLS")
	errPlain    = errors.New("oneport: plain STUN on a port for TLS")
	errTLS      = errors.New("oneport: TLS on a port for plain STUN")
)

// Listen returns a Listener of what l accepts: a *tls.Conn whose handshake is
// done, or a *Conn of plain bytes. It owns l. Peers that say nothing, or dribble,
// keep nobody waiting; they are bounded by Options.
//
// cfg is copied. Versions before TLS 1.2 are not spoken whatever it says, and
// ALPN is "stun.turn" and "stun.nat-discovery" if it says nothing. A certificate
// that may change belongs in its GetCertificate. nil: no TLS.
func Listen(l net.Listener, cfg *tls.Config, o Options) net.Listener {
	if cfg != nil {
		cfg = cfg.Clone()
		cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
		if cfg.NextProtos == nil {
			cfg.NextProtos = slices.Clone(nextProtos)
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxHalfOpen <= 0 {
		o.MaxHalfOpen = 1024
	}
	if o.MaxPerSource <= 0 {
		o.MaxPerSource = 64
	}
	return &halfopen.Listener{
		Listener: rawtcp.Listen(l),
		Timeout:  o.Timeout,
		Gate:     &halfopen.Gate{Max: o.MaxHalfOpen, PerSource: o.MaxPerSource},
		Open:     func(c net.Conn) (net.Conn, error) { return open(c, cfg, &o) },
		Failed: func(remote net.Addr, err error) {
			if o.Log != nil {
				o.Log.Debug("connection closed before it began", "remote", remote, "error", err)
			}
		},
	}
}

// open reads the first byte and does the TLS handshake if there is to be one,
// until the deadline of c.
func open(c net.Conn, cfg *tls.Config, o *Options) (net.Conn, error) {
	first := &Conn{Conn: c, held: true}
	if _, err := io.ReadFull(c, first.first[:]); err != nil {
		return nil, err
	}
	switch b := first.first[0]; {
	case b == 22: // TLS handshake record
		if cfg == nil || o.PlainOnly {
			return nil, errTLS
		}
		t := tls.Server(first, cfg)
		if err := t.HandshakeContext(context.Background()); err != nil {
			return nil, err
		}
		return t, nil
	case b < 4: // STUN
		if o.TLSOnly {
			return nil, errPlain
		}
		return first, nil
	}
	return nil, errProtocol
}

// A Conn is a connection whose first byte was looked at.
type Conn struct {
	net.Conn
	first [1]byte
	held  bool // first is to be read; owned by Read
}

// NetConn returns the connection itself. The first byte is gone from it until
// Read has returned it.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending side, as net.TCPConn's does.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Read reads from the connection, its first byte included.
func (c *Conn) Read(b []byte) (int, error) {
	if !c.held {
		return c.Conn.Read(b)
	}
	if len(b) == 0 {
		return 0, nil
	}
	c.held = false
	b[0] = c.first[0]
	if len(b) == 1 {
		return 1, nil
	}
	// What came with the first byte, or comes right after it, is read with it:
	// one byte of a message helps nobody. An error will come again.
	n, _ := c.Conn.Read(b[1:])
	return n + 1, nil
}
