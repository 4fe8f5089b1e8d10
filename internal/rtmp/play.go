package rtmp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// play hands the connection to the handler. It runs in a goroutine of its own.
//
// Where the handler keeps that goroutine it waits in ReadControl nearly all its
// life, one for each player, so what is on its stack then is kept small: what
// this function and ReadControl do before and after is in functions that are not
// inlined. Stacks that need less than about 1200 bytes shrink to 4 KB, others
// keep 8.
func (c *conn) play(r *auth.Request) {
	var p *playConn
	defer c.playFailed(&p)
	var pc stream.PlayConn
	if pc, p = c.playConn(); p != nil {
		p.name = r.Stream // so that r can go
		c.srv.Handler.Play(c.srv.ctx, pc, r, p.played)
	} else {
		c.close()
	}
}

// playFailed is deferred by play.
func (c *conn) playFailed(p **playConn) {
	v := recover()
	if v == nil {
		return
	}
	c.srv.recovered(c, v)
	if *p != nil {
		(*p).once.Do(c.close)
	}
}

// playConn readies the connection for its handler. The second result is nil if
// the connection is lost.
//
//go:noinline
func (c *conn) playConn() (stream.PlayConn, *playConn) {
	// No deadlines: a player need say nothing for hours, and what is sent to
	// it is watched by who sends it.
	if c.nc.SetDeadline(time.Time{}) != nil {
		return nil, nil
	}
	c.rd.resize(playBuffer)
	p := &playConn{Conn: c.nc, c: c}
	if tcp, ok := c.nc.(syscall.Conn); ok { // not TLS's
		return &tcpPlayConn{p, tcp}, p
	}
	return p, p
}

// played ends the play, which the handler ended with err.
func (p *playConn) played(err error) {
	p.once.Do(func() {
		again := false
		defer func() {
			if v := recover(); v != nil {
				p.c.srv.recovered(p.c, v)
				again = false
			}
			if again {
				go p.c.run()
			} else {
				p.c.close()
			}
		}()
		again = p.farewell(err)
	})
}

// farewell tells the peer what became of the play. It reports whether the
// connection may be used again.
func (p *playConn) farewell(err error) (again bool) {
	p.stop()
	switch {
	case err != nil && !p.accepted.Load() && !p.left && !p.gone:
		err = p.c.refuse(auth.Play, err)
	case err == nil && p.left:
		again = true
	case err == nil && !p.gone:
		b := appendEvent(nil, eventStreamEOF, streamID)
		b = appendStatus(b, streamID, playGone)
		p.c.farewell(appendStatus(b, streamID, playStop))
	}
	p.c.srv.log().Debug("rtmp: player left", "stream", p.name, "remote", p.c.remote, "err", err)
	return again
}

// A playConn is a playing connection as its Handler sees it.
type playConn struct {
	net.Conn // Write goes to the socket as it is
	c        *conn
	name     string // of the stream
	accepted atomic.Bool
	once     sync.Once // the play's end

	mu      sync.Mutex // held by ReadControl
	left    bool       // the peer ended the play
	gone    bool       // the peer cannot be read from any more
	stopped bool       // the connection is the server's again
}

// A tcpPlayConn is a playConn over plain TCP.
type tcpPlayConn struct {
	*playConn
	tcp syscall.Conn
}

// SyscallConn returns the socket.
func (p *tcpPlayConn) SyscallConn() (syscall.RawConn, error) { return p.tcp.SyscallConn() }

// Accept returns what tells the peer that media follows.
func (p *playConn) Accept() []byte {
	p.accepted.Store(true)
	b := appendEvent(nil, eventStreamBegin, streamID)
	b = appendStatus(b, streamID, playReset)
	return appendStatus(b, streamID, playStart)
	// Flash's |RtmpSampleAccess is left out: ffmpeg takes it for metadata.
}

// ReadControl reads the peer's next message.
func (p *playConn) ReadControl() (ctl stream.Control, err error) {
	p.mu.Lock()
	if err = p.wait(); err == nil {
		ctl, err = p.control()
	}
	p.mu.Unlock()
	return ctl, err
}

// Pending reports whether there is something to be read in the buffer.
func (p *playConn) Pending() bool { return p.c.rd.end > p.c.rd.pos }

// wait blocks until there is something to be read.
func (p *playConn) wait() error {
	if p.stopped || p.left {
		return io.EOF
	}
	if p.Pending() {
		return nil
	}
	return p.failed(p.c.rd.fill())
}

// failed notes whether an error of the reader means that the peer is gone. A
// deadline does not: it is how a handler wakes itself.
func (p *playConn) failed(err error) error {
	p.gone = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	return err
}

// control reads one message. It returns a zero Control if that concerns nobody.
//
//go:noinline
func (p *playConn) control() (stream.Control, error) {
	m, err := p.c.rd.next()
	if err != nil {
		return stream.Control{}, p.failed(err)
	}
	switch m.typ {
	case typeUserControl:
		return stream.Control{Reply: pong(m)}, nil
	case typeCommandAMF0, typeCommandAMF3:
		cmd, err := parseCommand(m)
		if err != nil {
			return stream.Control{}, err
		}
		return p.command(&cmd)
	}
	return stream.Control{}, nil
}

// stop takes the connection back from the handler, which may have left a
// goroutine in ReadControl.
func (p *playConn) stop() {
	if !p.mu.TryLock() {
		_ = p.c.nc.SetReadDeadline(time.Unix(1, 0))
		p.mu.Lock()
	}
	p.stopped = true
	p.mu.Unlock()
}

func (p *playConn) command(cmd *command) (stream.Control, error) {
	switch cmd.name {
	case "pause", "pauseRaw":
		pause := cmd.flag(0, true)
		reply, err := p.c.command(&command{name: "pause", args: []any{pause}})
		return stream.Control{Reply: reply, Pause: pause, Resume: !pause}, err
	case "play", "publish":
		p.c.pending = cmd // a stream takes the place of this one
		fallthrough
	case "deleteStream", "closeStream":
		p.left = true
		return stream.Control{}, io.EOF
	}
	reply, err := p.c.command(cmd)
	return stream.Control{Reply: reply}, err
}
