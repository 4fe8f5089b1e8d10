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

func TestHear(t *testing.T) {
	errTalk := errors.New("peer talks")
	kicked := errors.New("kicked")
	for _, c := range []struct {
		name string
		do   func(p *Player, client *net.TCPConn)
		want error
	}{
		{"the peer leaves", func(_ *Player, client *net.TCPConn) { client.Close() }, io.EOF},
		{"the peer talks", func(_ *Player, client *net.TCPConn) { client.Write([]byte("hello")) }, errTalk},
		{"End", func(p *Player, _ *net.TCPConn) { p.End(kicked) }, kicked},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server, client := tcpPair(t)
			if !CanHear(server) {
				t.Skip("this system's players are read by goroutines")
			}
			ended := make(chan error, 1)
			var l Log // nothing is ever appended: it is the looking that notices
			p := l.Attach(server, Options{
				Heard: func(n int) error { require.Positive(t, n); return errTalk },
				OnEnd: func(err error) { ended <- err },
			})
			c.do(p, client)
			select {
			case err := <-ended:
				require.ErrorIs(t, err, c.want)
			case <-time.After(10 * time.Second):
				t.Fatal("not noticed")
			}
			require.Zero(t, l.Players())
			require.NotPanics(t, func() { p.End(nil) })
		})
	}
	require.False(t, CanHear(struct{ Conn }{}))
}
