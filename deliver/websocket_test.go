package deliver

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func overWebSockets(t *testing.T, test func(t *testing.T, b *bed)) {
	for _, k := range kinds {
		if k.ws && k.container == containerFLV {
			t.Run(k.name, func(t *testing.T) { test(t, newBed(t, k, nil)) })
		}
	}
}

func (b *bed) websocket(t *testing.T) *websocket.Conn {
	c, _, err := websocket.Dial(t.Context(), b.base+"/live/x.flv", &websocket.DialOptions{HTTPClient: b.client})
	require.NoError(t, err)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// The first message is the header, each further one a tag.
func TestWebSocketMessages(t *testing.T) {
	overWebSockets(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 100_000, FrameSize: 300})
		src.write(50)
		c := b.websocket(t)
		c.SetReadLimit(-1)
		for i := range 40 {
			typ, msg, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, websocket.MessageBinary, typ)
			if i == 0 {
				require.Equal(t, "FLV\x01\x05", string(msg[:5]))
				continue
			}
			size := int(binary.BigEndian.Uint32(msg) & 0xFFFFFF)
			require.Len(t, msg, 11+size+4)
		}
	})
}

func TestWebSocketPing(t *testing.T) {
	overWebSockets(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(50)
		stop := src.run()
		defer stop()
		c := b.websocket(t)
		go func() {
			for {
				if _, _, err := c.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			require.NoError(t, c.Ping(ctx))
			cancel()
		}
	})
}

// Whoever closes, the other side answers.
func TestWebSocketClose(t *testing.T) {
	overWebSockets(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(50)
		settled := b.baseline()

		c := b.websocket(t)
		_, _, err := c.Read(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Close(websocket.StatusNormalClosure, "enough"))
		b.idle()

		closeStatus := func(do func(s *stream.Session)) websocket.StatusCode {
			c := b.websocket(t)
			c.SetReadLimit(-1)
			for i := 0; ; i++ {
				if i == 10 {
					for s := range b.hub.Sessions() {
						eventually(t, func() bool { return s.Stats().BytesOut > 0 }, "the end of the first write")
						do(s)
					}
				}
				if _, _, err := c.Read(t.Context()); err != nil {
					b.idle()
					return websocket.CloseStatus(err)
				}
			}
		}
		require.Equal(t, websocket.StatusPolicyViolation, closeStatus(func(s *stream.Session) { s.Kick(nil) }))
		settled()
		require.Equal(t, websocket.StatusNormalClosure, closeStatus(func(*stream.Session) { src.pub.Close() }))
		publish(t, b.hub, "live/x", &streamtest.Pattern{}).write(50)
		require.Equal(t, websocket.StatusGoingAway, closeStatus(func(*stream.Session) { b.srv.Close() }))
	})
}

const handshake = "GET /live/x.flv HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func TestWebSocketHandshake(t *testing.T) {
	b := newBed(t, kind{container: containerFLV}, nil)
	publish(t, b.hub, "live/x", &streamtest.Pattern{}).write(50)
	for _, tt := range []struct{ name, request, want string }{
		{"of RFC 6455", handshake, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"},
		{"version", strings.Replace(handshake, "13", "8", 1), "HTTP/1.1 400"},
		{"key", strings.Replace(handshake, "dGhl", "", 1), "HTTP/1.1 400"},
		{"no key", strings.Replace(handshake, "-Key", "-Ke", 1), "HTTP/1.1 400"},
		{"other stream", strings.Replace(handshake, "live/x", "live/y", 1), "HTTP/1.1 404"},
		{"no upgrade", strings.Replace(handshake, "Upgrade: WebSocket", "Upgrade: h2c", 1), "HTTP/1.1 200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", strings.TrimPrefix(b.base, "http://"))
			require.NoError(t, err)
			defer c.Close()
			_, err = c.Write([]byte(tt.request + "\r\n"))
			require.NoError(t, err)
			got := make([]byte, len(tt.want))
			_, err = io.ReadFull(c, got)
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))
			c.Close()
			b.idle()
		})
	}
	t.Run("data with the handshake", func(t *testing.T) {
		c, err := net.Dial("tcp", strings.TrimPrefix(b.base, "http://"))
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write([]byte(handshake + "\r\n\x89\x80mask"))
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err)
		b.idle()
	})
}

