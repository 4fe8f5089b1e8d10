package turn

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// joinBuffer is what is read at once of a connection that is joined with
// another. Nothing else is kept: who does not read stops who writes.
const joinBuffer = 16 << 10

var joinBuffers = sync.Pool{New: func() any { b := make([]byte, joinBuffer); return &b }}

// join carries bytes between a client's connection and its peer until both
// ways have ended, or either connection fails. first is what the client has
// sent already.
func (p *tcpPeer) join(c *streamConn, first []byte) {
	defer p.end()
	if !c.settle() {
		return
	}
	a := p.relay.alloc
	var ways sync.WaitGroup
	ways.Go(func() {
		if len(first) > 0 && p.pass(a, p.conn, first, toPeer) != nil {
			_ = c.nc.Close()
			_ = p.conn.Close()
			return
		}
		p.carry(a, p.conn, c.nc, toPeer)
	})
	p.carry(a, c.nc, p.conn, toClient)
	ways.Wait()
}

// settle waits until the answer to ConnectionBind is sent: what follows it is
// the peer's.
func (c *streamConn) settle() bool {
	for {
		c.mu.Lock()
		failed, done := c.failed, len(c.out) == 0 && !c.writing
		c.mu.Unlock()
		if failed || done {
			return done && !failed
		}
		select {
		case <-c.room:
		case <-time.After(time.Millisecond):
		case <-c.path.srv.done:
			return false
		}
	}
}

// carry copies one way, and ends the writing side as the reading side has
// ended: by a half-close, or for good.
func (p *tcpPeer) carry(a *Allocation, dst, src net.Conn, d direction) {
	buf := joinBuffers.Get().(*[]byte)
	defer joinBuffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if werr := p.pass(a, dst, (*buf)[:n], d); werr != nil {
				break
			}
		}
		if err == nil {
			continue
		}
		if closer, ok := dst.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) && closer.CloseWrite() == nil {
			return
		}
		break
	}
	_ = src.Close()
	_ = dst.Close()
}

// pass writes to one side what the other has sent, as soon as the bandwidth
// allows it, and if the rules of the moment still allow the peer.
func (p *tcpPeer) pass(a *Allocation, dst net.Conn, b []byte, d direction) error {
	policy := a.srv.policy.Load()
	if g := a.generation(policy); p.judged.Load() != g {
		if err := a.judge(policy, p.addr, false); err != nil {
			a.mu.Lock()
			a.drop(dropPeerDenied, 1)
			a.mu.Unlock()
			return err
		}
		p.judged.Store(g)
	}
	for !a.lease.allow(d, len(b), a.srv.clock()) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.relay.base.Done():
			return net.ErrClosed
		}
	}
	from, to := &a.usage.FromClient, &a.usage.ToPeer
	if d == toClient {
		from, to = &a.usage.FromPeer, &a.usage.ToClient
	}
	a.mu.Lock()
	from.count(len(b))
	a.mu.Unlock()
	if _, err := dst.Write(b); err != nil {
		return err
	}
	a.mu.Lock()
	to.count(len(b))
	a.mu.Unlock()
	return nil
}
