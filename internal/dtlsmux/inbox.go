package dtlsmux

import (
	"bytes"
	"net"
	"os"
	"sync"
	"time"
)

// An Inbox is what a connection of pion's reads from while it makes a
// handshake: the half of a net.PacketConn that is the same whoever feeds it.
// What embeds it adds WriteTo.
type Inbox struct {
	From net.Addr // of everything that is read

	mu      sync.Mutex
	wake    sync.Cond // of mu; L is set before it is waited for
	queue   [][]byte  // guarded by mu, and all below
	fed     int
	expired bool // the read deadline is in the past
	closed  bool
}

const (
	maxFed    = 32 << 10 // bytes that a peer may send in one handshake
	maxQueued = 32       // what pion has not read yet
)

// Feed gives pion a copy of a datagram or a record. It is false for what is
// left out: what comes faster than it is read, and all after Close. Who sends
// too much in all is closed.
func (i *Inbox) Feed(b []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.queue) >= maxQueued {
		return false
	}
	if i.fed += len(b); i.fed > maxFed {
		i.closed = true // pion's read fails and with it the handshake
	} else {
		i.queue = append(i.queue, bytes.Clone(b))
	}
	i.wake.Broadcast()
	return !i.closed
}

// ReadFrom is pion's.
func (i *Inbox) ReadFrom(b []byte) (int, net.Addr, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wake.L = &i.mu
	for {
		switch {
		case i.closed:
			return 0, nil, net.ErrClosed
		case i.expired:
			return 0, nil, os.ErrDeadlineExceeded
		case len(i.queue) > 0:
			n := copy(b, i.queue[0])
			i.queue[0] = nil
			i.queue = i.queue[1:]
			return n, i.From, nil
		}
		i.wake.Wait()
	}
}

// Close ends pion's reads.
func (i *Inbox) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.queue = nil
	i.wake.Broadcast()
	return nil
}

// SetReadDeadline knows only no deadline and one in the past, which is how pion
// ends a read.
func (i *Inbox) SetReadDeadline(t time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expired = !t.IsZero() && !t.After(time.Now())
	i.wake.Broadcast()
	return nil
}

// SetDeadline is SetReadDeadline: writes do not block.
func (i *Inbox) SetDeadline(t time.Time) error { return i.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes do not block.
func (i *Inbox) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is not known to a socket of all addresses.
func (i *Inbox) LocalAddr() net.Addr { return &net.UDPAddr{} }
