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
	p.playOver(c, h, func(whole bool, _ error) { hangUp(c, whole) })
}

// playOver plays on a connection that was taken over, and returns at once: the
// request, and all that net/http has of it, can go.
func (p *playing) playOver(c net.Conn, q quietConn, ended func(whole bool, err error)) {
	var pc playConn = q
	if tcp, ok := c.(plainConn); ok { // not TLS's
		pc = tcpConn{q, tcp}
	}
	if fanout.CanHear(pc) {
		p.play(pc, ended)
	} else {
		go p.play(pc, ended)
	}
}

// takeOver returns the connection of a response without deadlines, or nil, and
// what net/http has read ahead.
func takeOver(w http.ResponseWriter) (net.Conn, *bufio.Reader) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil
	}
	_ = c.SetDeadline(time.Time{})
	if again, ok := c.(*resumed); ok && len(again.early) == 0 {
		c = again.Conn
	}
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
	more   bool // the last Read had all that it asked for
}

// tcpConn is a connection that fanout can write to without blocking, and hear.
type tcpConn struct {
	quietConn
	tcp plainConn
}

// plainConn is a socket that is written to as it is: a *net.TCPConn, or one
// that is counted.
type plainConn interface {
	net.Conn
	syscall.Conn
}

func (c tcpConn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }

func (h *hijacked) Accept() []byte {
	b := h.accept
	h.accept = nil
	return b
}

// ReadControl reads what is not to be answered, or that the peer leaves.
func (h *hijacked) ReadControl() (stream.Control, error) {
	var b [64]byte // small: some players wait here
	n, err := h.Read(b[:])
	if err == nil {
		err = h.heard.add(n)
	}
	h.more = n == len(b)
	return stream.Control{}, err
}

// Pending reports whether there may be more to be read.
func (h *hijacked) Pending() bool { return h.more }

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
