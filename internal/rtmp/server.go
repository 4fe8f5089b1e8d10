package rtmp

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// A Handler decides what becomes of the peers of a Server. Its methods are
// called from the connections' goroutines, many at once.
//
// Of an error the peer is told no more than its kind: auth.ErrDenied, an
// *auth.Redirect, and the errors of package stream are known, all others are
// an internal error.
type Handler interface {
	// Publish returns the publisher to which the peer's media goes. The
	// server closes it, and the Session that it has, when the peer is gone.
	// opts has what the server needs to be told of, OnEvict; the rest is the
	// handler's. ctx ends with the publication.
	Publish(ctx context.Context, r *auth.Request, opts stream.PublishOptions) (*stream.Publisher, error)

	// Play plays to the peer until the stream or the peer's wish to see it
	// ends, and then calls ended once. It may return before that: c, which is
	// a stream.QuietConn, needs no goroutine. Until ended is called nothing
	// but Play writes to c. If it is called with an error and c.Accept has not
	// been, the peer is refused for it. If it is called with nil, what was
	// written must end where a message ends: the server then says farewell, so
	// that ended takes its time. ctx ends when the Server is closed.
	Play(ctx context.Context, c stream.PlayConn, r *auth.Request, ended func(error))
}

// A Server accepts RTMP connections, and RTMPS connections from a TLS
// listener. Set its fields before Serve. It may serve several listeners.
type Server struct {
	Handler Handler
	Log     *slog.Logger // nil: slog.Default()

	HandshakeTimeout   time.Duration // for all of TLS's and RTMP's handshake; default 10 s
	FirstPacketTimeout time.Duration // from the handshake to publish or play, and from publish to the first media; default 20 s
	IdleTimeout        time.Duration // between two media messages of a publisher; default 15 s
	WriteTimeout       time.Duration // for what the server itself says; default 10 s

	MaxConns        int // per listener; 0: no bound
	MaxConnsPerAddr int // per listener and IPv4 address or IPv6 /64 network; 0: no bound

	panics atomic.Uint64

	mu        sync.Mutex
	closing   bool
	ctx       context.Context // of handlers; made by the first Serve
	cancel    context.CancelFunc
	listeners map[*listener]struct{}
	conns     map[*conn]connState
	drained   chan struct{} // closed when closing and no connection but players is left
}

type connState uint8

const (
	stateCommand connState = iota // handshake, or between two streams
	statePublish
	statePlay
)

// A listener keeps the counts that the limits are about.
type listener struct {
	net.Listener
	count  int // guarded by Server.mu, as is byAddr
	byAddr map[netip.Addr]int
}

const (
	defaultHandshakeTimeout   = 10 * time.Second
	defaultFirstPacketTimeout = 20 * time.Second
	defaultIdleTimeout        = 15 * time.Second
	defaultWriteTimeout       = 10 * time.Second
)

func (s *Server) handshakeTimeout() time.Duration {
	return cmp.Or(s.HandshakeTimeout, defaultHandshakeTimeout)
}

func (s *Server) firstPacketTimeout() time.Duration {
	return cmp.Or(s.FirstPacketTimeout, defaultFirstPacketTimeout)
}

func (s *Server) idleTimeout() time.Duration { return cmp.Or(s.IdleTimeout, defaultIdleTimeout) }

func (s *Server) writeTimeout() time.Duration { return cmp.Or(s.WriteTimeout, defaultWriteTimeout) }

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// Panics returns how many connections were ended by a panic, which is a bug
// of the handler's or of this package.
func (s *Server) Panics() uint64 { return s.panics.Load() }

// Serve accepts connections from l, and closes it in the end. It returns
// ErrServerClosed after Shutdown or Close, otherwise the error of Accept.
func (s *Server) Serve(l net.Listener) error {
	ln := &listener{Listener: l, byAddr: make(map[netip.Addr]int)}
	if !s.addListener(ln) {
		_ = l.Close()
		return ErrServerClosed
	}
	defer s.removeListener(ln)
	defer l.Close()
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.isClosing() {
				return ErrServerClosed
			}
			if !transient(err) {
				return err
			}
			// Most likely out of file descriptors: some will come free.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log().Error("rtmp: accept failed, will retry", "err", err, "delay", delay)
			time.Sleep(delay)
			continue
		}
		delay = 0
		c := &conn{srv: s, nc: nc, ln: ln, remote: addrPort(nc.RemoteAddr())}
		if !s.addConn(c) {
			_ = nc.Close()
			continue
		}
		go c.run()
	}
}

func transient(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case nil:
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// limitKey returns what MaxConnsPerAddr counts by: whoever has one IPv6
// address has its /64.
func limitKey(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.Addr()
}

func (s *Server) addListener(ln *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.listeners == nil {
		s.listeners = make(map[*listener]struct{})
		s.conns = make(map[*conn]connState)
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) removeListener(ln *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// addConn enters c unless a limit forbids it.
func (s *Server) addConn(c *conn) bool {
	key := limitKey(c.remote.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.MaxConns > 0 && c.ln.count >= s.MaxConns {
		return false
	}
	if s.MaxConnsPerAddr > 0 && c.ln.byAddr[key] >= s.MaxConnsPerAddr && key.IsValid() {
		return false
	}
	s.conns[c] = stateCommand
	c.ln.count++
	c.ln.byAddr[key]++
	return true
}

func (s *Server) removeConn(c *conn) {
	key := limitKey(c.remote.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.ln.count--
	if c.ln.byAddr[key]--; c.ln.byAddr[key] == 0 {
		delete(c.ln.byAddr, key)
	}
	s.checkDrained()
}

// setState notes what c is about to do, and says whether it may: a server
// that is closing lets no connection begin anything.
func (s *Server) setState(c *conn, st connState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[c] = st
	return true
}

// checkDrained tells Shutdown if none but players are left. Called with mu held.
func (s *Server) checkDrained() {
	if s.drained == nil {
		return
	}
	for _, st := range s.conns {
		if st != statePlay {
			return
		}
	}
	close(s.drained)
	s.drained = nil
}

// Shutdown closes the listeners and the connections that neither publish nor
// play, and waits until the publishers have left. Those that are there when
// ctx ends are closed, and Shutdown returns ctx's error. Players are not
// touched: they are the Handler's to end. Serve returns at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c, st := range s.conns {
		if st == stateCommand {
			_ = c.nc.Close()
		}
	}
	drained := make(chan struct{})
	if s.drained != nil {
		drained = s.drained // another Shutdown waits too
	}
	s.drained = drained
	s.checkDrained()
	s.mu.Unlock()

	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c, st := range s.conns {
		if st != statePlay {
			_ = c.nc.Close()
		}
	}
	s.mu.Unlock()
	<-drained // their goroutines end now
	return ctx.Err()
}

// Close closes the listeners and every connection, players' too, and waits for
// nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	if s.cancel != nil {
		s.cancel()
	}
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		_ = c.nc.Close()
	}
	return nil
}

// recovered counts and logs a panic of a connection.
func (s *Server) recovered(c *conn, v any) {
	s.panics.Add(1)
	s.log().Error("rtmp: panic in a connection", "remote", c.remote, "panic", v, "stack", string(debug.Stack()))
}
