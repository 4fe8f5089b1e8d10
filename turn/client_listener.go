package turn

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A Listener is a TCP allocation on a TURN server (RFC 6062). Accept returns
// the connections that peers make to the relayed address, Dial makes
// connections from it. A peer must have been permitted by Permit, or dialed,
// before it can connect. All methods may be used by many goroutines at once.
type Listener struct {
	p        *PacketConn // the allocation; its packets are not used
	attempts chan clientAttempt
}

var _ net.Listener = (*Listener)(nil)

// A clientAttempt is a peer that the server holds for us, for thirty seconds.
type clientAttempt struct {
	id   uint32
	peer netip.AddrPort
}

// maxClientAttempts is how many peers wait for Accept. More are let go of; the
// server closes them.
const maxClientAttempts = 128

func newListener(c *Client) *Listener {
	return &Listener{p: newPacketConn(c, &AllocateOptions{}), attempts: make(chan clientAttempt, maxClientAttempts)}
}

func (l *Listener) handlers() clientHandlers {
	return clientHandlers{attempt: func(id uint32, peer netip.AddrPort) {
		select {
		case l.attempts <- clientAttempt{id, peer}:
		default:
		}
	}}
}

// Addr returns the relayed address, a *net.TCPAddr: where peers connect to.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.p.relayed[0]) }

// Mapped returns the client's own address as the server saw it.
func (l *Listener) Mapped() netip.AddrPort { return l.p.mapped }

// Permit lets peers connect from these addresses. It blocks until the server
// has answered or ctx ends.
func (l *Listener) Permit(ctx context.Context, peers ...netip.Addr) error {
	return l.p.Permit(ctx, peers...)
}

// Close gives the allocation back and closes the Listener and, at the server's
// side, all connections of it.
func (l *Listener) Close() error { return l.p.Close() }

// Accept waits for a peer to connect and returns its connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		select {
		case <-l.p.done:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: l.p.failed()}
		case a := <-l.attempts:
			ctx, cancel := context.WithTimeout(l.p.background, clientBindTime)
			c, err := l.bind(ctx, a.id, a.peer)
			cancel()
			if err == nil {
				return c, nil
			}
			l.p.client.log().Debug("turn client: peer was lost", "peer", a.peer, "err", err)
		}
	}
}

// clientBindTime is how long the server holds a connection for us, RFC 6062
// Section 5.3.
const clientBindTime = 30 * time.Second

// Dial makes a connection from the relayed address to the peer. The error is
// an *Error with the code 447 if the peer can't be reached.
func (l *Listener) Dial(ctx context.Context, peer netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.p.background, cancel)()
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	reply, err := l.p.session.Load().do(ctx, stunwire.Connect, func(b *stunwire.Builder) {
		b.AddXORAddr(stunwire.AttrXORPeerAddress, peer)
	})
	if err != nil {
		return nil, err
	}
	id, ok := reply.Uint32(stunwire.AttrConnectionID)
	if !ok {
		return nil, ErrProtocol
	}
	return l.bind(ctx, id, peer)
}

// bind makes a connection to the server and binds it to a peer's.
func (l *Listener) bind(ctx context.Context, id uint32, peer netip.AddrPort) (net.Conn, error) {
	control := l.p.session.Load()
	conn, _, err := l.p.client.dial(ctx, control.target)
	if err != nil {
		return nil, err
	}
	s := &clientSession{client: l.p.client, target: control.target, conn: conn, handlers: clientHandlers{}}
	s.auth.Store(control.auth.Load().inherit())
	r := bufio.NewReader(conn)
	s.init()
	go func() { s.close(s.readUntilSuccess(r)) }()
	_, err = s.do(ctx, stunwire.ConnectionBind, func(b *stunwire.Builder) {
		b.AddUint32(stunwire.AttrConnectionID, id)
	})
	if err != nil {
		s.close(err)
		conn.Close()
		return nil, err
	}
	<-s.done // the reader has left the connection to us
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, err
	}
	return &clientStream{Conn: conn, r: r, local: l.Addr(), peer: net.TCPAddrFromAddrPort(peer)}, nil
}

// A clientStream is a connection with a peer.
type clientStream struct {
	net.Conn
	local, peer net.Addr

	mu sync.Mutex
	r  *bufio.Reader // what came with the answer that bound it; nil once that is read
}

func (c *clientStream) LocalAddr() net.Addr  { return c.local }
func (c *clientStream) RemoteAddr() net.Addr { return c.peer }

func (c *clientStream) Read(b []byte) (int, error) {
	c.mu.Lock()
	if c.r != nil {
		if c.r.Buffered() > 0 {
			defer c.mu.Unlock()
			return c.r.Read(b)
		}
		c.r = nil
	}
	c.mu.Unlock()
	return c.Conn.Read(b)
}

// CloseWrite ends the sending side, as net.TCPConn's does.
func (c *clientStream) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// readUntilSuccess reads responses up to the one that binds, and leaves what
// follows it.
func (s *clientSession) readUntilSuccess(r *bufio.Reader) error {
	for {
		frame, _, err := readClientFrame(r, nil)
		if err != nil {
			return err
		}
		if s.handle(frame) {
			return errClientBound
		}
	}
}
