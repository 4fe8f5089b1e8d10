package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
)

const (
	commandBuffer = 2 << 10  // read buffer until it is known what the peer wants
	publishBuffer = 32 << 10 // of a publisher: several frames for one read call
	playBuffer    = 64       // of a player, which says little; there are many of them
)

// A conn is the server's side of a connection. Its goroutine runs from run;
// a play gets one of its own, whose stack is small.
type conn struct {
	srv    *Server
	nc     net.Conn
	ln     *listener
	remote netip.AddrPort
	tls    *tls.ConnectionState // nil for RTMP

	// owned by the connection's goroutine
	rd        reader
	open      bool // the handshake is done
	connected bool
	info      connectInfo
	pending   *command // ended a play and is to be carried out next

	evicted atomic.Pointer[error] // why somebody ended the publisher
}

// What ends a connection without being anybody's fault.
var (
	errRefused = errors.New("rtmp: refused")
	errClosing = errors.New("rtmp: server is closing")
)

// run serves c until it is closed or handed to the goroutine of a play.
func (c *conn) run() {
	var play *auth.Request
	defer func() {
		if v := recover(); v != nil {
			c.srv.recovered(c, v)
			play = nil
		}
		if play == nil {
			c.close()
			return
		}
		go c.play(play)
	}()
	var err error
	if !c.open {
		err = c.handshake()
	}
	if err == nil {
		play, err = c.commands()
	}
	if err != nil {
		c.srv.log().Debug("rtmp: connection ended", "remote", c.remote, "err", err)
	}
}

func (c *conn) close() {
	_ = c.nc.Close()
	c.srv.removeConn(c)
}

// handshake does TLS's handshake, if there is one to do, and RTMP's, all
// within one deadline.
func (c *conn) handshake() error {
	timeout := c.srv.handshakeTimeout()
	if err := c.nc.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if t, ok := c.nc.(interface {
		HandshakeContext(context.Context) error
		ConnectionState() tls.ConnectionState
	}); ok {
		if err := t.HandshakeContext(c.srv.ctx); err != nil {
			return err
		}
		state := t.ConnectionState()
		c.tls = &state
	}
	if err := serverHandshake(c.nc); err != nil {
		return err
	}
	c.open = true
	c.rd.init(c.nc, commandBuffer)
	return nil
}

// write sends b, which holds whole messages.
func (c *conn) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.srv.writeTimeout())); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
}

// commands carries out the peer's commands, publishing among them, until the
// connection ends or the peer asks to play.
func (c *conn) commands() (*auth.Request, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	for {
		cmd := c.pending
		c.pending = nil
		if cmd == nil {
			m, err := c.rd.next()
			if err != nil {
				if err == io.EOF {
					err = nil // the peer has closed
				}
				return nil, err
			}
			if cmd, err = c.message(m); err != nil {
				return nil, err
			}
		}
		if cmd == nil {
			continue
		}
		switch cmd.name {
		case "publish":
			if err := c.publish(cmd); err != nil {
				return nil, err
			}
			if err := c.await(); err != nil {
				return nil, err
			}
		case "play":
			r, err := c.request(auth.Play, cmd)
			if err != nil {
				return nil, c.refuse(auth.Play, err)
			}
			if !c.srv.setState(c, statePlay) {
				return nil, c.refuse(auth.Play, ErrServerClosed)
			}
			return r, nil
		default:
			reply, err := c.command(cmd)
			if err != nil {
				return nil, err
			}
			if err := c.write(reply); err != nil {
				return nil, err
			}
		}
	}
}

// await gives the peer the time for saying what it wants.
func (c *conn) await() error {
	if !c.srv.setState(c, stateCommand) {
		return errClosing
	}
	return c.nc.SetDeadline(time.Now().Add(c.srv.firstPacketTimeout()))
}

// message acts on a message that comes outside of publishing and playing. It
// returns the command if it is one.
func (c *conn) message(m message) (*command, error) {
	switch m.typ {
	case typeCommandAMF0, typeCommandAMF3:
		cmd, err := parseCommand(m)
		if err != nil {
			return nil, err
		}
		if !c.connected && cmd.name != "connect" {
			return nil, errOrder
		}
		return &cmd, nil
	case typeUserControl:
		return nil, c.write(pong(m))
	}
	return nil, nil // acknowledgements, late media, shared objects
}

// command carries out a command that begins no stream, and returns the answer.
func (c *conn) command(cmd *command) ([]byte, error) {
	switch cmd.name {
	case "connect":
		if c.connected {
			return nil, errOrder
		}
		info, err := parseConnect(cmd)
		if err != nil {
			return nil, err
		}
		c.info, c.connected = info, true
		return appendConnected(nil, cmd.id, &info), nil
	case "createStream":
		return appendCommand(nil, 0, "_result", cmd.id, nil, float64(streamID)), nil
	case "getStreamLength":
		return appendCommand(nil, 0, "_result", cmd.id, nil, 0.0), nil
	case "FCSubscribe":
		return appendCommand(nil, 0, "onFCSubscribe", 0, nil, onFC(playStart)), nil
	case "FCUnpublish":
		return appendUnpublished(nil, cmd), nil
	case "seek":
		return appendStatus(nil, streamID, seekFailed), nil
	case "play2":
		return appendStatus(nil, streamID, switchFailed), nil
	case "pause":
		if cmd.flag(0, true) {
			return appendStatus(nil, streamID, pauseNotify), nil
		}
		return appendStatus(nil, streamID, unpauseNotify), nil
	case "_result", "_error", "deleteStream", "closeStream", "receiveAudio", "receiveVideo", "FCUnsubscribe":
		return nil, nil
	}
	// releaseStream, FCPublish, _checkbw, and whatever else wants an answer:
	// encoders wait for one, and take an error badly.
	if cmd.id == 0 {
		return nil, nil
	}
	return appendCommand(nil, 0, "_result", cmd.id, nil, nil), nil
}

// request makes the question to the authorizer of a publish or play command.
func (c *conn) request(action auth.Action, cmd *command) (*auth.Request, error) {
	t, err := parseTarget(c.info.app, c.info.tcURL, cmd.text(0))
	if err != nil {
		return nil, err
	}
	r := &auth.Request{
		Action: action, Protocol: "rtmp", Remote: c.remote, TLS: c.tls,
		Stream: t.key, VHost: t.vhost, App: t.app, Name: t.name,
		RawQuery: t.query, Token: t.token,
		TCURL: c.info.tcURL, PageURL: c.info.pageURL, Accept: c.info.accept,
	}
	if c.tls != nil {
		r.Protocol = "rtmps"
	}
	return r, nil
}

// refuse tells the peer that it can't have what it asked for, and ends the
// connection. It returns an error that says so, for the log.
func (c *conn) refuse(action auth.Action, cause error) error {
	c.farewell(appendRefusal(nil, streamID, action, cause))
	return fmt.Errorf("%w: %w", errRefused, cause)
}

const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// farewell sends b as the last of a connection. It then reads what the peer
// still sends, for a short while: closing with unread bytes resets the
// connection, and the peer might never see b.
func (c *conn) farewell(b []byte) {
	if c.write(b) != nil {
		return
	}
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	for n := 0; n < lingerBytes; {
		c.rd.pos, c.rd.end = 0, 0
		if c.rd.fill() != nil {
			return
		}
		n += c.rd.end
	}
}
