package rawtcp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// pair returns the ends of a loopback connection, both wrapped.
func pair(t testing.TB) (client, server net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	l = Listen(l)
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	client = Wrap(c)
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

func TestConformance(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pair(t)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

// TestMuch: more than the socket takes, both ways at once.
func TestMuch(t *testing.T) {
	a, b := pair(t)
	data := make([]byte, 20<<20)
	_, _ = rand.Read(data)
	go func() {
		_, _ = io.Copy(b, b)
		_ = b.Close()
	}()
	done := make(chan error)
	go func() {
		_, err := a.Write(data)
		done <- err
	}()
	got := make([]byte, len(data))
	_, err := io.ReadFull(a, got)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.True(t, bytes.Equal(data, got))
}

func TestEnds(t *testing.T) {
	a, b := pair(t)
	_, err := a.Write([]byte("last"))
	require.NoError(t, err)
	require.NoError(t, a.Close())
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, "last", string(got))
	_, err = a.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	var again *net.OpError
	require.False(t, errors.As(op.Err, &again), "wrapped twice: %v", err)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(-1)))
	_, err = b.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestTryWrite: it never waits, and goes on where it ended.
func TestTryWrite(t *testing.T) {
	a, b := pair(t)
	c := Find(a)
	if c == nil {
		t.Skip("not on " + runtime.GOOS)
	}
	require.True(t, c.Takes(1000))
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	total := 0
	for {
		n, err := c.TryWrite(block)
		require.NoError(t, err)
		total += n
		if n < len(block) {
			break
		}
	}
	require.False(t, c.Takes(1000), "it is full")
	n, err := c.TryWrite(block)
	require.NoError(t, err)
	require.Zero(t, n)
	got := make([]byte, total)
	_, err = io.ReadFull(b, got)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.Takes(1000) }, 30*time.Second, time.Millisecond)
	n, err = c.TryWrite([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, c.Close())
	_, err = c.TryWrite([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.False(t, c.Takes(1))
}

// TestTakesKeepsItsWord: what it says fits never waits.
func TestTakesKeepsItsWord(t *testing.T) {
	a, _ := pair(t)
	c := Find(a)
	if c == nil {
		t.Skip("not on " + runtime.GOOS)
	}
	for _, size := range []int{1, 100, 1460, 5000, 60000} {
		for range 10000 {
			if !c.Takes(size) {
				break
			}
			n, err := c.TryWrite(make([]byte, size))
			require.NoError(t, err)
			require.Equal(t, size, n)
		}
	}
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestFind(t *testing.T) {
	a, _ := net.Pipe()
	defer a.Close()
	require.Equal(t, a, Wrap(a))
	require.Nil(t, Find(a))
	require.Nil(t, Find(wrapped{a}))
	circle := &wrapped{}
	circle.Conn = circle
	require.Nil(t, Find(circle))
	if runtime.GOOS == "linux" {
		c, _ := pair(t)
		require.Equal(t, c, net.Conn(Find(wrapped{wrapped{c}})))
		require.Nil(t, Find(c.(*Conn).NetConn()))
	}
}

func TestAllocs(t *testing.T) {
	a, b := pair(t)
	if Find(a) == nil {
		t.Skip("not on " + runtime.GOOS)
	}
	p := make([]byte, 100)
	c := Find(a)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = a.Write(p)
		_, _ = b.Read(p)
		_, _ = c.TryWrite(p)
		_, _ = b.Read(p)
		c.Takes(100)
	}))
}
