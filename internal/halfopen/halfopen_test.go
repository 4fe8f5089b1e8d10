package halfopen

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGate(t *testing.T) {
	g := &Gate{Max: 4, PerSource: 2}
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	require.True(t, g.Enter(a))
	require.True(t, g.Enter(netip.MustParseAddr("::ffff:192.0.2.1")))
	require.False(t, g.Enter(a), "of one source")
	require.True(t, g.Enter(b))
	require.True(t, g.Enter(c))
	require.False(t, g.Enter(c), "in all")
	require.Equal(t, 4, g.Len())
	g.Leave(a)
	g.Leave(a)
	require.True(t, g.Enter(a))
	g.Leave(a)
	g.Leave(b)
	g.Leave(c)
	require.Zero(t, g.Len())
	require.Empty(t, g.sources, "nothing is remembered of who left")

	var open Gate
	for range 100 {
		require.True(t, open.Enter(a))
	}
	require.True(t, open.Enter(netip.Addr{}))
}

func TestGateTakesIPv6PrefixAsOneSource(t *testing.T) {
	g := &Gate{PerSource: 1}
	require.True(t, g.Enter(netip.MustParseAddr("2001:db8::1")))
	require.False(t, g.Enter(netip.MustParseAddr("2001:db8::ffff:1%eth0")))
	require.True(t, g.Enter(netip.MustParseAddr("2001:db8:0:1::1")))
}

// A fakeListener accepts what is put into it.
type fakeListener struct {
	conns  chan any // net.Conn or error
	closed chan struct{}
}

func (f *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		if err, ok := c.(error); ok {
			return nil, err
		}
		return c.(net.Conn), nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *fakeListener) Close() error   { close(f.closed); return nil }
func (f *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

// readOne is an Open that wants one byte.
func readOne(c net.Conn) (net.Conn, error) {
	_, err := c.Read(make([]byte, 1))
	return c, err
}

func TestListenerDoesNotWaitForSilentPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &fakeListener{conns: make(chan any, 10), closed: make(chan struct{})}
		var failed atomic.Int32
		gate := &Gate{Max: 3}
		l := &Listener{Listener: inner, Open: readOne, Timeout: 5 * time.Second, Gate: gate,
			Failed: func(net.Addr, error) { failed.Add(1) }}
		var silent []net.Conn
		for range 2 {
			c, s := net.Pipe()
			silent = append(silent, c)
			inner.conns <- s
		}
		quick, s := net.Pipe()
		inner.conns <- s
		go quick.Write([]byte("x"))
		got, err := l.Accept()
		require.NoError(t, err)
		require.Same(t, s, got)
		synctest.Wait()
		require.Equal(t, 2, gate.Len())

		// The cap: two are silent, one more may open, the next is closed.
		for range 2 {
			c, s := net.Pipe()
			silent = append(silent, c)
			inner.conns <- s
		}
		synctest.Wait()
		require.EqualValues(t, 1, failed.Load())
		_, err = silent[3].Read(make([]byte, 1))
		require.Error(t, err)

		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Zero(t, gate.Len())
		require.EqualValues(t, 4, failed.Load())

		// The deadline was for opening only.
		time.Sleep(time.Hour)
		go quick.Write([]byte("y"))
		_, err = got.Read(make([]byte, 1))
		require.NoError(t, err)

		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		quick.Close()
		got.Close()
	})
}

func TestListenerCloseEndsWhatIsHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &fakeListener{conns: make(chan any, 10), closed: make(chan struct{})}
		l := &Listener{Listener: inner, Open: readOne, Timeout: time.Hour}
		accepted := make(chan error)
		go func() {
			_, err := l.Accept()
			accepted <- err
		}()
		c, s := net.Pipe()
		inner.conns <- s
		synctest.Wait()
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-accepted, net.ErrClosed)
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		// That all goroutines end, synctest.Test checks.
	})
}

func TestListenerPassesErrorsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &fakeListener{conns: make(chan any, 10), closed: make(chan struct{})}
		l := &Listener{Listener: inner, Open: readOne, Timeout: time.Second}
		inner.conns <- temporary{errors.New("too many open files")}
		inner.conns <- errors.New("gone")
		_, err := l.Accept()
		require.EqualError(t, err, "too many open files")
		_, err = l.Accept()
		require.EqualError(t, err, "gone")
		l.Close()
	})
}

func TestAddrOf(t *testing.T) {
	want := netip.MustParseAddr("192.0.2.1")
	require.Equal(t, want, AddrOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}))
	require.Equal(t, want, AddrOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.1]:5"))))
	require.Equal(t, want, AddrOf(&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1)}))
	require.False(t, AddrOf(nil).IsValid())
	require.False(t, AddrOf(&net.UnixAddr{Name: "x"}).IsValid())
}
