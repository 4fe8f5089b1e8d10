package limit

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
)

// Connect admits a connection from a, or says which bound is reached, with an
// *Error. It is for protocols that have no net.Listener. release is to be
// called when the connection ends.
func (l *Limiter) Connect(a netip.Addr) (release func(), err error) {
	if err := l.connect(a); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { l.disconnect(a) }), nil
}

func (l *Limiter) connect(a netip.Addr) error {
	err, told := l.tryConnect(a.Unmap(), l.CurrentPolicy(), time.Now())
	l.tell(told)
	return err
}

func (l *Limiter) tryConnect(a netip.Addr, p *Policy, now time.Time) (error, *Trip) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.source(a, now)
	bound := s != nil && !l.exempt(p, a)
	refuse := func(r Reason) (error, *Trip) {
		l.forget(a, s, now)
		return l.trip(Trip{Reason: r, Addr: a}, now)
	}
	switch {
	case bound && p.ConnsPerAddr > 0 && s.conns >= p.ConnsPerAddr:
		return refuse(ConnsPerAddr)
	case bound && !s.rate.ready(p.ConnRatePerAddr, now):
		return refuse(ConnRatePerAddr)
	case p.Conns > 0 && l.conns >= p.Conns:
		return refuse(Conns)
	case !l.connRate.take(p.ConnRate, now):
		return refuse(ConnRate)
	}
	if bound {
		s.rate.take(p.ConnRatePerAddr, now)
	}
	if s != nil {
		s.conns++
	}
	l.conns++
	return nil, nil
}

func (l *Limiter) disconnect(a netip.Addr) {
	a = a.Unmap()
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns--
	if s := l.source(a, now); s != nil {
		s.conns--
		l.forget(a, s, now)
	}
}

// Listen returns a Listener of those connections that ln accepts and the
// Limiter admits, counted until they are closed. Others are closed unread; no
// goroutine is started for them. It belongs below TLS, and above what finds out
// the peer's address, as a reader of PROXY headers does.
func (l *Limiter) Listen(ln net.Listener) net.Listener { return &listener{ln, l} }

type listener struct {
	net.Listener
	limiter *Limiter
}

// Accept returns the next connection that is admitted.
func (ln *listener) Accept() (net.Conn, error) {
	for {
		c, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a := halfopen.AddrOf(c.RemoteAddr())
		if ln.limiter.connect(a) == nil {
			return ln.limiter.count(c, a), nil
		}
		_ = c.Close()
	}
}

// count wraps a connection that was admitted.
func (l *Limiter) count(c net.Conn, a netip.Addr) net.Conn {
	n := &counted{limiter: l, addr: a}
	if d := l.CurrentPolicy().FirstByte; d > 0 {
		n.timer = time.AfterFunc(d, func() { n.silence(c) })
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		return &tcpConn{tcp, n}
	}
	return &otherConn{c, n}
}

// counted is what is known of a connection.
type counted struct {
	limiter *Limiter
	addr    netip.Addr
	timer   *time.Timer // of the first byte; nil: there is no bound
	spoken  atomic.Bool // the peer has
	closed  atomic.Bool
}

// silence ends a connection whose peer has said nothing.
func (n *counted) silence(c net.Conn) {
	if n.spoken.Swap(true) || n.closed.Load() {
		return
	}
	_ = c.Close()
	n.limiter.mu.Lock()
	_, told := n.limiter.trip(Trip{Reason: FirstByte, Addr: n.addr}, time.Now())
	n.limiter.mu.Unlock()
	n.limiter.tell(told)
}

func (n *counted) heard(bytes int) {
	if n.timer != nil && bytes > 0 && !n.spoken.Load() && !n.spoken.Swap(true) {
		n.timer.Stop()
	}
}

func (n *counted) over() {
	if !n.closed.Swap(true) {
		if n.timer != nil {
			n.timer.Stop()
		}
		n.limiter.disconnect(n.addr)
	}
}

// A tcpConn is a TCP connection with all that it can do.
type tcpConn struct {
	*net.TCPConn
	counted *counted
}

// Read reads from the connection.
func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.counted.heard(n)
	return n, err
}

// Close closes the connection.
func (c *tcpConn) Close() error {
	err := c.TCPConn.Close()
	c.counted.over()
	return err
}

// NetConn returns the connection below.
func (c *tcpConn) NetConn() net.Conn { return c.TCPConn }

// An otherConn is any other connection.
type otherConn struct {
	net.Conn
	counted *counted
}

// Read reads from the connection.
func (c *otherConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.counted.heard(n)
	return n, err
}

// Close closes the connection.
func (c *otherConn) Close() error {
	err := c.Conn.Close()
	c.counted.over()
	return err
}

// NetConn returns the connection below.
func (c *otherConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending side, where there is one by itself.
func (c *otherConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