// clientFrame is a frame as a client would send it.
func clientFrame(op byte, payload string) []byte {
	b := []byte{op, wsMask}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func TestWebSocketControl(t *testing.T) {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name    string
		in      []byte
		replies string
		err     error
	}{
		{"nothing", nil, "", io.EOF},
		{"ping", clientFrame(0x89, "hello"), "\x8a\x05hello", io.EOF},
		{"empty ping", clientFrame(0x89, ""), "\x8a\x00", io.EOF},
		{"longest ping", clientFrame(0x89, strings.Repeat("x", 125)), "\x8a\x7d" + strings.Repeat("x", 125), io.EOF},
		{"ping too long", clientFrame(0x89, strings.Repeat("x", 126)), "", errWebSocket},
		{"ping in pieces", clientFrame(0x09, "x"), "", errWebSocket},
		{"pong", clientFrame(0x8a, "x"), "", io.EOF},
		{"text", clientFrame(0x81, "hello"), "", io.EOF},
		{"fragments with a ping between", join(clientFrame(0x01, "a"), clientFrame(0x89, "p"), clientFrame(0x00, "b"), clientFrame(0x80, "c"), clientFrame(0x89, "q")), "\x8a\x01p\x8a\x01q", io.EOF},
		{"medium", join(clientFrame(0x82, strings.Repeat("x", 1000)), clientFrame(0x89, "p")), "\x8a\x01p", io.EOF},
		{"largest", clientFrame(0x82, strings.Repeat("x", maxClientFrame)), "", io.EOF},
		{"too large", clientFrame(0x82, strings.Repeat("x", maxClientFrame+1)), "", errWebSocket},
		{"huge", []byte("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask"), "", errWebSocket},
		{"negative", []byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask"), "", errWebSocket},
		{"not masked", []byte("\x89\x00"), "", errWebSocket},
		{"reserved bit", clientFrame(0xC9, ""), "", errWebSocket},
		{"close", join(clientFrame(0x88, "\x03\xe8bye"), clientFrame(0x89, "late")), "", io.EOF},
		{"cut header", []byte("\x82"), "", io.ErrUnexpectedEOF},
		{"cut length", []byte("\x82\xfe\x01"), "", io.ErrUnexpectedEOF},
		{"cut payload", clientFrame(0x89, "hello")[:8], "", io.ErrUnexpectedEOF},
		{"chatter", bytes.Repeat(clientFrame(0x82, strings.Repeat("x", 4000)), 20), "", errChatter},
		{"many pings", bytes.Repeat(clientFrame(0x89, ""), 20_000), "*", errChatter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			replies, err := controls(tt.in)
			require.ErrorIs(t, err, tt.err)
			if tt.replies != "*" {
				require.Equal(t, tt.replies, replies)
			}
		})
	}
}

// controls lets a wsConn read in, and returns its replies.
func controls(in []byte) (replies string, err error) {
	c := &wsConn{hijacked: hijacked{Conn: readerConn{Reader: bytes.NewReader(in)}, heard: chatter{since: time.Now()}}}
	var b strings.Builder
	for {
		ctl, err := c.ReadControl()
		if err != nil {
			return b.String(), err
		}
		b.Write(ctl.Reply)
	}
}

type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func FuzzWebSocketControl(f *testing.F) {
	f.Add(clientFrame(0x89, "hello"))
	f.Add(clientFrame(0x82, strings.Repeat("x", 1000)))
	f.Add(append(clientFrame(0x01, "a"), clientFrame(0x88, "\x03\xe8")...))
	f.Add([]byte("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask"))
	f.Fuzz(func(t *testing.T, in []byte) {
		replies, err := controls(in)
		require.Error(t, err)
		require.LessOrEqual(t, len(replies), len(in))
		for len(replies) > 0 { // they are pongs
			require.Equal(t, byte(wsFin|wsPong), replies[0])
			require.LessOrEqual(t, replies[1], byte(125))
			replies = replies[2+replies[1]:]
		}
	})
}

// Those who ping in moderation may do so for days.
func TestWebSocketPingsForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chatter{since: time.Now()}
		for range 10_000 {
			require.NoError(t, c.add(131))
			time.Sleep(10 * time.Second)
		}
		require.Equal(t, errChatter, c.add(1<<30))
	})
}

func FuzzServeHTTP(f *testing.F) {
	f.Add("/live/x.flv", "token=t", "GET")
	f.Add("/live/../x.flv", "vhost=../..", "HEAD")
	f.Add("/\x00\\.mp4", "%zz", "OPTIONS")
	f.Add("0...flv", "", "GET")
	hub := &stream.Hub{}
	f.Fuzz(func(t *testing.T, path, query, method string) {
		var asked string
		s := &Server{Hub: hub, Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			asked = r.Stream
			return nil, nil
		})}
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path, r.URL.RawQuery = method, path, query
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.NotEqual(t, 500, w.Code)
		for _, bad := range []string{"\x00", "\\", "//", "%", "\n"} {
			require.NotContains(t, asked, bad)
		}
		for segment := range strings.SplitSeq(asked, "/") {
			require.NotContains(t, []string{".", ".."}, segment)
		}
		require.LessOrEqual(t, len(asked), 255)
	})
}
