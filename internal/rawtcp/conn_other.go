//go:build !linux

package rawtcp

import "net"

// A Conn is a TCP connection of Linux; here there are none.
type Conn struct{ *net.TCPConn }

// Wrap returns c.
func Wrap(c net.Conn) net.Conn { return c }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.TCPConn }

// TryWrite writes nothing.
func (*Conn) TryWrite([]byte) (int, error) { return 0, nil }

// Takes says no.
func (*Conn) Takes(int) bool { return false }
