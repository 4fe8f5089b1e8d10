package rtmp

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream"
)

// A fakeConn is a connection whose peer has said all and hears nothing.
type fakeConn struct{ in []byte }

func (c *fakeConn) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *fakeConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c *fakeConn) Close() error                     { return nil }
func (c *fakeConn) LocalAddr() net.Addr              { return nil }
func (c *fakeConn) RemoteAddr() net.Addr             { return nil }
func (c *fakeConn) SetDeadline(time.Time) error      { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// session serves a peer that says wire after the handshake, to its end.
func session(wire []byte) *Server {
	h := &fakeHandler{play: func(_ context.Context, c stream.PlayConn, _ *auth.Request) error {
		c.Accept()
		for {
			if _, err := c.ReadControl(); err != nil {
				return nil
			}
		}
	}}
	srv := &Server{Handler: h, Log: quiet, ctx: context.Background(), conns: make(map[*conn]connState)}
	nc := &fakeConn{in: wire}
	c := &conn{srv: srv, nc: nc, ln: &listener{}}
	c.open = true
	c.rd.init(nc, commandBuffer)
	for {
		r, err := c.commands()
		if err != nil || r == nil {
			return srv
		}
		p := &playConn{Conn: nc, c: c}
		c.rd.resize(playBuffer)
		h.Play(srv.ctx, p, r, func(error) {})
		if !p.left {
			return srv
		}
	}
}

func FuzzSession(f *testing.F) {
	f.Add(playerWire(f))
	wire := func(values ...any) []byte {
		body, err := amf.Append(nil, values...)
		require.NoError(f, err)
		return appendChunks(nil, defaultChunkSize, csidCommand, typeCommandAMF0, 0, 1, body, nil)
	}
	connect := wire("connect", 1, amf.Object{{Name: "app", Value: "live"}, {Name: "fourCcList", Value: []any{"*"}}})
	publish := append(connect, wire("publish", 2, nil, "cam?token=t", "live")...)
	f.Add(append(publish, appendChunks(nil, 128, 4, typeAudio, 0, 1, mp3, nil)...))
	f.Add(append(publish, wire("closeStream", 0, nil)...))
	f.Add(append(publish, appendChunks(nil, 128, 4, typeAggregate, 0, 1, append([]byte{8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2f}, 0, 0, 0, 12), nil)...))
	f.Add(append(playerWire(f), wire("pause", 5, nil, true, 0)...))
	f.Add(append(playerWire(f), wire("play", 5, nil, "other")...))
	f.Fuzz(func(t *testing.T, b []byte) { session(b) })
}
