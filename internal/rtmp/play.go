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
func (c *conn) play(r *auth.Request) {
	again := false
	defer func() {
		if v := recover(); v != nil {
			c.srv.recovered(c, v)
			again = false
		}
		if again {
			go c.run()
		} else {
			c.close()
		}
	}()
	// No deadlines: a player need say nothing for hours, and what is sent to
	// it is watched by who sends it.
	if c.nc.SetDeadline(time.Time{}) != nil {
		return
	}
	c.rd.resize(playBuffer)
	p := &playConn{Conn: c.nc, c: c}
	var pc stream.PlayConn = p
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		pc = &tcpPlayConn{p, tcp}
	}
	err := c.srv.Handler.Play(c.srv.ctx, pc, r)
	p.stop()
	switch {
	case err != nil && !p.accepted.Load() && !p.left && !p.gone:
		err = c.refuse(auth.Play, err)
	case err == nil && p.left:
		again = true
	case err == nil && !p.gone:
		b := appendEvent(nil, eventStreamEOF, streamID)
		b = appendStatus(b, streamID, playGone)
		c.farewell(appendStatus(b, streamID, playStop))
	}
	c.srv.log().Debug("rtmp: player left", "stream", r.Stream, "remote", c.remote, "err", err)
}

// A playConn is a playing connection as its Handler sees it.
type playConn struct {
	net.Conn // Write goes to the socket as it is
	c        *conn
	accepted atomic.Bool

	mu      sync.Mutex // held by ReadControl
	left    bool       // the peer ended the play
	gone    bool       // the peer cannot be read from any more
	stopped bool       // the connection is the server's again
}

// A tcpPlayConn is a playConn over plain TCP.
type tcpPlayConn struct {
	*playConn
	tcp *net.TCPConn
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

// ReadControl reads until the peer says something that concerns the play.
func (p *playConn) ReadControl() (stream.Control, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.stopped || p.left {
			return stream.Control{}, io.EOF
		}
		m, err := p.c.rd.next()
		if err != nil {
			p.gone = !errors.Is(err, os.ErrDeadlineExceeded) // a deadline is how a handler wakes itself
			return stream.Control{}, err
		}
		switch m.typ {
		case typeUserControl:
			if reply := pong(m); reply != nil {
				return stream.Control{Reply: reply}, nil
			}
		case typeCommandAMF0, typeCommandAMF3:
			cmd, err := parseCommand(m)
			if err != nil {
				return stream.Control{}, err
			}
			ctl, err := p.command(&cmd)
			if err != nil {
				return stream.Control{}, err
			}
			if ctl.Reply != nil || ctl.Pause || ctl.Resume {
				return ctl, nil
			}
		}
	}
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
