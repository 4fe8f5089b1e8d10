package ingest

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/stream"
)

// An srtPlayConn is a player over SRT. Until Accept there is no connection, only
// a caller who waits for an answer.
type srtPlayConn struct {
	port *srtPort
	call *srt.Call
	req  *auth.Request

	mu       sync.Mutex
	accepted bool
	conn     *srt.Conn     // nil if it could not be made
	over     chan struct{} // closed at its end, and by a read deadline that is past
	closed   bool
}

func (p *srtPort) play(c *srt.Call, req *auth.Request) {
	pc := &srtPlayConn{port: p, call: c, req: req, over: make(chan struct{})}
	(&rtmpHandler{p.Server, p.players}).Play(c.Context(), pc, req, pc.ended)
}

// Accept answers the caller. There is nothing that goes before the media.
func (p *srtPlayConn) Accept() []byte {
	conn, err := p.call.Accept(func([][]byte) {}) // players have nothing to say
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted = true
	if err == nil {
		p.conn = conn
		p.port.enter(&srtPeer{p.req, false, conn})
		conn.OnEnd(func(error) { p.interrupt() })
	}
	return nil
}

// ended is called when the play has ended, or was refused.
func (p *srtPlayConn) ended(err error) {
	p.mu.Lock()
	accepted, conn := p.accepted, p.conn
	p.mu.Unlock()
	log := p.port.log().With("stream", p.req.Stream, "remote", p.req.Remote)
	switch {
	case !accepted:
		log.Info("ingest: refused over SRT", "err", err)
		p.call.Reject(srtReason(p.call, p.req, err))
	case conn == nil:
	case err == nil:
		_ = conn.Close()
	default:
		conn.Abort()
	}
	if accepted {
		log.Debug("ingest: SRT player left", "err", err)
	}
}

// connection returns the connection, nil if there is none.
func (p *srtPlayConn) connection() *srt.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// Push sends bytes without a copy; see fanout.Pusher.
func (p *srtPlayConn) Push(bufs *[3][]byte) (int, error) {
	if c := p.connection(); c != nil {
		return c.Push(bufs)
	}
	return 0, net.ErrClosed
}

// OnEnd has f called when the peer has left.
func (p *srtPlayConn) OnEnd(f func(error)) {
	if c := p.connection(); c != nil {
		c.OnEnd(f)
	} else {
		go f(net.ErrClosed)
	}
}

func (p *srtPlayConn) Write(b []byte) (int, error) {
	if c := p.connection(); c != nil {
		return c.Write(b)
	}
	return 0, net.ErrClosed
}

// ReadControl waits for the peer to leave: SRT players say nothing.
func (p *srtPlayConn) ReadControl() (stream.Control, error) {
	<-p.over
	return stream.Control{}, io.EOF
}

func (p *srtPlayConn) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.over)
	}
}

func (p *srtPlayConn) Read([]byte) (int, error) { return 0, io.EOF }

func (p *srtPlayConn) Close() error {
	p.interrupt()
	if c := p.connection(); c != nil {
		return c.Close()
	}
	return nil
}

func (p *srtPlayConn) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(p.port.engine.LocalAddr())
}

func (p *srtPlayConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(p.req.Remote) }

// SetReadDeadline ends ReadControl if t is past, as those who play use it.
func (p *srtPlayConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		p.interrupt()
	}
	return nil
}

func (p *srtPlayConn) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *srtPlayConn) SetWriteDeadline(time.Time) error { return nil }
