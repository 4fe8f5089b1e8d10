package turn

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// closed reports whether the server has closed a connection.
func closed(t *testing.T, conn net.Conn) bool {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(answerTimeout)))
	_, err := io.Copy(io.Discard, conn)
	n, timeout := err.(net.Error)
	return !timeout || !n.Timeout()
}

func TestStreamInPieces(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocate()
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.bind(0x4000, p.addr))
	var all []byte
	for _, text := range []string{"a", "bb", "ccc", "dddd", strings.Repeat("e", 9000)} {
		all = append(stunwire.AppendChannelHeader(all, 0x4000, len(text)), text...)
		for len(all)&3 != 0 {
			all = append(all, 0)
		}
	}
	all = append(all, c.build(stunwire.Binding, nil)...)
	for _, step := range []int{1, 3, 7, 4096, len(all)} {
		for b := all; len(b) > 0; b = b[min(step, len(b)):] {
			c.write(b[:min(step, len(b))])
		}
		for _, want := range []string{"a", "bb", "ccc", "dddd", strings.Repeat("e", 9000)} {
			got, _ := p.read(answerTimeout)
			require.Equal(t, want, got)
		}
		require.True(t, stunwire.Is(c.next(answerTimeout)))
	}
}

func TestStreamGarbage(t *testing.T) {
	f := start(t, nil)
	for name, b := range map[string]string{
		"HTTP":               "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST":               "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"TLS":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"first bits":         "\xff\xff\x00\x00",
		"no cookie":          "\x00\x01\x00\x00\x21\x12\xa4\x43aaaaaaaaaaaa",
		"odd length":         "\x00\x01\x00\x03\x21\x12\xa4\x42aaaaaaaaaaaabbb",
		"bad attribute":      "\x00\x01\x00\x04\x21\x12\xa4\x42aaaaaaaaaaaa\x00\x06\xff\xff",
		"long first message": "\x00\x03\xff\xfc\x21\x12\xa4\x42aaaaaaaaaaaa",
		"long first channel": "\x40\x00\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			c := f.dialTCP()
			c.write([]byte(b))
			require.True(t, closed(t, c.conn))
		})
	}
}

func TestStreamOfALongFrame(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocate()
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.bind(0x4000, p.addr))
	c.channel(0x4000, strings.Repeat("x", 65535)) // no datagram takes that
	c.channel(0x4000, strings.Repeat("x", 60000))
	got, _ := p.read(answerTimeout)
	require.Len(t, got, 60000)
	require.Equal(t, 0, code(c.refresh(600)))
}

func TestSlowStream(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	at := relayed(t, c.allocate())[0]
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.bind(0x4000, p.addr))
	require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(4096))
	text := strings.Repeat("s", 20000)
	eventually(t, func() bool {
		for range 200 {
			p.write(at, text)
		}
		return f.server.Stats().Drops["slow-client"] > 0
	}, "what a client does not read is dropped")
	c.channel(0x4000, "up")
	got, _ := p.read(answerTimeout)
	require.Equal(t, "up", got, "the way up goes on")
	// What is read is whole messages still.
	seen := 0
	for seen < 5 {
		number, _, data := c.data(answerTimeout)
		require.EqualValues(t, 0x4000, number)
		require.Equal(t, text, data)
		seen++
	}
}

func TestAnswersThatAreNotRead(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocate()
	request := c.build(stunwire.Refresh, lifetimeAttr(600))
	require.NoError(t, c.conn.SetWriteDeadline(time.Now().Add(700*time.Millisecond)))
	sent := 0
	for {
		n, err := c.conn.Write(request)
		sent += n
		if err != nil {
			break // the server has stopped reading
		}
		require.Less(t, sent, 64<<20)
	}
}

func FuzzStream(f *testing.F) {
	frame := append(stunwire.AppendChannelHeader(nil, 0x4000, 5), "hello\x00\x00\x00"...)
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{1})
	f.Add(frame, byte(3))
	f.Add(append(b.Bytes(), frame...), byte(1))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), byte(5))
	f.Add([]byte{0x40, 0, 0xff, 0xff, 1}, byte(2))
	f.Add(binary.BigEndian.AppendUint32([]byte{0, 1, 0xff, 0xfc}, stunwire.Cookie), byte(4))
	s := &Server{Realm: "r"}
	s.init()
	f.Cleanup(func() { s.Close() })
	sh := newShard(s, nil)
	f.Fuzz(func(t *testing.T, b []byte, step byte) {
		c := &streamConn{nc: &discardConnection{}, room: make(chan struct{}, 1)}
		c.path = path{srv: s, kind: overTLS, stream: c, shard: sh}
		c.path.remote = addrPortOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1})
		c.writing = true // nobody is to write
		var whole, pieces int
		whole, need, err := c.frames(append(make([]byte, 0, len(b)), b...))
		if err == nil && (whole > len(b) || need > maxFrame || need < 1) {
			t.Fatalf("used %d of %d, needs %d", whole, len(b), need)
		}
		// The same in pieces: no more is taken, and no other error made.
		c.out = nil
		buf := make([]byte, 0, maxFrame)
		var failed error
		for rest := b; len(rest) > 0 && failed == nil; {
			n := min(int(step)+1, len(rest), cap(buf)-len(buf))
			buf = append(buf, rest[:n]...)
			rest = rest[n:]
			var used int
			used, _, failed = c.frames(buf)
			pieces += used
			buf = buf[:copy(buf, buf[used:])]
		}
		if pieces != whole || (failed == nil) != (err == nil) {
			t.Fatalf("whole: %d, %v; in pieces: %d, %v", whole, err, pieces, failed)
		}
	})
}

type discardConnection struct{ net.Conn }

func (*discardConnection) Write(b []byte) (int, error)      { return len(b), nil }
func (*discardConnection) Close() error                     { return nil }
func (*discardConnection) SetReadDeadline(time.Time) error  { return nil }
func (*discardConnection) SetWriteDeadline(time.Time) error { return nil }
