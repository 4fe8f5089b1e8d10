package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/rawtcp"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// Serve takes the TCP or TLS clients of a listener, which it owns and closes:
// a *net.TCPListener, a listener of crypto/tls, or one whose connections have a
// ConnectionState method of that kind. Client certificates that crypto/tls has
// verified stand for a password where Auth grants what has no Proof. It blocks
// until the listener fails or the server is closed; the latter is
// ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.hasRelays(l.Addr()); err != nil {
		return err
	}
	if err := s.track(l); err != nil {
		return err
	}
	defer s.untrack(l)
	if addr, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
		defer s.own.addListener(addr)()
	}
	delay := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			s.serving.Go(func() { s.serveStream(nc) })
			continue
		}
		s.mu.Lock()
		over := s.closed
		s.mu.Unlock()
		if over {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) || delay >= time.Second {
			return err
		}
		// Out of file descriptors, mostly: it may pass.
		delay = max(2*delay, 5*time.Millisecond)
		s.log().Warn("turn: accept", "error", err)
		select {
		case <-s.done:
			return ErrServerClosed
		case <-time.After(delay):
		}
	}
}

// A streamConn is a TCP or TLS connection of a client: one for messages, or,
// after ConnectionBind, one for the bytes of a peer.
type streamConn struct {
	path path
	nc   net.Conn
	raw  *rawtcp.Conn // that is written to without blocking; nil: none

	hasAlloc atomic.Bool

	// owned by the reading goroutine
	msg    stunwire.Message
	answer []byte
	bound  *tcpPeer // set by ConnectionBind: the peer to be joined with

	mu      sync.Mutex // guards what follows
	out     []byte     // waits to be sent
	spare   []byte     // the other of two buffers
	writing bool       // somebody is writing, and will take out
	failed  bool
	waits   bool          // it counts to Server.waiting
	over    bool          // serveStream has returned
	room    chan struct{} // capacity 1: told when out was sent
}

const (
	streamBuffer  = 2 << 10                      // to read with, at first
	maxFrame      = 64<<10 + stunwire.HeaderSize // to read, of a client with an allocation
	maxFirstFrame = 8 << 10                      // of others
	maxQueue      = 256 << 10                    // bytes that wait for a slow client; more is dropped
	maxAnswers    = 64 << 10                     // bytes that wait before requests do
	keepBuffer    = 16 << 10                     // a buffer that has grown is given up
	writeTimeout  = 30 * time.Second             // for a client that takes nothing
)

var (
	errSlowClient = errors.New("turn: the client does not read")
	errFrame      = errors.New("turn: neither STUN nor ChannelData")
)

// outboxes are for streams, whose readers need one for as long as a read lasts.
var outboxes = sync.Pool{New: func() any { return new(outbox) }}

func (s *Server) serveStream(nc net.Conn) {
	defer nc.Close()
	if s.track(nc) != nil {
		return
	}
	defer s.untrack(nc)
	nc = rawtcp.Wrap(nc)
	c := &streamConn{nc: nc, room: make(chan struct{}, 1)}
	c.path = path{srv: s, kind: overTCP, stream: c, local: addrPortOf(nc.LocalAddr()), remote: addrPortOf(nc.RemoteAddr())}
	c.path.to = c.path.remote
	defer c.finish()
	if !c.path.remote.IsValid() || !c.enter() || !c.idle() {
		return
	}
	if t, ok := nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(s.base, s.policy.Load().IdleTimeout)
		err := t.HandshakeContext(ctx)
		cancel()
		if err != nil {
			return
		}
	}
	if t, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := t.ConnectionState()
		c.path.kind, c.path.tls, c.path.certified = overTLS, &state, len(state.VerifiedChains) > 0
	}
	c.raw = rawtcp.Find(nc)
	var err error
	if c.path.shard, err = s.streamShard(); err != nil {
		return
	}
	rest, _ := c.read() // why a client has gone matters to nobody
	if c.bound != nil {
		c.bound.join(c, rest)
		return
	}
	if a := c.path.alloc.Load(); a != nil {
		a.lost(&c.path)
	}
	c.mu.Lock()
	c.failed = true
	c.mu.Unlock()
}

func addrPortOf(a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return canonical(ap)
}

// enter counts a new connection as one that waits for its allocation. It reports
// false if too many do.
func (c *streamConn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.path.srv
	if c.waits = s.waiting.Enter(c.path.remote.Addr()); !c.waits {
		s.stats.drop(dropWaiting, 1)
	}
	return c.waits
}

