package deliver

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"

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

	// maxMessageHeader bounds what wrapping adds to a message.
	maxMessageHeader = 10
	// maxClientMessage bounds what a player may send that has nothing to say.
	maxClientMessage = 4 << 10
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

func (p *playing) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	if err != nil || len(key) != 16 || r.Header.Get("Sec-WebSocket-Version") != "13" {
		p.server.leave(p)
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, "bad WebSocket handshake", http.StatusBadRequest)
		return
	}
	c := takeOver(w)
	if c == nil {
		p.server.leave(p)
		http.Error(w, "WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	ws := &wsConn{hijacked{Conn: c, accept: []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")}}
	go func() {
		defer c.Close()
		if p.serve(ws.playConn()) == nil {
			c.SetWriteDeadline(soon())
			c.Write([]byte{wsFin | wsClose, 2, 0x03, 0xE8}) // 1000, normal closure
		}
	}()
}

// wsConn is a stream.PlayConn over WebSocket.
type wsConn struct{ hijacked }

func (c *wsConn) playConn() playConn {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcpConn{c, tcp}
	}
	return c
}

// ReadControl answers pings and waits for the close.
func (c *wsConn) ReadControl() (stream.Control, error) {
	chatter := 0
	for {
		var h [14]byte
		if _, err := io.ReadFull(c.Conn, h[:2]); err != nil {
			return stream.Control{}, err
		}
		size := uint64(h[1] &^ wsMask)
		switch size {
		case 126:
			if _, err := io.ReadFull(c.Conn, h[2:4]); err != nil {
				return stream.Control{}, err
			}
			size = uint64(binary.BigEndian.Uint16(h[2:]))
		case 127:
			if _, err := io.ReadFull(c.Conn, h[2:10]); err != nil {
				return stream.Control{}, err
			}
			size = binary.BigEndian.Uint64(h[2:])
		}
		// Clients mask (RFC 6455, Section 5.1), and control frames are short
		// (Section 5.5).
		op := h[0] & 0x0F
		if h[1]&wsMask == 0 || size > maxClientMessage || op >= wsClose && size > 125 {
			return stream.Control{}, errChatter
		}
		if chatter += int(size) + 2; chatter > maxChatter {
			return stream.Control{}, errChatter
		}
		var mask [4]byte
		if _, err := io.ReadFull(c.Conn, mask[:]); err != nil {
			return stream.Control{}, err
		}
		if op < wsClose {
			if _, err := io.CopyN(io.Discard, c.Conn, int64(size)); err != nil {
				return stream.Control{}, err
			}
			continue
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(c.Conn, payload); err != nil {
			return stream.Control{}, err
		}
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		switch op {
		case wsPing:
			return stream.Control{Reply: append([]byte{wsFin | wsPong, byte(size)}, payload...)}, nil
		case wsClose:
			return stream.Control{}, io.EOF
		}
	}
}

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
