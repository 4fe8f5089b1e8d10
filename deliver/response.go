package deliver

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// serveResponse plays over a response that cannot be hijacked: HTTP/2.
func (p *playing) serveResponse(w http.ResponseWriter, r *http.Request) {
	defer p.server.leave(p)
	p.feed.key.header(w.Header())
	c := &responseConn{w: w, rc: http.NewResponseController(w), gone: r.Context().Done(), ended: make(chan struct{})}
	c.timer = time.AfterFunc(time.Hour, c.expire)
	c.timer.Stop()
	whole, err := p.serve(c)
	c.timer.Stop()
	if err != nil || !whole {
		panic(http.ErrAbortHandler) // or the peer would take it for the stream's end
	}
}

// responseConn is a playConn over a response.
type responseConn struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	gone <-chan struct{} // the peer is

	once  sync.Once
	ended chan struct{} // the player is

	// timer is the write deadline. That of an HTTP/2 response is no good for
	// it: it resets the stream even if nothing is being written by then.
	timer   *time.Timer
	expired atomic.Bool
}

func (c *responseConn) expire() {
	c.expired.Store(true)
	_ = c.rc.SetWriteDeadline(past)
}

// Accept sends the header. It also lifts the bounds that the host's server has
// for a request and its answer.
func (c *responseConn) Accept() []byte {
	_ = c.rc.SetReadDeadline(time.Time{})
	_ = c.rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	c.w.WriteHeader(http.StatusOK)
	_ = c.rc.Flush()
	_ = c.rc.SetWriteDeadline(time.Time{})
	return nil
}

func (c *responseConn) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if err == nil {
		err = c.rc.Flush()
	}
	c.timer.Stop()
	return n, err
}

// SetWriteDeadline bounds the next Write, or, being in the past, ends the one
// under way. A wrapper of the response may not support it.
func (c *responseConn) SetWriteDeadline(t time.Time) error {
	switch d := time.Until(t); {
	case t.IsZero():
		c.timer.Stop()
	case d <= 0:
		return c.rc.SetWriteDeadline(t)
	default:
		c.timer.Reset(d)
	}
	return nil
}

func (c *responseConn) ReadControl() (stream.Control, error) {
	select {
	case <-c.ended:
	case <-c.gone:
		if c.expired.Load() {
			<-c.ended // it is we who cut it off, and soon we say why
		}
	}
	return stream.Control{}, io.EOF
}

// SetReadDeadline ends ReadControl: the only deadline that is asked for is past.
func (c *responseConn) SetReadDeadline(time.Time) error {
	c.once.Do(func() { close(c.ended) })
	return nil
}
