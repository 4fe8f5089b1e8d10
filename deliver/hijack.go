package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// hijack takes an HTTP/1.1 connection over: net/http's buffers and the depth of
// its stack cost more than the player itself.
func (p *playing) hijack(w http.ResponseWriter, r *http.Request) {
	p.header(w.Header())
	c := takeOver(w)
	if c == nil { // a wrapper that cannot hijack
		p.serveResponse(w, r)
		return
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	w.Header().Write(&b)
	b.WriteString("\r\n")
	h := &hijacked{Conn: c, accept: b.Bytes()}
	go func() {
		defer c.Close()
		p.serve(h.playConn())
	}()
}

// takeOver returns the connection of a response without deadlines, or nil.
func takeOver(w http.ResponseWriter) net.Conn {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	c.SetDeadline(time.Time{})
	return c
}

// hijacked is a stream.PlayConn over HTTP/1.1. What the peer sends is of no
// interest, only that it leaves.
type hijacked struct {
	net.Conn
	accept []byte
}

// tcpConn is a connection that fanout can write to without blocking.
type tcpConn struct {
	playConn
	tcp *net.TCPConn
}

func (c tcpConn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }

func (h *hijacked) playConn() playConn {
	if tcp, ok := h.Conn.(*net.TCPConn); ok {
		return tcpConn{h, tcp}
	}
	return h
}

func (h *hijacked) Accept() []byte {
	b := h.accept
	h.accept = nil
	return b
}

// maxChatter is how much a peer may send that has nothing to say.
const maxChatter = 64 << 10

var errChatter = errors.New("deliver: peer sends while it plays")

func (h *hijacked) ReadControl() (stream.Control, error) {
	return stream.Control{}, discard(h.Conn)
}

// soon is the deadline for a last word.
func soon() time.Time { return time.Now().Add(time.Second) }

// discard reads until the peer leaves, and returns why it ended.
func discard(c net.Conn) error {
	var b [64]byte // small: it is on the stack of every player
	for n := 0; n < maxChatter; {
		k, err := c.Read(b[:])
		if err != nil {
			return err
		}
		n += k
	}
	return errChatter
}

// serveResponse plays over a response that cannot be hijacked: HTTP/2.
func (p *playing) serveResponse(w http.ResponseWriter, r *http.Request) {
	p.header(w.Header())
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &responseConn{w: w, rc: http.NewResponseController(w), ctx: ctx, cancel: cancel}
	p.serve(c)
}

// responseConn is a playConn over a response.
type responseConn struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	ctx    context.Context
	cancel context.CancelFunc
}

func (c *responseConn) Accept() []byte {
	c.w.WriteHeader(http.StatusOK)
	c.rc.Flush()
	return nil
}

func (c *responseConn) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if err == nil {
		err = c.rc.Flush()
	}
	return n, err
}

// SetWriteDeadline does its best: a wrapper may not support it.
func (c *responseConn) SetWriteDeadline(t time.Time) error { return c.rc.SetWriteDeadline(t) }

func (c *responseConn) ReadControl() (stream.Control, error) {
	<-c.ctx.Done()
	return stream.Control{}, io.EOF
}

func (c *responseConn) SetReadDeadline(t time.Time) error {
	if t.Before(time.Now()) {
		c.cancel()
		return nil
	}
	return os.ErrNoDeadline
}
