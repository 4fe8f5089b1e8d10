package deliver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A fakeConn is a stream.PlayConn as some engine might make one, and its peer.
type fakeConn struct {
	net.Conn
	t        *testing.T
	accepted atomic.Bool
	says     chan stream.Control

	once sync.Once
	past chan struct{}

	client net.Conn
	r      *bufio.Reader
}

func newFakeConn(t *testing.T) *fakeConn {
	server, client := net.Pipe()
	t.Cleanup(func() { server.Close(); client.Close() })
	return &fakeConn{Conn: server, t: t, says: make(chan stream.Control), past: make(chan struct{}), client: client, r: bufio.NewReader(client)}
}

func (c *fakeConn) Accept() []byte {
	c.accepted.Store(true)
	return []byte("hello")
}

func (c *fakeConn) ReadControl() (stream.Control, error) {
	select {
	case ctl, ok := <-c.says:
		if !ok {
			return ctl, io.EOF
		}
		return ctl, nil
	case <-c.past:
		return stream.Control{}, os.ErrDeadlineExceeded
	}
}

func (c *fakeConn) SetReadDeadline(time.Time) error {
	c.once.Do(func() { close(c.past) })
	return nil
}

func (c *fakeConn) leave() { close(c.says) }

func (c *fakeConn) play(s *Server, name string, accept []string) <-chan error {
	done := make(chan error, 1)
	go func() {
		done <- s.ServePlay(c.t.Context(), c, &auth.Request{Protocol: "fake", Stream: name, Accept: accept})
	}()
	return done
}

func (c *fakeConn) expect(s string) {
	c.t.Helper()
	b := make([]byte, len(s))
	_, err := io.ReadFull(c.r, b)
	require.NoError(c.t, err)
	require.Equal(c.t, s, string(b))
}

type rtmpMessage struct {
	typ  byte
	ts   uint32
	body []byte
}

// message reads an RTMP message as players get it: a chunk of type 0, message
// stream 1, and chunks of type 3.
func (c *fakeConn) message() rtmpMessage {
	c.t.Helper()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, err := io.ReadFull(c.r, b)
		require.NoError(c.t, err)
		return b
	}
	h := read(12)
	require.Less(c.t, h[0], byte(64), "type 0")
	m := rtmpMessage{typ: h[7], ts: binary.BigEndian.Uint32(h) & 0xFFFFFF}
	require.Equal(c.t, uint32(1), binary.LittleEndian.Uint32(h[8:]))
	for left := int(binary.BigEndian.Uint32(h[3:]) & 0xFFFFFF); left > 0; {
		n := min(left, 60_000)
		m.body = append(m.body, read(n)...)
		if left -= n; left > 0 {
			require.Equal(c.t, 3<<6|h[0], read(1)[0])
		}
	}
	return m
}

func TestServePlay(t *testing.T) {
	b := newBed(t, kind{container: containerRTMP}, nil)
	src := publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 200_000})
	src.write(60)
	c := newFakeConn(t)
	done := c.play(b.srv, "live/x", nil)
	c.expect("hello")
	require.Equal(t, byte(18), c.message().typ)
	require.Equal(t, []byte{0x17, 0}, c.message().body[:2])
	require.Equal(t, []byte{0xaf, 0}, c.message().body[:2])
	for _, f := range src.written {
		m := c.message()
		require.Equal(t, f.Track.Kind() == stream.Video, m.typ == 9)
		require.Equal(t, uint32(stream.Ticks(f.DTS, 1000)), m.ts)
		require.Equal(t, f.Data, m.body[len(m.body)-len(f.Data):])
	}
	c.says <- stream.Control{Reply: []byte("pong")}
	c.expect("pong")
	c.says <- stream.Control{Reply: []byte("paused"), Pause: true}
	c.expect("paused")
	src.write(5)
	c.says <- stream.Control{Reply: []byte("again"), Resume: true}
	c.expect("again")
	for _, f := range src.written[60:] {
		require.Equal(t, uint32(stream.Ticks(f.DTS, 1000)), c.message().ts)
	}
	c.leave()
	require.NoError(t, <-done)
	b.idle()
}

// Whoever leaves in the middle of a message leaves the connection unfit for
// anything else.
func TestServePlayCut(t *testing.T) {
	b := newBed(t, kind{container: containerRTMP}, nil)
	publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 200_000}).write(2)
	c := newFakeConn(t)
	done := c.play(b.srv, "live/x", nil)
	c.expect("hello")
	c.message()
	c.leave()
	require.ErrorIs(t, <-done, errCut)
	b.idle()
}

func TestServePlayRefusals(t *testing.T) {
	b := newBed(t, kind{container: containerRTMP}, nil)
	publish(t, b.hub, "live/x", &streamtest.Pattern{}).write(10)
	redirect := &auth.Redirect{Location: "rtmp://other"}
	refuse := func(name string, want error) {
		t.Helper()
		c := newFakeConn(t)
		require.ErrorIs(t, <-c.play(b.srv, name, nil), want)
		require.False(t, c.accepted.Load())
		b.idle()
	}
	refuse("live/y", stream.ErrNotFound)
	refuse("live/../x", stream.ErrName)
	for _, err := range []error{auth.ErrDenied, redirect, errors.New("other")} {
		b.srv.Auth = auth.Func(func(_ context.Context, _ *auth.Request) (*auth.Grant, error) { return nil, err })
		refuse("live/x", err)
	}
	b.srv.Auth = auth.AllowAll
	require.NoError(t, b.srv.Close())
	refuse("live/x", ErrServerClosed)
	require.ErrorIs(t, ErrServerClosed, net.ErrClosed)
}

// A player that was kicked before it began ends at once.
func TestKickAtOnce(t *testing.T) {
	b := newBed(t, kind{container: containerRTMP}, nil)
	publish(t, b.hub, "live/x", &streamtest.Pattern{}).write(10)
	b.srv.Auth = auth.Func(func(_ context.Context, _ *auth.Request) (*auth.Grant, error) {
		return &auth.Grant{Expires: time.Now().Add(-time.Second)}, nil
	})
	c := newFakeConn(t)
	go io.Copy(io.Discard, c.client)
	require.ErrorIs(t, <-c.play(b.srv, "live/x", nil), auth.ErrDenied)
	b.idle()
}