// idle gives a client without an allocation IdleTimeout to make one, or a second
// where its allocation has ended and there is no room to wait for the next. It
// reports whether the connection is still there.
func (c *streamConn) idle() bool {
	s := c.path.srv
	c.hasAlloc.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	limit := s.policy.Load().IdleTimeout
	if !c.waits {
		if c.waits = s.waiting.Enter(c.path.remote.Addr()); !c.waits {
			s.stats.drop(dropWaiting, 1)
			limit = min(limit, time.Second)
		}
	}
	return c.nc.SetReadDeadline(time.Now().Add(limit)) == nil
}

// busy takes the time limit away.
func (c *streamConn) busy() {
	c.hasAlloc.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled()
	_ = c.nc.SetReadDeadline(time.Time{}) // the next read reports what is wrong
}

// settled ends the waiting; mu is held.
func (c *streamConn) settled() {
	if c.waits {
		c.waits = false
		c.path.srv.waiting.Leave(c.path.remote.Addr())
	}
}

// finish is the last that serveStream does.
func (c *streamConn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.settled()
}

// read takes messages until the connection ends, or belongs to a peer; what it
// has read beyond is returned.
func (c *streamConn) read() (rest []byte, err error) {
	buf := make([]byte, 0, streamBuffer)
	for {
		n, err := c.nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			used, need, ferr := c.frames(buf)
			if ferr != nil {
				return nil, ferr
			}
			if c.bound != nil {
				return buf[used:], nil
			}
			left := copy(buf, buf[used:])
			buf = resize(buf[:left], need)
			if err := c.waitForRoom(); err != nil {
				return nil, err
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// resize returns a buffer with what is in buf and room for need bytes in all.
// A large one is used while large reads come.
func resize(buf []byte, need int) []byte {
	switch {
	case need > cap(buf):
		// grows below
	case len(buf) == 0 && cap(buf) > streamBuffer && need <= streamBuffer/2:
		return make([]byte, 0, streamBuffer)
	default:
		return buf
	}
	return append(make([]byte, 0, max(need, streamBuffer)), buf...)
}

// frames takes the whole messages that b begins with. used is how many bytes
// they have, need how large the buffer is to be for what comes next.
func (c *streamConn) frames(b []byte) (used, need int, err error) {
	s := c.path.srv
	now := s.clock()
	policy := s.policy.Load()
	up := outboxes.Get().(*outbox)
	up.stats = &s.stats
	defer func() {
		up.flush()
		up.stats = nil
		outboxes.Put(up)
	}()
	full := len(b) == cap(b)
	for {
		total, size, err := stunwire.FrameSize(b[used:])
		switch {
		case err != nil:
			return used, 0, errFrame
		case !c.hasAlloc.Load() && size > maxFirstFrame:
			return used, 0, errFrame
		case total == 0 || size > len(b)-used:
			if need = size; full && size <= len(b)-used+streamBuffer {
				// More came than fits: read more at a time.
				need = max(need, min(2*cap(b), maxFrame))
			}
			return used, max(need, 1), nil
		}
		frame := b[used : used+total]
		used += size
		if isChannel(frame[0]) {
			if a := c.path.alloc.Load(); a != nil {
				a.fromClient(up, &c.path, policy, &udp.Packet{Data: frame}, now)
			} else {
				s.stats.drop(dropNoAllocation, 1)
			}
			continue
		}
		if c.msg.Parse(frame) != nil {
			return used, 0, errFrame
		}
		if c.msg.Type.Class() == stunwire.Request {
			// It may wait, or be answered: what was to be sent goes first.
			up.flush()
		}
		s.message(&c.path, policy, up, &c.msg, udp.Mark{}, now, c.answer[:0], true)
		if c.bound != nil {
			return used, 0, nil
		}
	}
}

// waitForRoom blocks while answers wait for a client that does not read, so
// that it can't make the server answer more.
func (c *streamConn) waitForRoom() error {
	for {
		c.mu.Lock()
		failed, full := c.failed, len(c.out) > maxAnswers
		c.mu.Unlock()
		switch {
		case failed:
			return errSlowClient
		case !full:
			return nil
		}
		select {
		case <-c.room: // the write times out, if nothing else ends it
		case <-c.path.srv.done:
			return os.ErrClosed
		}
	}
}
