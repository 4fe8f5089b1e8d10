package proxyproto

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
	"github.com/runnel-media/runnel/internal/rawtcp"
)

// Options say how Listen treats connections. The zero value trusts nobody.
type Options struct {
	// Trusted are the proxies. Their connections have to begin with a header;
	// those of anybody else are handed out as they are, since a header from
	// them would be forged.
	Trusted []netip.Prefix
	Timeout time.Duration // for the header; 0: 5 s
	MaxOpen int           // connections whose header is awaited; 0: 1024
	// Failed is told why a connection was not handed out; nil: nobody is.
	Failed func(remote net.Addr, err error)
}

// Trusts reports whether a is one of the proxies.
func (o *Options) Trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range o.Trusted {
		if bits := p.Bits() - 96; p.Addr().Is4In6() && bits >= 0 {
			p = netip.PrefixFrom(p.Addr().Unmap(), bits)
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Listen returns a Listener whose connections have the addresses that trusted
// proxies say they have. Headers are read beside the accept loop: a proxy that
// is slow to send one keeps nobody waiting. It owns l.
func Listen(l net.Listener, o Options) net.Listener {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = 1024
	}
	return &halfopen.Listener{
		Listener: rawtcp.Listen(l),
		Timeout:  o.Timeout,
		Gate:     &halfopen.Gate{Max: o.MaxOpen}, // of a few proxies: no bound by source
		Failed:   o.Failed,
		Open: func(c net.Conn) (net.Conn, error) {
			if !o.Trusts(halfopen.AddrOf(c.RemoteAddr())) {
				return c, nil
			}
			return open(c)
		},
	}
}

// open reads the header of c.
func open(c net.Conn) (net.Conn, error) {
	// Bytes are looked at before they are taken, so that what follows the
	// header stays in r, and r no larger than a header may be.
	r := bufio.NewReaderSize(c, maxV2)
	for want := 1; ; {
		b, err := r.Peek(want)
		if err != nil {
			return nil, errors.Join(ErrShort, err)
		}
		b, _ = r.Peek(r.Buffered())
		h, n, err := Parse(b)
		switch {
		case err == ErrShort && len(b) < maxV2:
			want = len(b) + 1
			continue
		case err != nil:
			return nil, err
		}
		rest := append([]byte(nil), b[n:]...)
		if h.Local {
			return &Conn{Conn: c, rest: rest}, nil
		}
		return &Conn{Conn: c, rest: rest, src: net.TCPAddrFromAddrPort(h.Src), dst: net.TCPAddrFromAddrPort(h.Dst)}, nil
	}
}

// A Conn is a connection that came through a proxy.
type Conn struct {
	net.Conn
	rest     []byte // came in with the header; owned by Read
	src, dst *net.TCPAddr
}

// RemoteAddr returns the address of the client, if the proxy said it.
func (c *Conn) RemoteAddr() net.Addr {
	if c.src == nil {
		return c.Conn.RemoteAddr()
	}
	return c.src
}

// LocalAddr returns the address that the client connected to, if the proxy said it.
func (c *Conn) LocalAddr() net.Addr {
	if c.dst == nil {
		return c.Conn.LocalAddr()
	}
	return c.dst
}

// NetConn returns the connection with the proxy. What was read ahead of it is
// lost to who reads from it.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending side, as net.TCPConn's does.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Read reads from the connection, after the header.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		if len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}
