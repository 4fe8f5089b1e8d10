package webrtc

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// framed is a TCP connection whose reads and writes are datagrams.
type framed struct {
	net.Conn
	mu sync.Mutex
}

func (f *framed) Read(b []byte) (int, error) {
	var n [2]byte
	if _, err := io.ReadFull(f.Conn, n[:]); err != nil {
		return 0, net.ErrClosed
	}
	return io.ReadFull(f.Conn, b[:binary.BigEndian.Uint16(n[:])])
}

func (f *framed) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
}

// startTCP serves a Transport on loopback, over UDP and TCP.
func startTCP(t *testing.T, tr *Transport) *Transport {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- tr.Serve(l) }()
	t.Cleanup(func() {
		tr.Close()
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
	start(t, tr)
	require.Eventually(t, func() bool { c, _ := tr.candidates(); return len(c) == 2 }, patience, time.Millisecond)
	return tr
}

// A peer publishes and another plays over TCP alone.
func TestTCP(t *testing.T) {
	tr := startTCP(t, &Transport{})
	c := newClient(t)
	c.tcp = true
	frames, ended := make(chan Frame, 10), make(chan error, 1)
	s, answer, err := tr.Receive(c.offer(audioLine(0, "")), true, Handler{
		Frame: func(_ *Incoming, f Frame) { frames <- f }, Ended: func(err error) { ended <- err },
	})
	require.NoError(t, err)
	require.Regexp(t, `candidate:1 1 udp .*\r\na=candidate:2 1 tcp \d+ 127.0.0.1 \d+ typ host tcptype passive`, string(answer))
	c.dial(answer)
	require.NoError(t, c.connect())
	c.send(opusPT, 2, 7, 960, true, []byte{1, 2})
	require.Equal(t, []byte{1, 2}, wait(t, frames).Data)
	require.Equal(t, c.conn.LocalAddr().String(), s.RemoteAddr().String())

	v := newClient(t)
	v.tcp = true
	audio := &stream.Track{ID: 2, Codec: stream.Opus, Rate: 48000, Channels: 2}
	connected := make(chan struct{})
	s2, answer, err := tr.Send(v.offer(audioLine(0, "a=recvonly\r\n")), []*stream.Track{audio}, Handler{Connected: func() { close(connected) }})
	require.NoError(t, err)
	v.dial(answer)
	require.NoError(t, v.connect())
	wait(t, connected)
	var f Feed
	f.SetTrack(audio, &rtp.Audio{})
	f.Add(s2)
	f.Write(&stream.Frame{Track: audio, Data: []byte{3, 4}}, time.Now())
	v.next(func(p *pion.Packet, _ []rtcp.Packet) bool { return p != nil && string(p.Payload) == "\x03\x04" })

	require.NoError(t, s2.Close())
	_, err = v.dtls.Read(make([]byte, 10))
	require.Error(t, err, "it is told")
	require.NoError(t, c.dtls.Close())
	require.ErrorIs(t, wait(t, ended), ErrHungUp)
	require.Eventually(t, func() bool { return tr.tcpConns() == 0 }, patience, time.Millisecond)
}

func (t *Transport) tcpConns() (n int) {
	t.mu.Lock()
	ports := t.ports
	t.mu.Unlock()
	for _, p := range ports {
		p.loop.Do(func() { n += len(p.tcp) })
	}
	return n
}

// Who says nothing, too much, or nothing of worth over TCP is cut off, and not
// many of one source may be undecided.
func TestTCPStrangers(t *testing.T) {
	tr := startTCP(t, &Transport{Setup: 300 * time.Millisecond})
	all, err := tr.candidates()
	require.NoError(t, err)
	dial := func(say string) net.Conn {
		c, err := net.Dial("tcp4", all[1].String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		_, err = c.Write([]byte(say))
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		return c
	}
	for name, say := range map[string]string{
		"silent": "", "half a frame": "\x00\x05ab", "a long frame": "\x10\x00", "no STUN": "\x00\x02ab", "empty frames": "\x00\x00\x00\x00",
		"DTLS": "\x00\x0e\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01",
	} {
		_, err := dial(say).Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, name)
	}
	var conns []net.Conn
	for range maxStrangers + 1 {
		conns = append(conns, dial(""))
	}
	require.Eventually(t, func() bool { return tr.tcpConns() == 0 }, patience, time.Millisecond)
	for _, c := range conns {
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
	}
}

// A peer that reads nothing costs no more than a bound, and nobody waits for it.
func TestTCPSlowReader(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c := &tcpConn{conn: far}
	c.wake = sync.NewCond(&c.mu)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.write(50 * time.Millisecond)
	}()
	for range 1000 {
		c.send(make([]byte, 1000))
	}
	c.mu.Lock()
	require.LessOrEqual(t, len(c.unsent), maxUnsent)
	c.mu.Unlock()
	<-done
	c.send([]byte{1})
	require.True(t, c.closed)
}
