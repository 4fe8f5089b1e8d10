package dtlsmux

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// testCert returns a self-signed certificate for "localhost".
func testCert(t testing.TB, useRSA bool, serial int64) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	var pub, key any
	if useRSA {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		pub, key = &k.PublicKey, k
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		pub, key = &k.PublicKey, k
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A server is a Mux on a loopback socket that sends back what it gets.
type server struct {
	*Mux
	pc   *net.UDPConn
	addr *net.UDPAddr

	mu     sync.Mutex
	conns  []*Conn
	closed []*Conn
}

// serve starts a server; drop says which datagrams to lose, either way.
func serve(t testing.TB, m *Mux, drop func(in bool, b []byte) bool) *server {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	s := &server{Mux: m, pc: pc, addr: pc.LocalAddr().(*net.UDPAddr)}
	if m.GetCertificate == nil {
		cert := testCert(t, false, 1)
		m.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	}
	m.Send = func(b []byte, to netip.AddrPort) error {
		if drop != nil && drop(false, b) {
			return nil
		}
		_, err := pc.WriteToUDPAddrPort(b, to)
		return err
	}
	m.Receive = func(c *Conn, b []byte) {
		if c.Owner == nil {
			c.Owner = s
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
		}
		c.Write(b)
	}
	m.Closed = func(c *Conn) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = append(s.closed, c)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if drop != nil && drop(true, buf[:n]) {
				continue
			}
			if Is(buf[:n]) {
				m.Input(buf[:n], from)
			}
		}
	}()
	t.Cleanup(func() {
		m.Close()
		pc.Close()
		<-done
	})
	return s
}

func (s *server) first() *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 {
		return nil
	}
	return s.conns[0]
}

func (s *server) ended() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.closed)
}

// dial connects pion's client to a server, from a socket of its own or from.
func dial(t testing.TB, to *net.UDPAddr, from *net.UDPConn, opts ...dtls.ClientOption) (*dtls.Conn, error) {
	t.Helper()
	if from == nil {
		var err error
		from, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		t.Cleanup(func() { from.Close() })
	}
	opts = append([]dtls.ClientOption{dtls.WithInsecureSkipVerify(true), dtls.WithLoggerFactory(Silence{})}, opts...)
	c, err := dtls.ClientWithOptions(from, to, opts...)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

func requireEcho(t testing.TB, c net.Conn, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 4096)
	n, err := c.Read(b)
	require.NoError(t, err)
	require.Equal(t, text, string(b[:n]))
}

func TestHandshakeAndData(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rsa   bool
		suite dtls.CipherSuiteID
	}{
		{"ECDSA AES-128", false, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		{"ECDSA AES-256", false, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		{"RSA AES-128", true, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{"RSA AES-256", true, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert := testCert(t, tc.rsa, 1)
			s := serve(t, &Mux{
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
				NextProtos:     []string{"stun.turn", "stun.nat-discovery"},
			}, nil)
			c, err := dial(t, s.addr, nil, dtls.WithCipherSuites(tc.suite), dtls.WithSupportedProtocols("stun.turn"))
			require.NoError(t, err)
			for i := range 100 {
				requireEcho(t, c, fmt.Sprintf("packet %d", i))
			}
			state := s.first().ConnectionState()
			require.Equal(t, uint16(tc.suite), state.CipherSuite)
			require.Equal(t, "stun.turn", state.NegotiatedProtocol)
			require.EqualValues(t, 0xfefd, state.Version)
			require.NoError(t, c.Close())
			require.Eventually(t, func() bool { return s.ended() == 1 }, 30*time.Second, time.Millisecond)
			conns, handshakes := s.Len()
			require.Zero(t, conns)
			require.Zero(t, handshakes)
		})
	}
}

// Each datagram of a handshake is lost once, in turn, the last one too.
func TestHandshakeSurvivesLossOfAnyDatagram(t *testing.T) {
	for lost := range 8 {
		var mu sync.Mutex
		n := 0
		s := serve(t, &Mux{MTU: 500}, func(bool, []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			n++
			return n == lost+1
		})
		c, err := dial(t, s.addr, nil, dtls.WithFlightInterval(50*time.Millisecond))
		require.NoError(t, err, "datagram %d lost", lost)
		for i := 0; ; i++ { // the datagram may also have been one with data
			c.Write([]byte("again"))
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			b := make([]byte, 100)
			if _, err := c.Read(b); err == nil {
				break
			}
			require.Less(t, i, 10)
		}
		c.Close()
	}
}

func TestFallbackWithoutGate(t *testing.T) {
	s := serve(t, &Mux{noGate: true}, nil)
	c, err := dial(t, s.addr, nil)
	require.NoError(t, err)
	requireEcho(t, c, "pion asked for the cookie")
}

// A new pion/dtls may move the field that cookieOf needs: then dtlsmux falls
// back to caps, and this test says so.
func TestCookieReachable(t *testing.T) {
	require.True(t, cookieReachable())
}

func TestNewHandshakeFromSameAddressReplaces(t *testing.T) {
	s := serve(t, &Mux{}, nil)
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	first, err := dial(t, s.addr, pc)
	require.NoError(t, err)
	requireEcho(t, first, "one")
	crashed := s.first()

	// The client dies without a word and starts again on the same port.
	require.NoError(t, pc.Close())
	pc, err = net.ListenUDP("udp4", pc.LocalAddr().(*net.UDPAddr))
	require.NoError(t, err)
	defer pc.Close()
	second, err := dial(t, s.addr, pc)
	require.NoError(t, err)
	requireEcho(t, second, "two")
	require.Equal(t, 1, s.ended())
	require.Same(t, crashed, s.closed[0])
	_, err = crashed.Write([]byte("late"))
	require.ErrorIs(t, err, net.ErrClosed)
}
