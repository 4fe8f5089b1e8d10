package oneport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/halfopen"
	"github.com/runnel-media/runnel/internal/proxyproto"
)

func testCert(t testing.TB, serial int64) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func tlsConfig(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*testCert(t, 1)}}
}

// echo serves l until the test ends and sends back what comes in; it tells of
// every connection that it accepts.
func echo(t testing.TB, l net.Listener) <-chan net.Conn {
	accepted := make(chan net.Conn, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return accepted
}

func listen(t testing.TB, cfg *tls.Config, o Options) (net.Listener, <-chan net.Conn) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l = Listen(l, cfg, o)
	return l, echo(t, l)
}

func dial(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

const binding = "\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"

func requireEcho(t testing.TB, c net.Conn, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
	b := make([]byte, len(text))
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, text, string(b))
}

// requireClosed reads until the end and expects no byte.
func requireClosed(t testing.TB, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	require.Empty(t, b)
	if ne, ok := err.(net.Error); ok {
		require.False(t, ne.Timeout(), "not closed")
	}
}

func TestPlainAndTLSOnOnePort(t *testing.T) {
	l, accepted := listen(t, tlsConfig(t), Options{})
	plain := dial(t, l)
	requireEcho(t, plain, binding)
	require.IsType(t, &Conn{}, <-accepted)

	secure := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"stun.turn"}})
	requireEcho(t, secure, binding)
	require.Equal(t, "stun.turn", secure.ConnectionState().NegotiatedProtocol)
	require.EqualValues(t, tls.VersionTLS13, secure.ConnectionState().Version)
	server := (<-accepted).(*tls.Conn)
	require.True(t, server.ConnectionState().HandshakeComplete)

	old := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{"stun.nat-discovery"}})
	requireEcho(t, old, binding)
	require.Equal(t, "stun.nat-discovery", old.ConnectionState().NegotiatedProtocol)
}

func TestTLSBelow12IsRefused(t *testing.T) {
	cfg := tlsConfig(t)
	cfg.MinVersion = tls.VersionTLS10
	l, _ := listen(t, cfg, Options{})
	c := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	require.Error(t, c.Handshake())
	require.EqualValues(t, tls.VersionTLS10, cfg.MinVersion, "the caller's config was changed")
}

func TestForeignALPNIsRefused(t *testing.T) {
	l, _ := listen(t, tlsConfig(t), Options{})
	c := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	require.Error(t, c.Handshake())
}

// CVE-2020-6061, CVE-2020-6062, GHSA-m23x-5qf5-988g: HTTP on the port.
func TestGHSA_m23x_5qf5_988g_HTTPIsClosed(t *testing.T) {
	l, accepted := listen(t, tlsConfig(t), Options{})
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
		"\r\n\r\n\x00\r\nQUIT\n",
		"SSH-2.0-x\r\n",
		"\x40\x00\x00\x04data", // ChannelData comes from no stranger
		"\x80\x01",
		"\xff",
	} {
		c := dial(t, l)
		c.Write([]byte(text))
		requireClosed(t, c)
	}
	requireEcho(t, dial(t, l), binding)
	require.IsType(t, &Conn{}, <-accepted)
	require.Empty(t, accepted)
}

func TestOneProtocolOnly(t *testing.T) {
	l, _ := listen(t, tlsConfig(t), Options{TLSOnly: true})
	c := dial(t, l)
	c.Write([]byte(binding))
	requireClosed(t, c)
	requireEcho(t, tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true}), binding)

	for _, cfg := range []*tls.Config{nil, tlsConfig(t)} {
		l, _ = listen(t, cfg, Options{PlainOnly: true})
		require.Error(t, tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true}).Handshake())
		requireEcho(t, dial(t, l), binding)
	}
}

func TestCertificateReload(t *testing.T) {
	var cert atomic.Pointer[tls.Certificate]
	cert.Store(testCert(t, 11))
	l, _ := listen(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil }}, Options{})
	first := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true})
	requireEcho(t, first, binding)
	cert.Store(testCert(t, 22))
	second := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true})
	requireEcho(t, second, binding)
	require.EqualValues(t, 11, first.ConnectionState().PeerCertificates[0].SerialNumber.Int64())
	require.EqualValues(t, 22, second.ConnectionState().PeerCertificates[0].SerialNumber.Int64())
	requireEcho(t, first, "old connections stay")
}

