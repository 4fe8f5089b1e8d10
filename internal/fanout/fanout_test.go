package fanout

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the tests send is a sequence of units, so that a reader sees at once
// when one is cut, lost or out of order: kind, number, size, then bytes that
// follow from kind and number.
const unitHeader = 9

type unit struct {
	kind byte // F: frame, P: prefix, C: config, R: reply, H: first
	n    int
	size int
}

func (u unit) String() string { return fmt.Sprintf("%c%d", u.kind, u.n) }

func appendUnit(dst []byte, kind byte, n, size int) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	for size > 0 {
		k := min(size, len(pattern)-251)
		dst = append(dst, filler(kind, n)[:k]...)
		n += k
		size -= k
	}
	return dst
}

// pattern is long enough to compare much at once, which the race detector likes.
var pattern = func() (p [16 << 10]byte) {
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}()

func filler(kind byte, n int) []byte { return pattern[(int(kind)+n)%251:] }

func makeUnit(kind byte, n, size int) []byte {
	return appendUnit(make([]byte, 0, unitHeader+size), kind, n, size)
}

// readUnit returns io.EOF between two units and io.ErrUnexpectedEOF within one.
func readUnit(r *bufio.Reader) (u unit, err error) {
	var h [unitHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return unit{}, err
	}
	u = unit{h[0], int(binary.BigEndian.Uint32(h[1:])), int(binary.BigEndian.Uint32(h[5:]))}
	for i := 0; i < u.size; {
		b, err := r.Peek(min(u.size-i, r.Size()))
		if err != nil {
			return u, io.ErrUnexpectedEOF
		}
		if !bytes.Equal(b, filler(u.kind, u.n+i)[:len(b)]) {
			return u, fmt.Errorf("%v: not its own bytes after %d of %d", u, i, u.size)
		}
		i += len(b)
		_, _ = r.Discard(len(b))
	}
	return u, nil
}

// readAll reads units until the end of the connection.
func readAll(c net.Conn) (all []unit, err error) {
	r := bufio.NewReader(c)
	for {
		u, err := readUnit(r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return all, err
		}
		all = append(all, u)
	}
}

// log makes a log with a source that numbers its frames.
type source struct {
	*Log
	frames  int
	version int
	clock   func() time.Time
}

func newSource(l *Log) *source { return &source{Log: l, clock: time.Now} }

// frame appends a frame whose unit has size bytes in all.
func (s *source) frame(size int) {
	s.append(size, size)
}

func (s *source) append(size, guess int) {
	n := s.frames
	s.frames++
	s.Append(s.clock(), guess, func(b []byte) []byte { return appendUnit(b, 'F', n, size-unitHeader) })
}

// key makes the next frame a point.
func (s *source) key() {
	s.Mark(Point{Prefix: makeUnit('P', s.version, 20), Config: makeUnit('C', s.version, 10), Version: s.version})
}

// A meter counts.
type meter struct{ out, skips, skipped atomic.Int64 }

func (m *meter) AddOut(n int) { m.out.Add(int64(n)) }
func (m *meter) AddSkip(n int) {
	m.skips.Add(1)
	m.skipped.Add(int64(n))
}

// A transport makes connections. The server's side is what a player gets.
type transport struct {
	name string
	raw  bool // written to without blocking
	dial func(t testing.TB) (server Conn, client net.Conn)
}

var transports = []transport{
	{"pipe", false, dialPipe},
	{"tls", false, dialTLS},
	{"tcp", runtime.GOOS == "linux", dialTCP},
	{"tcp-goroutine", false, func(t testing.TB) (Conn, net.Conn) {
		server, client := dialTCP(t)
		return plain{server.(net.Conn)}, client
	}},
}

// plain hides that a connection has a socket.
type plain struct{ net.Conn }

func overAll(t *testing.T, test func(t *testing.T, tr transport)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) { test(t, tr) })
	}
}

func dialPipe(t testing.TB) (Conn, net.Conn) {
	server, client := net.Pipe()
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

func dialTCP(t testing.TB) (Conn, net.Conn) { return dialBuffered(t, 0) }

// dialBuffered makes a TCP connection with small buffers, unless size is 0.
func dialBuffered(t testing.TB, size int) (Conn, net.Conn) {
	lc := net.ListenConfig{}
	d := net.Dialer{}
	if size > 0 {
		d.Control = func(_, _ string, c syscall.RawConn) error { return setReadBuffer(c, size) }
	}
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err := ln.Accept()
	require.NoError(t, err)
	if size > 0 {
		require.NoError(t, server.(*net.TCPConn).SetWriteBuffer(size))
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

func dialTLS(t testing.TB) (Conn, net.Conn) {
	raw, client := dialTCP(t)
	server := tls.Server(raw.(net.Conn), &tls.Config{Certificates: []tls.Certificate{certificate()}})
	tlsClient := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- tlsClient.Handshake() }()
	require.NoError(t, server.Handshake())
	require.NoError(t, <-done)
	return server, tlsClient
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// ended returns an OnEnd and a channel with what it was told. A second call
// panics.
func ended() (func(error), <-chan error) {
	c := make(chan error, 1)
	var calls atomic.Int32
	return func(err error) {
		if calls.Add(1) > 1 {
			panic("OnEnd was called again")
		}
		c <- err
	}, c
}

func wait(t testing.TB, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(t, "nothing happened")
		return nil
	}
}

// settleGoroutines waits until no more than n goroutines are left.
func settleGoroutines(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<20)
			require.Failf(t, "goroutines left", "%d, not %d\n%s", runtime.NumGoroutine(), n, b[:runtime.Stack(b, true)])
		}
	}
}
