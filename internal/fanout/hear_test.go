package fanout

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tcpPair returns the two ends of a loopback connection.
func tcpPair(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// Players whose peers say something, or leave, are told once, until they have
// heard it.
func TestHear(t *testing.T) {
	server, client := tcpPair(t)
	if !CanHear(server) {
		t.Skip("this system's players are read by goroutines")
	}
	quiet, _ := tcpPair(t)
	var l Log // nothing is ever appended: it is the looking that notices
	defer l.Attach(quiet, Options{Heard: func() { t.Error("it has said nothing") }}).Detach()
	heard := make(chan bool, 100)
	p := l.Attach(server, Options{Heard: func() { heard <- true }})
	defer p.Detach()
	soon := func() {
		t.Helper()
		select {
		case <-heard:
		case <-time.After(30 * time.Second):
			t.Fatal("not noticed")
		}
	}
	say := func(s string) {
		_, err := client.Write([]byte(s))
		require.NoError(t, err)
	}
	say("hello")
	soon()
	say("again")
	time.Sleep(silence + hear)
	require.Empty(t, heard, "it has not heard the first yet")
	p.Hear()
	p.Hear() // no more than once
	soon()
	buf := make([]byte, 100)
	n, err := server.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "helloagain", string(buf[:n]))
	p.Hear()
	time.Sleep(silence + hear)
	require.Empty(t, heard, "all is read")
	say("bye")
	soon()
	p.Hear()
	soon()
	_, err = server.Read(buf)
	require.NoError(t, err)
	p.Hear()
	require.NoError(t, client.Close())
	soon()
	_, err = server.Read(buf)
	require.Equal(t, io.EOF, err)
	p.Hear()
	require.NoError(t, server.Close()) // by somebody who does not know of players
	soon()
	_, err = p.Detach()
	require.NoError(t, err)
	p.Hear()
	s := p.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, 1, s.hearing)
}

// A player that has ended is told nothing, and End ends one that waits.
func TestHearEnd(t *testing.T) {
	server, client := tcpPair(t)
	if !CanHear(server) {
		t.Skip("this system's players are read by goroutines")
	}
	require.False(t, CanHear(struct{ Conn }{}))
	kicked := errors.New("kicked")
	onEnd, end := ended()
	var l Log
	p := l.Attach(server, Options{Heard: func() { t.Error("it is gone") }, OnEnd: onEnd})
	p.End(kicked)
	require.Equal(t, kicked, wait(t, end))
	require.Zero(t, l.Players())
	p.Hear()
	p.End(nil)
	require.NoError(t, client.Close())
	time.Sleep(silence + hear)
	require.Eventually(t, func() bool {
		s := p.shard
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.running && s.hearing == 0
	}, 30*time.Second, time.Millisecond)
}
