package srt

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/udp"
)

// An Endpoint is a UDP socket that SRT connections share. Set its fields before
// Serve; methods may be called from many goroutines at once.
type Endpoint struct {
	// Handler decides on callers. It is called in a goroutine of its own and
	// must call Accept or Reject of the Call. nil refuses everybody.
	Handler func(*Call)
	Log     *slog.Logger // nil: none

	// Latency is how long what comes is held so that it can be repaired, and
	// how long peers are asked to hold what they get, at least: the larger
	// wish of both ends counts. Default 120 ms; negative: none.
	Latency time.Duration
	// PeerIdle is how long a peer may be silent. Default 5 s.
	PeerIdle time.Duration
	// Filter is a packet filter that connections are to have, as
	// "fec,cols:10,rows:5". A caller's own is taken if this is "".
	Filter string
	// What connections may send; see libsrt's SRTO_MAXBW, SRTO_INPUTBW and
	// SRTO_OHEADBW. Bytes a second; the zero value is libsrt's -1.
	MaxBW, InputBW int64
	Overhead       int  // percent; default 25
	Relative       bool // MaxBW is InputBW, or what is measured, with Overhead on top
	// KeyRefresh is how many packets a key is used for. Default 2^24.
	KeyRefresh uint64
	// MaxConns bounds the connections; 0: no bound. MaxPending those that the
	// Handler has not decided on; default 256.
	MaxConns, MaxPending int

	begin sync.Once
	epoch time.Time
	ctx   context.Context
	stop  context.CancelFunc
	loop  udp.Loop
	conn  *udp.Conn // set by Serve before ready is closed
	ready chan struct{}
	wheel wheel
	spare sync.Pool      // *outgoing, for those who send outside of the loop
	tasks sync.WaitGroup // calls of Handler and of what OnEnd was given

	// Owned by the loop.
	conns  map[uint32]*Conn
	calls  map[callKey]*Call // that are not decided on
	made   map[callKey]*Conn // accepted, by the caller's id
	dials  map[uint32]*dialing
	free   buffers
	out    outgoing
	secret [32]byte // of cookies
	tight  micros   // until when it does not rest
	came   int      // datagrams since counted
	since  micros
	perSec int // datagrams
	holds  int // datagrams that may come in a rest

	mu     sync.Mutex
	closed bool
}

// A callKey tells callers apart.
type callKey struct {
	remote netip.AddrPort
	id     uint32
}

// outgoing is the batch of a goroutine that sends, as an outbox to one peer.
type outgoing struct {
	batch udp.Batch
	to    netip.AddrPort
}

func (o *outgoing) scratch(n int) []byte     { return o.batch.Scratch(n) }
func (o *outgoing) packet(head, data []byte) { o.batch.Add(o.to, udp.Mark{}, head, data) }

func (e *Endpoint) init() {
	e.begin.Do(func() {
		e.epoch = time.Now()
		e.ctx, e.stop = context.WithCancel(context.Background())
		e.ready = make(chan struct{})
		e.conns = make(map[uint32]*Conn)
		e.calls = make(map[callKey]*Call)
		e.made = make(map[callKey]*Conn)
		e.dials = make(map[uint32]*dialing)
		e.spare.New = func() any { return new(outgoing) }
		e.loop.Flush = func() { e.out.batch.Flush(e.conn) }
		e.loop.Tick = e.tick
		e.loop.Rest = e.rest
		_, _ = rand.Read(e.secret[:])
		if e.Log == nil {
			e.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		}
	})
}

// kernelBuffer is what the socket may hold while the process is busy: libsrt
// asks for less, and loses.
const kernelBuffer = 8 << 20

// Serve reads from pc, which it takes over, until Close, and waits for what it
// has called. It returns ErrServerClosed then, and what ended it else.
func (e *Endpoint) Serve(pc net.PacketConn) error {
	e.init()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		_ = pc.Close()
		return ErrServerClosed
	}
	if e.conn != nil {
		e.mu.Unlock()
		_ = pc.Close()
		return errors.New("srt: Serve of an endpoint that serves")
	}
	e.conn = udp.WrapOptions(pc, udp.Options{GRO: true, ReadBuffer: kernelBuffer, WriteBuffer: kernelBuffer})
	e.holds = e.conn.ReadBuffer() / restPacket / restFill
	e.mu.Unlock()
	if err := e.loop.Add(e.conn, udp.HandlerFunc(e.handle)); err != nil {
		_ = e.conn.Close()
		return err
	}
	close(e.ready)
	err := e.loop.Run()
	e.finishAll()
	e.tasks.Wait()
	if errors.Is(err, net.ErrClosed) {
		return ErrServerClosed
	}
	return err
}

// Read has what comes to another socket handled in the endpoint's goroutine,
// between its own packets, so that both wake up together: where what comes goes
// on over SRT that halves the price. h must not block. It closes c in the end,
// and must be called before Serve.
func (e *Endpoint) Read(c *udp.Conn, h udp.Handler) error {
	e.init()
	return e.loop.Add(c, udp.HandlerFunc(func(ps []udp.Packet) {
		for i := range ps {
			e.came += ps[i].Len()
		}
		h.HandlePackets(ps)
	}))
}

// LocalAddr returns the address of the socket, once Serve runs.
func (e *Endpoint) LocalAddr() netip.AddrPort {
	e.init()
	select {
	case <-e.ready:
		return e.conn.LocalAddr()
	case <-e.ctx.Done():
		return netip.AddrPort{}
	}
}

