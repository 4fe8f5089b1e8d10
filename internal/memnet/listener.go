package memnet

import (
	"net"
	"net/netip"
	"sync"
)

type listener struct {
	net *Net
	at  netip.AddrPort

	mu     sync.Mutex
	wake   sync.Cond // a connection waits, or closed
	queue  []*conn
	closed bool
}

// offer queues c for Accept. It reports false if l takes no more.
func (l *listener) offer(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) == maxBacklog {
		return false
	}
	l.queue = append(l.queue, c)
	l.wake.Signal()
	return true
}

func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.wake.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return c, nil
}

// Close also closes the connections that nobody has accepted.
func (l *listener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.at] == l {
		delete(l.net.listeners, l.at)
	}
	l.net.mu.Unlock()

	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.closed = true
	queue := l.queue
	l.queue = nil
	l.wake.Broadcast()
	l.mu.Unlock()
	for _, c := range queue {
		c.Close()
	}
	return nil
}

// Addr returns an address that can be dialed: that of a wildcard listener has
// the loopback address in place of the unspecified one.
func (l *listener) Addr() net.Addr {
	if l.at.Addr() == wildcard {
		return addrOf(netip.AddrPortFrom(loopback, l.at.Port()))
	}
	return addrOf(l.at)
}
