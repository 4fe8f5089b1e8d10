package memnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// connect returns both ends of a connection on n: the dialer's, the listener's.
func connect(t *testing.T, n *Net) (client, server net.Conn) {
	t.Helper()
	l, err := n.Listen(":0")
	require.NoError(t, err)
	defer l.Close()
	client, err = n.Dial(context.Background(), "tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestConformance(t *testing.T) {
	for name, n := range map[string]*Net{
		"plain":   New(),
		"small":   {Buffer: 100},
		"latency": {Latency: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				c1, c2 = connect(t, n)
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}

func TestAddresses(t *testing.T) {
	n := New()
	ctx := context.Background()
	for _, tt := range []struct{ listen, dial, addr string }{
		{":1935", "127.0.0.1:1935", "127.0.0.1:1935"},
		{":1936", "anything.example:1936", "127.0.0.1:1936"},
		{"[::]:1937", "[::1]:1937", "127.0.0.1:1937"},
		{"0.0.0.0:1938", ":1938", "127.0.0.1:1938"},
		{"localhost:80", "127.0.0.1:80", "127.0.0.1:80"},
		{"127.0.0.9:80", "127.0.0.9:80", "127.0.0.9:80"},
		{"[::1]:80", "[::1]:80", "[::1]:80"},
		{"edge:80", "edge:80", "127.0.1.2:80"},
	} {
		l, err := n.Listen(tt.listen)
		require.NoError(t, err, tt.listen)
		require.Equal(t, tt.addr, l.Addr().String())
		for _, addr := range []string{tt.dial, l.Addr().String()} {
			c, err := n.Dial(ctx, "tcp", addr)
			require.NoError(t, err, addr)
			s, err := l.Accept()
			require.NoError(t, err)
			require.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
			require.Equal(t, c.RemoteAddr().String(), s.LocalAddr().String())
			require.IsType(t, (*net.TCPAddr)(nil), s.RemoteAddr())
			remote, err := netip.ParseAddrPort(s.RemoteAddr().String())
			require.NoError(t, err)
			require.True(t, remote.Addr().IsLoopback())
		}
	}

	_, err := n.Listen(":1935")
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	_, err = n.Dial(ctx, "tcp", "edge:81")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, err = n.Dial(ctx, "udp", "edge:80")
	require.Error(t, err)
	for _, bad := range []string{"edge", "edge:port", "edge:70000", "edge:-1"} {
		_, err = n.Listen(bad)
		require.Error(t, err, bad)
		_, err = n.Dial(ctx, "tcp", bad)
		require.Error(t, err, bad)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err = n.Dial(done, "tcp", "edge:80")
	require.ErrorIs(t, err, context.Canceled)
}

func TestDialFrom(t *testing.T) {
	n := New()
	l, err := n.Listen(":1935")
	require.NoError(t, err)
	for from, want := range map[string]string{
		"203.0.113.7":      "203.0.113.7",
		"203.0.113.7:5000": "203.0.113.7",
		"2001:db8::1":      "2001:db8::1",
		"":                 "127.0.0.1",
		"camera":           "127.0.1.1",
	} {
		_, err := n.DialFrom(context.Background(), from, ":1935")
		require.NoError(t, err)
		c, err := l.Accept()
		require.NoError(t, err)
		remote := netip.MustParseAddrPort(c.RemoteAddr().String())
		require.Equal(t, want, remote.Addr().String())
		require.NotZero(t, remote.Port())
	}
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		l, err := n.Listen("edge:80")
		require.NoError(t, err)
		waiting, err := n.Dial(t.Context(), "tcp", "edge:80")
		require.NoError(t, err)
		c, err := l.Accept()
		require.NoError(t, err)
		defer c.Close()
		unaccepted, err := n.Dial(t.Context(), "tcp", "edge:80")
		require.NoError(t, err)

		time.AfterFunc(time.Second, func() { l.Close() })
		_, err = unaccepted.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, l.Close(), net.ErrClosed)
		_, err = n.Dial(t.Context(), "tcp", "edge:80")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)

		_, err = waiting.Write([]byte("x")) // what was accepted lives on
		require.NoError(t, err)
		again, err := n.Listen("edge:80")
		require.NoError(t, err)
		require.NoError(t, again.Close())
	})
}

