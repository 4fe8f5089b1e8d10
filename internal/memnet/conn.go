package memnet

import (
	"io"
	"net"
	"net/netip"
	"time"
)

// conn is one end of a connection. Like a *net.TCPConn it also has CloseWrite.
type conn struct {
	net           *Net
	local, remote netip.AddrPort
	in, out       *pipe
}

func (c *conn) LocalAddr() net.Addr  { return addrOf(c.local) }
func (c *conn) RemoteAddr() net.Addr { return addrOf(c.remote) }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write returns once b is in the buffer, which the peer need not have read.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// Close ends both directions. The peer reads what was written before, then
// io.EOF; its writes fail at once.
func (c *conn) Close() error {
	c.net.mu.Lock()
	_, open := c.net.conns[c]
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	if !open {
		return c.wrap("close", net.ErrClosed)
	}
	c.in.closeRead()
	c.out.closeWrite(net.ErrClosed)
	return nil
}

// CloseWrite ends the direction to the peer, which reads io.EOF after what
// was written before.
func (c *conn) CloseWrite() error {
	return c.wrap("close", c.out.closeWrite(errShutdown))
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setReadDeadline(t))
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setWriteDeadline(t))
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
