package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/amf"
)

// The protocols that players speak.
const (
	protoRTMP = "rtmp"
	protoFLV  = "flv"
	protoWS   = "ws"
)

// A dialed is a player whose server has said yes; media comes next.
type dialed struct {
	conn     *net.TCPConn
	br       *bufio.Reader // what was read too much is in here
	messages messageReader // on br
}

// dialPlayer connects and asks to play the stream, "app/name".
func dialPlayer(proto, addr, stream string, timeout time.Duration) (*dialed, error) {
	deadline := time.Now().Add(timeout)
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	d := &dialed{conn: c.(*net.TCPConn), br: bufio.NewReader(c)}
	err = c.SetDeadline(deadline)
	if err == nil {
		switch proto {
		case protoRTMP:
			err = d.playRTMP(addr, stream)
		case protoFLV, protoWS:
			err = d.playHTTP(addr, stream, proto == protoWS)
		default:
			err = fmt.Errorf("bench: no protocol %q", proto)
		}
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return d, nil
}

func (d *dialed) playHTTP(addr, stream string, webSocket bool) error {
	req := "GET /" + stream + ".flv HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: bench\r\nAccept: */*\r\n"
	want := http.StatusOK
	if webSocket {
		req += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
		want = http.StatusSwitchingProtocols
	}
	if _, err := io.WriteString(d.conn, req+"\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(d.br, nil)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != want:
		return fmt.Errorf("bench: %s: %s", stream, resp.Status)
	case len(resp.TransferEncoding) > 0: // the frames that are sampled would need unpacking, and nobody needs it
		return fmt.Errorf("bench: %s comes in Transfer-Encoding %v", stream, resp.TransferEncoding)
	}
	if webSocket {
		d.br = bufio.NewReader(&webSocketReader{r: d.br})
	}
	d.messages = &tagReader{r: d.br}
	return nil
}

func (d *dialed) playRTMP(addr, stream string) error {
	app, name, _ := strings.Cut(stream, "/")
	const size = 1536
	hello := make([]byte, 1+size)
	hello[0] = 3
	for i := 1 + 8; i < len(hello); i++ { // zero version: the simple handshake
		hello[i] = byte(i * 7)
	}
	if _, err := d.conn.Write(hello); err != nil {
		return err
	}
	answer := make([]byte, 1+2*size)
	if _, err := io.ReadFull(d.br, answer); err != nil {
		return err
	}
	if answer[0] != 3 {
		return fmt.Errorf("bench: RTMP version %d", answer[0])
	}
	cr := newChunkReader(d.br)
	d.messages = cr
	out := append([]byte(nil), answer[1:1+size]...)
	out, err := appendCommand(out, 0, "connect", 1.0, map[string]any{
		"app": app, "flashVer": "LNX 9,0,124,2", "tcUrl": "rtmp://" + addr + "/" + app,
		"fpad": false, "capabilities": 15.0, "audioCodecs": 4071.0, "videoCodecs": 252.0, "videoFunction": 1.0,
	})
	if err != nil {
		return err
	}
	if _, err := d.conn.Write(out); err != nil {
		return err
	}
	if err := awaitCommand(cr, "_result", ""); err != nil {
		return err
	}
	if out, err = appendCommand(out[:0], 0, "createStream", 2.0, nil); err != nil {
		return err
	}
	if _, err := d.conn.Write(out); err != nil {
		return err
	}
	if err := awaitCommand(cr, "_result", ""); err != nil {
		return err
	}
	if out, err = appendCommand(out[:0], 1, "play", 3.0, nil, name, -2000.0); err != nil {
		return err
	}
	if _, err := d.conn.Write(out); err != nil {
		return err
	}
	return awaitCommand(cr, "onStatus", "NetStream.Play.Start")
}

// appendCommand appends an AMF0 command in chunks of 128 bytes.
func appendCommand(dst []byte, streamID byte, values ...any) ([]byte, error) {
	body, err := amf.Append(nil, values...)
	if err != nil {
		return nil, err
	}
	n := len(body)
	dst = append(dst, 3, 0, 0, 0, byte(n>>16), byte(n>>8), byte(n), typeCommand, streamID, 0, 0, 0)
	for len(body) > 128 {
		dst = append(append(dst, body[:128]...), 3|3<<6)
		body = body[128:]
	}
	return append(dst, body...), nil
}

// awaitCommand reads up to a command of that name and, unless it is "", code.
func awaitCommand(cr *chunkReader, name, code string) error {
	for range 200 { // other messages may come before
		m, err := cr.next()
		if err != nil {
			return err
		}
		if m.typ != typeCommand {
			continue
		}
		values, err := amf.Decode(m.body)
		if err != nil {
			return err
		}
		if len(values) == 0 {
			continue
		}
		var got, level string
		for _, v := range values {
			if o, ok := amf.AsObject(v); ok {
				got, level = o.String("code"), o.String("level")
			}
		}
		switch {
		case values[0] == "_error" || level == "error":
			return fmt.Errorf("bench: RTMP server refuses: %v", got)
		case values[0] == name && (code == "" || got == code):
			return nil
		}
	}
	return errors.New("bench: no RTMP " + name)
}

// appendAck appends an Acknowledgement of n bytes received.
func appendAck(dst []byte, n int64) []byte {
	dst = append(dst, 2, 0, 0, 0, 0, 0, 4, typeAck, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}
