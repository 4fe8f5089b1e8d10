package webrtc

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
)

// Bounds of a TCP connection.
const (
	// maxUnsent is how much may wait for a peer that reads slowly. What comes
	// beyond it is lost, as on a network, and asked for again.
	maxUnsent = 256 << 10
	// maxStrangers is how many connections of one source may not have proved
	// yet that they belong to a session, and maxAllStrangers of all.
	maxStrangers    = 32
	maxAllStrangers = 1024
)

// Serve takes ICE over TCP (RFC 6544) until Close, and returns net.ErrClosed
// then: for peers whose network lets no UDP through. It takes l over. Answers
// name its address, after those of UDP.
func (t *Transport) Serve(l net.Listener) error {
	p := newPort(t)
	p.listener, p.tcp = l, make(map[netip.AddrPort]*tcpConn)
	p.strangers.Max, p.strangers.PerSource = maxAllStrangers, maxStrangers
	if err := t.open(p); err != nil {
		l.Close()
		return err
	}
	defer t.done.Done()
	t.done.Add(1)
	go func() {
		defer t.done.Done()
		p.accept()
	}()
	return p.loop.Run()
}

// accept takes connections until the listener is closed.
func (p *port) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil { // no descriptors: it will pass, or Close comes
			select {
			case <-p.closed:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		from := halfopen.AddrOf(conn.RemoteAddr())
		at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err != nil || !p.strangers.Enter(from) {
			conn.Close()
			continue
		}
		c := newTCPConn(conn, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		c.source, c.stranger = from, true
		p.loop.Do(func() {
			select {
			case <-p.closed:
				c.close()
			default:
			}
			p.tcp[c.from] = c
		})
		p.transport.done.Add(2)
		go p.read(c)
		go func() {
			defer p.transport.done.Done()
			c.write(or(p.transport.Timeout, 30*time.Second))
		}()
	}
}

// A tcpConn is a TCP connection with datagrams in frames (RFC 4571).
type tcpConn struct {
	conn     net.Conn
	from     netip.AddrPort
	source   netip.Addr
	stranger bool // it has not proved itself; owned by the loop

	mu     sync.Mutex
	wake   *sync.Cond
	unsent []byte // frames
	closed bool
}

func newTCPConn(conn net.Conn, from netip.AddrPort) *tcpConn {
	c := &tcpConn{conn: conn, from: from}
	c.wake = sync.NewCond(&c.mu)
	return c
}

// send queues a datagram. It does not block and does not keep b.
func (c *tcpConn) send(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.unsent)+2+len(b) > maxUnsent {
		return
	}
	c.unsent = binary.BigEndian.AppendUint16(c.unsent, uint16(len(b)))
	c.unsent = append(c.unsent, b...)
	c.wake.Signal()
}

// write sends what is queued, until close and then what is left, or until the
// peer has taken nothing for so long.
func (c *tcpConn) write(timeout time.Duration) {
	defer c.conn.Close()
	var batch []byte
	for {
		c.mu.Lock()
		for len(c.unsent) == 0 && !c.closed {
			c.wake.Wait()
		}
		batch, c.unsent = c.unsent, batch[:0]
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		_ = c.conn.SetWriteDeadline(time.Now().Add(timeout))
		if _, err := c.conn.Write(batch); err != nil {
			c.close()
			return
		}
	}
}

// close ends the connection when what is queued has been sent.
func (c *tcpConn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wake.Signal()
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
}

// read takes frames until the connection's end. Who sends one that is too long,
// or does not prove within Setup that he belongs to a session, is cut off.
func (p *port) read(c *tcpConn) {
	t := p.transport
	defer t.done.Done()
	defer p.loop.Do(func() {
		delete(p.tcp, c.from)
		delete(p.paths, c.from)
		if c.stranger {
			p.strangers.Leave(c.source)
		}
	})
	defer c.close()
	buf := make([]byte, maxDatagram)
	_ = c.conn.SetReadDeadline(time.Now().Add(or(t.Setup, 15*time.Second)))
	for {
		if _, err := io.ReadFull(c.conn, buf[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf))
		if n > len(buf) {
			return
		}
		if _, err := io.ReadFull(c.conn, buf[:n]); err != nil {
			return
		}
		admitted := false
		p.loop.Do(func() {
			if !p.handle(buf[:n], c.from, time.Now()) {
				t.dropped.Add(1)
			}
			if c.stranger && p.paths[c.from] != nil {
				c.stranger = false
				p.strangers.Leave(c.source)
				admitted = true
			}
		})
		if admitted {
			c.mu.Lock()
			if !c.closed {
				_ = c.conn.SetReadDeadline(time.Time{}) // the session's own timeout counts
			}
			c.mu.Unlock()
		}
	}
}