func TestCloseDrains(t *testing.T) {
	for name, n := range map[string]*Net{"plain": New(), "latency": {Latency: time.Second, Bandwidth: 100}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := connect(t, n)
				_, err := a.Write([]byte("last words"))
				require.NoError(t, err)
				require.NoError(t, a.Close())
				require.ErrorIs(t, a.Close(), net.ErrClosed)
				_, err = a.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
				_, err = a.Read(make([]byte, 1))
				require.ErrorIs(t, err, net.ErrClosed)
				require.ErrorIs(t, a.SetDeadline(time.Now()), net.ErrClosed)

				_, err = b.Write([]byte("x"))
				require.ErrorIs(t, err, syscall.EPIPE)
				got, err := io.ReadAll(b)
				require.NoError(t, err)
				require.Equal(t, "last words", string(got))
			})
		})
	}
}

func TestHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := connect(t, New())
		_, err := a.Write([]byte("question"))
		require.NoError(t, err)
		require.NoError(t, a.(interface{ CloseWrite() error }).CloseWrite())
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.EPIPE)
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "question", string(got))
		_, err = b.Write([]byte("answer"))
		require.NoError(t, err)
		require.NoError(t, b.Close())
		got, err = io.ReadAll(a)
		require.NoError(t, err)
		require.Equal(t, "answer", string(got))
	})
}

func TestBufferBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := connect(t, &Net{Buffer: 1000})
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Minute)))
		start := time.Now()
		n, err := a.Write(make([]byte, 1001))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var ne net.Error
		require.True(t, errors.As(err, &ne) && ne.Timeout())
		require.Equal(t, 1000, n)
		require.Equal(t, time.Minute, time.Since(start))

		// A blocked write ends when the peer closes.
		require.NoError(t, a.SetWriteDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { b.Close() })
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.EPIPE)
	})
}

func TestDeadlineMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := connect(t, New())
		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Second)))
		time.AfterFunc(time.Second/2, func() { a.SetReadDeadline(start.Add(3 * time.Second)) })
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
		_, err = a.Read(make([]byte, 1)) // it stays passed
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

// Writes from several goroutines do not mix, though the buffer is smaller
// than one of them.
func TestWritesAreAtomic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := connect(t, &Net{Buffer: 7})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { a.Write(bytes.Repeat([]byte{byte(i)}, 50)) })
		}
		go func() { wg.Wait(); a.Close() }()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Len(t, got, 200)
		for i, v := range got {
			require.Equal(t, got[i/50*50], v)
		}
	})
}

func TestLatencyAndBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Net{Latency: 100 * time.Millisecond, Bandwidth: 10000}
		start := time.Now()
		a, b := connect(t, n)
		require.Equal(t, 200*time.Millisecond, time.Since(start), "dial")

		start = time.Now()
		_, err := a.Write(make([]byte, 20000))
		require.NoError(t, err)
		require.Zero(t, time.Since(start), "the buffer takes it")
		require.NoError(t, a.Close())
		_, err = io.ReadFull(b, make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 246*time.Millisecond, time.Since(start), "one segment of 1460 bytes, one latency")
		_, err = io.Copy(io.Discard, b)
		require.NoError(t, err)
		require.Equal(t, 2100*time.Millisecond, time.Since(start))
	})
}

func TestContents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := connect(t, &Net{Buffer: 10007})
		rng := rand.New(rand.NewPCG(1, 2))
		sent := sha256.New()
		go func() {
			defer a.Close()
			for range 200 {
				p := make([]byte, rng.IntN(3000))
				for i := range p {
					p[i] = byte(rng.Uint32())
				}
				sent.Write(p)
				a.Write(p)
			}
		}()
		got := sha256.New()
		_, err := io.CopyBuffer(got, struct{ io.Reader }{b}, make([]byte, 777))
		require.NoError(t, err)
		require.Equal(t, sent.Sum(nil), got.Sum(nil))
	})
}

func TestHTTPClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		defer n.Close()
		l, err := n.Listen("media.example:80")
		require.NoError(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour) // virtual
			io.WriteString(w, r.Host+r.URL.Path)
		})}
		go srv.Serve(l)
		defer srv.Close()
		res, err := n.HTTPClient().Get("http://media.example/live/demo.flv")
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, "media.example/live/demo.flv", string(body))
	})
}

func TestNetClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n)
		l, err := n.Listen(":1935")
		require.NoError(t, err)
		time.AfterFunc(time.Second, func() { n.Close() })
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		synctest.Wait()
		for _, c := range []net.Conn{a, b} {
			_, err = c.Read(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed)
		}
		require.Empty(t, n.conns)
		require.Empty(t, n.listeners)
	})
}

func BenchmarkThroughput(b *testing.B) {
	n := New()
	l, _ := n.Listen(":0")
	c, _ := n.Dial(context.Background(), "tcp", l.Addr().String())
	s, _ := l.Accept()
	go io.Copy(io.Discard, struct{ io.Reader }{s})
	p := make([]byte, 4096)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		c.Write(p)
	}
	c.Close()
}
