package deliver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
)

// hijack takes an HTTP/1.1 connection over: net/http's buffers and the depth of
// its stack cost more than the player itself.
func (p *playing) hijack(w http.ResponseWriter, r *http.Request) {
	p.feed.key.header(w.Header())
	c, _ := takeOver(w)
	if c == nil { // a wrapper that cannot hijack
		p.serveResponse(w, r)
		return
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	_ = w.Header().Write(&b)
	b.WriteString("\r\n")
	h := &hijacked{Conn: c, accept: b.Bytes(), heard: chatter{since: time.Now()}}
	pc := h.playConn()
	if fanout.CanHear(pc) {
		p.follow(pc, h.heard.add, c.Close)
		return
	}
	go func() {
		defer p.server.leave(p)
		whole, _ := p.serve(pc)
		hangUp(c, whole)
	}()
}

// takeOver returns the connection of a response without deadlines, or nil, and
// what net/http has read ahead.
func takeOver(w http.ResponseWriter) (net.Conn, *bufio.Reader) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil
	}
	_ = c.SetDeadline(time.Time{})
	return c, rw.Reader
}

// hangUp closes a connection. TLS's farewell takes seconds if the peer does not
// read, and is in place only where the bytes before are whole.
func hangUp(c net.Conn, whole bool) {
	if t, ok := c.(*tls.Conn); ok && !whole {
		c = t.NetConn()
	}
	_ = c.Close()
}

// hijacked is a playConn over HTTP/1.1. What the peer sends is of no interest,
// only that it leaves.
type hijacked struct {
	net.Conn
	accept []byte
	heard  chatter
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

// ReadControl reads until the peer leaves.
func (h *hijacked) ReadControl() (stream.Control, error) {
	var b [64]byte // small: every player has one
	for {
		n, err := h.Read(b[:])
		if err == nil {
			err = h.heard.add(n)
		}
		if err != nil {
			return stream.Control{}, err
		}
	}
}

// chatter counts what a peer sends that has nothing to say.
type chatter struct {
	since time.Time
	n     int
}

const (
	maxChatter  = 64 << 10 // at once
	chatterRate = 1 << 10  // bytes a second for ever: WebSocket pings
)

var errChatter = errors.New("deliver: peer sends while it plays")

func (c *chatter) add(n int) error {
	if c.n += n; c.n > maxChatter && c.n-maxChatter > chatterRate*int(time.Since(c.since)/time.Second) {
		return errChatter
	}
	return nil
}