func TestSilentAndDribblingPeersAreEnded(t *testing.T) {
	l, accepted := listen(t, tlsConfig(t), Options{Timeout: 300 * time.Millisecond})
	silent := dial(t, l)
	dribble := dial(t, l)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a TLS record of 16 KB, a byte at a time
		for _, b := range append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3}, make([]byte, 16000)...) {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if _, err := dribble.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	requireEcho(t, dial(t, l), binding) // meanwhile
	<-accepted
	requireClosed(t, silent)
	requireClosed(t, dribble)
	require.Empty(t, accepted)
}

func TestHalfOpenCaps(t *testing.T) {
	l, accepted := listen(t, tlsConfig(t), Options{MaxPerSource: 4})
	var open []net.Conn
	for range 4 {
		open = append(open, dial(t, l))
	}
	requireClosed(t, dial(t, l))
	requireEcho(t, open[0], binding) // not half open any more
	<-accepted
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		c.Write([]byte(binding))
		_, err = io.ReadFull(c, make([]byte, len(binding)))
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
}

// Slow-loris: thousands connect and say nothing, or begin a handshake and stop.
// Memory stays below what the caps say.
func TestSlowLorisMemoryStaysFlat(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 500
	}
	l, accepted := listen(t, tlsConfig(t), Options{MaxHalfOpen: 100, MaxPerSource: 100})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for i := range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		if i%2 == 0 {
			c.Write([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3})
		}
		if i < 100 {
			held = append(held, c)
		} else {
			requireClosed(t, c)
			c.Close()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	use := func(m *runtime.MemStats) int64 { return int64(m.HeapInuse + m.StackInuse) }
	require.Less(t, use(&after)-use(&before), int64(100*64<<10))
	require.Empty(t, accepted)
}

// Behind a load balancer the source is what it says, for the caps too.
func TestProxyProtocolBelow(t *testing.T) {
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l := Listen(proxyproto.Listen(inner, proxyproto.Options{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}),
		tlsConfig(t), Options{MaxPerSource: 1})
	accepted := echo(t, l)
	say := func(src string) net.Conn {
		c := dial(t, l)
		c.Write([]byte("PROXY TCP4 " + src + " 198.51.100.1 1000 3478\r\n"))
		return c
	}
	one := say("192.0.2.1")
	gate := l.(*halfopen.Listener).Gate
	require.Eventually(t, func() bool { return gate.Len() == 1 }, 30*time.Second, time.Millisecond, "it is known whose the first is")
	requireClosed(t, say("192.0.2.1"))
	secure := tls.Client(say("192.0.2.2"), &tls.Config{InsecureSkipVerify: true})
	requireEcho(t, secure, binding)
	require.Equal(t, "192.0.2.2:1000", (<-accepted).RemoteAddr().String())
	requireEcho(t, one, binding)
	require.Equal(t, "192.0.2.1:1000", (<-accepted).RemoteAddr().String())
}

func TestReadAfterFirstByte(t *testing.T) {
	l, accepted := listen(t, nil, Options{})
	c := dial(t, l)
	c.Write([]byte{0})
	s := <-accepted
	require.Equal(t, c.LocalAddr().String(), s.(*Conn).NetConn().RemoteAddr().String())

	a, b := net.Pipe()
	defer a.Close()
	conn := &Conn{Conn: b, first: [1]byte{7}, held: true}
	n, err := conn.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	one := make([]byte, 1)
	n, err = conn.Read(one)
	require.NoError(t, err)
	require.Equal(t, []byte{7}, one[:n])
	go a.Write([]byte("x"))
	n, err = conn.Read(one)
	require.NoError(t, err)
	require.Equal(t, "x", string(one[:n]))

	conn = &Conn{Conn: b, first: [1]byte{7}, held: true}
	b.Close()
	n, err = conn.Read(make([]byte, 9))
	require.NoError(t, err, "the first byte is not lost")
	require.Equal(t, 1, n)
	_, err = conn.Read(one)
	require.Error(t, err)
}

// FuzzOpen gives any bytes to a connection that begins.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(binding))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3})
	f.Add([]byte{22, 3, 3, 0xff, 0xff, 1, 0, 0xff, 0xff, 3, 3})
	cfg := tlsConfig(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		peer, c := net.Pipe()
		go func() {
			peer.SetDeadline(time.Now().Add(time.Second))
			peer.Write(b)
			peer.Close()
		}()
		got, err := open(c, cfg, &Options{})
		c.Close()
		if len(b) == 0 || b[0] >= 4 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.IsType(t, &Conn{}, got)
	})
}