// Close ends the connections at once, tells their peers, and closes the socket.
func (e *Endpoint) Close() error {
	e.init()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	conn := e.conn
	e.mu.Unlock()
	e.stop()
	if conn == nil {
		return nil
	}
	e.loop.Do(func() {
		now := e.now()
		for _, c := range e.conns {
			c.mu.Lock()
			e.out.to = c.remote
			c.core.out = &e.out
			c.core.shutdown(now)
			c.mu.Unlock()
		}
	})
	return e.loop.Close()
}

// finishAll ends what is left when the loop has ended.
func (e *Endpoint) finishAll() {
	e.stop()
	for _, c := range e.conns {
		c.mu.Lock()
		if c.core.gone == nil {
			c.core.gone = ErrServerClosed
		}
		c.mu.Unlock()
		e.finish(c)
	}
}

func (e *Endpoint) now() micros { return micros(time.Since(e.epoch) / time.Microsecond) }

// handle is the loop's: it sorts what came by connection.
func (e *Endpoint) handle(ps []udp.Packet) {
	now := e.now()
	var c *Conn
	for i := range ps {
		p := &ps[i]
		e.came += p.Len()
		for b := range p.Datagrams() {
			id, ok := destination(b)
			switch {
			case !ok:
			case id == 0:
				e.handshake(now, p.Addr, b)
			case c != nil && c.id == id && c.remote == p.Addr:
				c.core.input(now, b)
			default:
				if c != nil {
					e.settle(c, now)
					c = nil
				}
				if next := e.conns[id]; next != nil && next.remote == p.Addr {
					if isHandshake(b) {
						continue // the answer to a caller, once more
					}
					c = next
					c.mu.Lock()
					e.out.to = c.remote
					c.core.out = &e.out
					c.core.input(now, b)
				} else if d := e.dials[id]; d != nil && d.remote == p.Addr {
					d.take(now, b)
				}
			}
		}
	}
	if c != nil {
		e.settle(c, now)
	}
}

func isHandshake(b []byte) bool { return be.Uint32(b)>>16 == 0x8000|uint32(typeHandshake) }

// settle is called with c.mu held, after something came for it or when it was
// time. It unlocks.
func (e *Endpoint) settle(c *Conn, now micros) {
	next := c.core.tick(now)
	if c.core.rcv.missing > 0 || c.core.snd.losses > 0 || c.core.snd.next != c.core.snd.end {
		e.tight = now + second/2
	}
	due := c.core.rcv.due
	gone := c.core.gone != nil
	c.mu.Unlock()
	if len(due) > 0 {
		c.sink(due)
		for i, p := range due {
			e.free.put(p)
			due[i] = nil
		}
		c.mu.Lock()
		c.core.rcv.due = due[:0]
		c.mu.Unlock()
	}
	if gone {
		e.finish(c)
		return
	}
	if e.wheel.schedule(c, next) {
		e.loop.Wake()
	}
}

// tick is the loop's: it serves the connections whose time has come.
func (e *Endpoint) tick(time.Time) time.Time {
	now := e.now()
	for c := e.wheel.expired(now); c != nil; c = e.wheel.expired(now) {
		c.mu.Lock()
		e.out.to = c.remote
		c.core.out = &e.out
		e.settle(c, now)
	}
	next := e.wheel.next(now)
	if next == never {
		return time.Time{}
	}
	return e.epoch.Add(time.Duration(next) * time.Microsecond)
}

const (
	// restShare is the share of the latency that what comes may wait in the
	// kernel, and maxRest how long at most.
	restShare = 6
	maxRest   = 2 * grid
	// restPacket is what a packet takes of the socket's buffer, at most, and
	// restFill the share of it that is to be full after a rest.
	restPacket = 4352
	restFill   = 2
)

// rest is the loop's. Where nothing is lost it does not matter whether a packet
// is looked at now or a little later: it is held for the latency anyway, and
// acknowledged each 10 or 20 ms. To be woken for each costs ten times as much as all
// that is done with it.
func (e *Endpoint) rest() time.Duration {
	now := e.now()
	if d := now - e.since; d >= second/10 {
		e.perSec = int(int64(e.came) * int64(second) / int64(d))
		e.came, e.since = 0, now
	}
	if now < e.tight || len(e.dials) > 0 || len(e.calls) > 0 || len(e.conns) == 0 {
		return 0
	}
	longest := e.terms().recvLatency / restShare
	if e.perSec > 0 {
		longest = min(longest, micros(e.holds)*second/micros(e.perSec))
	}
	step := maxRest
	for step > longest {
		step /= 2
	}
	if step < 2*millisecond || micros(e.perSec)*step < 2*second {
		return 0 // it would not be worth it
	}
	// To when connections are served anyway: to wake up once does for both.
	d := step - now%step
	if d < millisecond {
		d += step
	}
	return time.Duration(d) * time.Microsecond
}

// add makes a connection known. It is called in the loop.
func (e *Endpoint) add(c *Conn, now micros) {
	e.conns[c.id] = c
	if e.wheel.schedule(c, now+synInterval) {
		e.loop.Wake()
	}
}

// finish forgets a connection that has ended. It is called in the loop.
func (e *Endpoint) finish(c *Conn) {
	if e.conns[c.id] == c {
		delete(e.conns, c.id)
	}
	if e.made[c.caller] == c {
		delete(e.made, c.caller)
	}
	e.wheel.remove(c)
	c.finish()
}

// newID returns a socket id that nobody has.
func (e *Endpoint) newID() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		id := be.Uint32(b[:]) & 0x3fffffff
		if id != 0 && e.conns[id] == nil && e.dials[id] == nil {
			return id
		}
	}
}
