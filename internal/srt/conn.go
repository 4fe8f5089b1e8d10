package srt

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A Conn is an SRT connection. It is a net.Conn whose Read gives one payload a
// call; who wants no goroutine for that gives Accept or Dial a sink. Methods may
// be called from many goroutines at once, and from a sink; Write may wait there
// for ever.
type Conn struct {
	e        *Endpoint
	id       uint32
	remote   netip.AddrPort
	streamID string
	caller   callKey // zero: we called
	answer   []byte  // to the caller, to be repeated
	owned    bool    // its endpoint closes with it

	sink  func([][]byte) // called in the loop; it must not keep what it gets
	timer timer          // guarded by the wheel

	mu   sync.Mutex // guards what follows
	core *core

	ended []func(error)
	over  bool
	done  chan struct{}

	in queue // for Read
}

// newConn returns a connection that its endpoint does not know of yet.
func (e *Endpoint) newConn(id uint32, remote netip.AddrPort, sink func([][]byte)) *Conn {
	c := &Conn{e: e, id: id, remote: remote, sink: sink, timer: timer{slot: -1}, done: make(chan struct{})}
	c.in.init()
	if c.sink == nil {
		c.sink = c.in.put
	}
	return c
}

// StreamID returns what the caller asked for.
func (c *Conn) StreamID() string { return c.streamID }

// LocalAddr returns the address of the endpoint's socket.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.e.LocalAddr()) }

// RemoteAddr returns the peer's.
func (c *Conn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.remote) }

// Remote returns the peer's address.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// PushBytes is Push of one slice.
func (c *Conn) PushBytes(b []byte) (int, error) { return c.Push(&[3][]byte{b}) }

// Push sends bufs, one after the other, in packets of 1316 bytes of which the
// last of each may be shorter. It does not block, and keeps the bytes until the
// peer has acknowledged them: they must not change. It returns for how many of
// them there was room; the rest may be tried again later.
func (c *Conn) Push(bufs *[3][]byte) (n int, err error) {
	e := c.e
	o := e.spare.Get().(*outgoing)
	o.to = c.remote
	c.mu.Lock()
	if c.core.gone != nil || c.core.ending != nil {
		err = c.core.gone
		if err == nil {
			err = c.core.ending
		}
		c.mu.Unlock()
		e.spare.Put(o)
		return 0, err
	}
	now := e.now()
	c.core.out = o
	for _, b := range bufs {
		k := c.core.snd.push(now, b)
		n += k
		if k < len(b) {
			break
		}
	}
	c.core.snd.flush(now)
	next := c.core.snd.wake(now)
	o.batch.Flush(e.conn)
	c.mu.Unlock()
	e.spare.Put(o)
	if e.wheel.schedule(c, next) {
		e.loop.Wake()
	}
	return n, nil
}

// Write is Push of a copy, as net.Conn has it. If there is no room it waits.
func (c *Conn) Write(b []byte) (n int, err error) {
	own := append([]byte(nil), b...)
	for {
		k, err := c.PushBytes(own[n:])
		n += k
		if err != nil || n == len(b) {
			return n, err
		}
		select {
		case <-c.done:
		case <-time.After(time.Duration(synInterval) * time.Microsecond):
		}
	}
}

// Read reads one payload, or as much of it as fits into b. At the end of the
// connection it returns io.EOF.
func (c *Conn) Read(b []byte) (int, error) { return c.in.read(b) }

// Close ends the connection: the peer gets what was pushed, and is told. It
// does not wait for that.
func (c *Conn) Close() error {
	c.mu.Lock()
	now := c.e.now()
	c.core.linger(now)
	c.mu.Unlock()
	if c.e.wheel.schedule(c, now) {
		c.e.loop.Wake()
	}
	return nil
}

// Abort ends the connection at once.
func (c *Conn) Abort() {
	c.mu.Lock()
	now := c.e.now()
	c.core.endBy = now
	c.core.end(ErrClosed, now)
	c.mu.Unlock()
	if c.e.wheel.schedule(c, now) {
		c.e.loop.Wake()
	}
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection has ended, nil before.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.gone
}

// OnEnd has f called, in a goroutine of its own, when the connection has ended,
// with ErrClosed, ErrPeerClosed, ErrPeerIdle or ErrServerClosed.
func (c *Conn) OnEnd(f func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		err := c.core.gone
		c.e.tasks.Go(func() { f(err) })
		return
	}
	c.ended = append(c.ended, f)
}

// Stats returns the connection's figures.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.snapshot(c.e.now())
}

// finish tells everybody. It is called in the loop, once.
func (c *Conn) finish() {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over = true
	ended, err := c.ended, c.core.gone
	c.ended = nil
	c.mu.Unlock()
	close(c.done)
	c.in.close()
	for _, f := range ended {
		c.e.tasks.Go(func() { f(err) })
	}
	if c.owned {
		go c.e.Close()
	}
}

// SetDeadline is SetReadDeadline: Write waits for room only, which a peer that
// lives gives.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline bounds Read. A zero time is no bound.
func (c *Conn) SetReadDeadline(t time.Time) error { c.in.deadline(t); return nil }

// SetWriteDeadline does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// A queue holds payloads for Read.
type queue struct {
	mu     sync.Mutex
	list   [][]byte
	closed bool
	until  time.Time
	timer  *time.Timer
	more   *sync.Cond
}

func (q *queue) init() { q.more = sync.NewCond(&q.mu) }

// put takes copies. What nobody reads is lost, as libsrt does it.
func (q *queue) put(due [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range due {
		if len(q.list) >= receiveWindow {
			return
		}
		q.list = append(q.list, append([]byte(nil), p...))
	}
	q.more.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

func (q *queue) deadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.until = t
	if q.timer != nil {
		q.timer.Stop()
	}
	if !t.IsZero() {
		q.timer = time.AfterFunc(time.Until(t), q.more.Broadcast)
	}
	q.more.Broadcast()
}

var errTimeout = errors.Join(os.ErrDeadlineExceeded)

func (q *queue) read(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 {
		switch {
		case !q.until.IsZero() && !time.Now().Before(q.until):
			return 0, errTimeout
		case q.closed:
			return 0, io.EOF
		}
		q.more.Wait()
	}
	n := copy(b, q.list[0])
	q.list[0] = nil
	q.list = q.list[1:]
	return n, nil
}
