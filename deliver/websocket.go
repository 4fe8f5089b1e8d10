package deliver

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// The server's side of WebSocket (RFC 6455), as little of it as a player needs:
// the frames that it is sent are part of the bytes that players share, so no
// library can write them.

const (
	wsBinary = 0x2
	wsClose  = 0x8
	wsPing   = 0x9
	wsPong   = 0xA
	wsFin    = 0x80
	wsMask   = 0x80

	wsReserved = 0x70

	// maxMessageHeader bounds what wrapping adds to a message.
	maxMessageHeader = 10
	// maxClientFrame bounds what a player may send that has nothing to say.
	maxClientFrame = 4 << 10
)

// isUpgrade reports whether a request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 &&
		hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

func hasToken(h http.Header, key, token string) bool {
	for _, v := range h.Values(key) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// validHandshake checks the rest of the handshake (RFC 6455, Section 4.2.1).
func validHandshake(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return err == nil && len(key) == 16 && r.Header.Get("Sec-WebSocket-Version") == "13"
}

func (p *playing) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	c, ahead := takeOver(w)
	if c == nil {
		p.server.leave(p)
		http.Error(w, "WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	if ahead.Buffered() > 0 { // it speaks before it has been answered
		p.server.leave(p)
		c.Close()
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	accept := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
	ws := &wsConn{hijacked: hijacked{Conn: c, accept: []byte(accept), heard: chatter{since: time.Now()}}}
	p.playOver(c, ws, func(whole bool, err error) {
		if whole {
			ws.farewell(err)
		}
		hangUp(c, whole)
	})
}

// wsConn is a playConn over WebSocket.
type wsConn struct {
	hijacked
	closed bool // the peer's close frame has come
}

// farewell sends a close frame, and waits a moment for the peer's, lest what is
// on its way be lost with the connection.
func (c *wsConn) farewell(err error) {
	_ = c.SetDeadline(time.Now().Add(time.Second))
	code := uint16(1000) // normal closure
	switch {
	case errors.Is(err, ErrServerClosed):
		code = 1001 // going away
	case err != nil:
		code = 1008 // policy violation
	}
	_, err = c.Write(binary.BigEndian.AppendUint16([]byte{wsFin | wsClose, 2}, code))
	for err == nil && !c.closed {
		_, err = c.ReadControl()
	}
}

// ReadControl answers pings and notices the close.
func (c *wsConn) ReadControl() (ctl stream.Control, err error) {
	op, payload, err := c.readFrame()
	switch {
	case err != nil:
	case op == wsPing:
		ctl.Reply = append([]byte{wsFin | wsPong, byte(len(payload))}, payload...)
	case op == wsClose:
		c.closed = true
		err = io.EOF
	}
	return ctl, err
}

// Pending reports that nothing is read ahead.
func (c *wsConn) Pending() bool { return false }

// readFrame reads a frame (RFC 6455, Section 5.2). Only control frames have
// their payload returned.
func (c *wsConn) readFrame() (op byte, payload []byte, err error) {
	var h [14]byte
	if _, err := io.ReadFull(c, h[:2]); err != nil {
		return 0, nil, err
	}
	op = h[0] & 0x0F
	size := uint64(h[1] &^ wsMask)
	control := op >= wsClose
	// Clients mask (Section 5.1), control frames are short and in one piece
	// (Section 5.5), and no extension was agreed on (Section 5.2).
	if h[1]&wsMask == 0 || h[0]&wsReserved != 0 || control && (size > 125 || h[0]&wsFin == 0) {
		return 0, nil, errWebSocket
	}
	n := 0 // bytes of the extended length
	switch size {
	case 126:
		n = 2
	case 127:
		n = 8
	}
	if _, err := io.ReadFull(c, h[2:2+n+4]); err != nil {
		return 0, nil, err
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		size = binary.BigEndian.Uint64(h[2:])
	}
	if size > maxClientFrame {
		return 0, nil, errWebSocket
	}
	if err := c.heard.add(2 + n + 4 + int(size)); err != nil {
		return 0, nil, err
	}
	if !control {
		_, err := io.CopyN(io.Discard, c, int64(size))
		return op, nil, err
	}
	mask := h[2+n:]
	payload = make([]byte, size)
	if _, err := io.ReadFull(c, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return op, payload, nil
}

var errWebSocket = errors.New("deliver: bad WebSocket frame")

// message appends what write appends, as one WebSocket message if the feed is
// for WebSockets.
func (f *feed) message(dst []byte, write func([]byte) []byte) []byte {
	if !f.key.websocket {
		return write(dst)
	}
	at := len(dst)
	var room [maxMessageHeader]byte
	dst = write(append(dst, room[:]...))
	body := dst[at+maxMessageHeader:]
	if len(body) == 0 {
		return dst[:at]
	}
	header := appendMessageHeader(dst[at:at], len(body))
	return append(dst[:at+len(header)], body...)
}

// wrap makes a WebSocket message of b if the feed is for WebSockets.
func (f *feed) wrap(b []byte) []byte {
	if !f.key.websocket {
		return b
	}
	return append(appendMessageHeader(make([]byte, 0, len(b)+maxMessageHeader), len(b)), b...)
}

func appendMessageHeader(dst []byte, size int) []byte {
	dst = append(dst, wsFin|wsBinary)
	switch {
	case size < 126:
		return append(dst, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
}
