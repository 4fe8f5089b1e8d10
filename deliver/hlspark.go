package deliver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
)

// A parked request is a reload that waits, without what net/http has of a
// connection as long as a handler runs: two buffers and two goroutines, four
// times as much as is left.
type parked struct {
	net.Conn
	server *http.Server
	early  []byte // what the peer has sent that belongs to the next request

	header http.Header
	status int
	sent   bool // the answer, as a whole
}

// maxEarly bounds what a peer may send while it waits.
const maxEarly = 4 << 10

// park takes the connection of a reload from its http.Server, which gets it back
// when the reload is answered, and reports whether it has. Who has no http.Server
// behind it, or something in between that cannot let go of the connection, waits
// in its handler.
func (a *answer) park(v *hlsViewer, run *hlsRun, r hls.Rendition, d hls.Directives) bool {
	server, _ := a.r.Context().Value(http.ServerContextKey).(*http.Server)
	plain := a.r.ProtoMajor == 1 && a.r.ProtoMinor == 1 && a.r.TLS == nil && !a.r.Close && a.r.ContentLength == 0
	if server == nil || !plain || a.s.HLS.NoHijack || !a.s.hls.enterParked() {
		return false
	}
	c, ahead := takeOver(a.w)
	if c == nil {
		a.s.hls.parked.Done()
		return false
	}
	early, _ := ahead.Peek(ahead.Buffered())
	h := &parked{Conn: c, server: server, early: bytes.Clone(early), header: a.w.Header()}
	v.active.Add(1) // beyond the handler
	// Its context ends with the handler.
	a = &answer{s: a.s, w: h, r: a.r.WithContext(context.WithoutCancel(a.r.Context())), rc: http.NewResponseController(h), req: a.req}
	go func() {
		if err := h.wait(a, run.pack, r, d); err == errLeft {
			_ = h.Close()
		} else {
			h.finish(a, v, run, r, d, err)
		}
		v.end()
		a.s.hls.parked.Done()
	}()
	return true
}

// enterParked counts a parked request, unless there are to be no more.
func (t *hlsTable) enterParked() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.closed {
		t.parked.Add(1)
	}
	return !t.closed
}

var errLeft = errors.New("deliver: peer left while it waited")

// wait waits until the reload can be answered. It is in Read all the time, so as to
// notice that the peer has left, until a deadline ends that.
//
//go:noinline
func (h *parked) wait(a *answer, pack *hls.Packager, r hls.Rendition, d hls.Directives) error {
	_ = h.SetReadDeadline(time.Now().Add(pack.Patience()))
	woken := make(chan struct{})
	w, err := pack.Await(r, d, a.req.Remote.Addr(), func() {
		_ = h.SetReadDeadline(past)
		close(woken)
	})
	if w == nil {
		return err
	}
	err = h.listen()
	late := w.Stop()
	if !late {
		<-woken // or that deadline would be for what comes
	}
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return errLeft
	case late:
		return hls.ErrTimeout
	}
	return nil
}

// listen reads until it fails.
func (h *parked) listen() error {
	var b [64]byte // small: this is where all of them wait
	for {
		n, err := h.Read(b[:])
		if err != nil {
			return err
		}
		if h.early = append(h.early, b[:n]...); len(h.early) > maxEarly {
			return errChatter
		}
	}
}

// finish answers the reload, and gives the connection back.
//
//go:noinline
func (h *parked) finish(a *answer, v *hlsViewer, run *hlsRun, r hls.Rendition, d hls.Directives, err error) {
	if err == nil {
		err = a.reload(v, run, r, d)
	}
	if err != nil {
		a.refuse(err)
	}
	if !h.sent {
		h.send(nil)
	}
	if !h.sent {
		_ = h.Close()
		return
	}
	c := h.Conn
	_ = c.SetDeadline(time.Time{})
	if len(h.early) > 0 {
		c = &resumed{c, h.early}
	}
	_ = h.server.Serve(&returned{c, c.LocalAddr()}) // returns when it has accepted the connection, or closed it
}

// Header implements http.ResponseWriter.
func (h *parked) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *parked) WriteHeader(status int) { h.status = status }

// Write implements http.ResponseWriter: all of the body comes at once.
func (h *parked) Write(b []byte) (int, error) {
	if h.sent {
		return 0, http.ErrContentLength
	}
	if h.header.Get("Content-Length") == "" {
		h.header.Set("Content-Length", strconv.Itoa(len(b)))
	}
	h.send(b)
	return len(b), nil
}

// send writes the answer.
func (h *parked) send(body []byte) {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(h.status) + " " + http.StatusText(h.status) + "\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	_ = h.header.Write(&b)
	b.WriteString("\r\n")
	_, err := (&net.Buffers{b.Bytes(), body}).WriteTo(h.Conn)
	h.sent = err == nil
}

// returned is a listener whose only connection is one that was taken from its
// server.
type returned struct {
	conn net.Conn // nil: accepted
	addr net.Addr
}

func (l *returned) Accept() (net.Conn, error) {
	c := l.conn
	if c == nil {
		return nil, net.ErrClosed
	}
	l.conn = nil
	return c, nil
}

func (l *returned) Close() error {
	if l.conn == nil {
		return nil
	}
	return l.conn.Close()
}

func (l *returned) Addr() net.Addr { return l.addr }

// A resumed connection is one of which something was read already.
type resumed struct {
	net.Conn
	early []byte
}

func (c *resumed) Read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	c.early = c.early[n:]
	return n, nil
}
