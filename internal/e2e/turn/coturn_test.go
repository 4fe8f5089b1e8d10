package turn

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/turn"
)

// certificate writes a new certificate for example.com and its key as PEM
// files, and returns them with the pool that trusts it.
func certificate(t testing.TB) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	parsed, err := x509.ParseCertificate(public)
	require.NoError(t, err)
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return cert, key, roots
}

// startCoturn starts coturn's server at an address of its own, on the usual
// ports, with the user "user" and the password "pass", and waits for it.
func startCoturn(t *testing.T, flags ...string) (netip.Addr, *x509.CertPool) {
	t.Helper()
	at := newAddr(t)
	cert, key, roots := certificate(t)
	p := peer.Start(t, "turnserver", append([]string{
		"-n", "--no-cli", "--lt-cred-mech", "-u", "user:pass", "-r", "example.org",
		"-L", at.String(), "-E", at.String(), "--cert", cert, "--pkey", key, "--allow-loopback-peers", "--mobility",
		"--log-file", "stdout", "--simple-log", "--pidfile", filepath.Join(t.TempDir(), "pid"), "--userdb", filepath.Join(t.TempDir(), "db"),
	}, flags...)...)
	peer.Eventually(t, live, "coturn at "+at.String(), func() bool {
		require.True(t, p.Running(), "coturn ended")
		return answers(at.String() + ":3478")
	})
	return at, roots
}

// answers reports whether something there answers a STUN Binding request.
func answers(addr string) bool {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_, _ = c.Write([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42runnel-test."))
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := c.Read(make([]byte, 512))
	return err == nil && n >= 20
}

// echo is a UDP peer that sends back what it gets.
func echo(t testing.TB, at string) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", net.JoinHostPort(at, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:n], from)
		}
	}()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// echoTCP is a TCP peer that sends back what it gets.
func echoTCP(t testing.TB, at string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// client returns a client of a server that has the user "user".
func client(at netip.Addr, transport string, roots *x509.CertPool) *turn.Client {
	return &turn.Client{
		Server: at.String(), Transport: transport, Username: "user", Password: "pass",
		TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"},
	}
}

// TestClientCoturn: our client against coturn's server. The same tests against
// our server are TestClient's.
func TestClientCoturn(t *testing.T) {
	t.Parallel()
	at, roots := startCoturn(t)
	clientTests(t, at, at, roots, "udp") // coturn 4.6 loses the request that moves over TCP, and over UDP the first of them
	t.Run("Redirect", func(t *testing.T) {
		t.Parallel()
		from, _ := startCoturn(t, "--alternate-server="+at.String()+":3478")
		c := client(from, "udp", roots)
		conn, err := c.Allocate(t.Context(), nil)
		require.NoError(t, err)
		defer conn.Close()
		require.Equal(t, at, conn.Relayed()[0].Addr())
		exchange(t, conn, echo(t, "127.0.0.1"), 5, 100)
	})
}

// clientTests tests the client with a server that has the user "user", relays
// from an IPv4 address to loopback peers, and knows RFC 8016 over the transports
// of moves.
func clientTests(t *testing.T, at, relay netip.Addr, roots *x509.CertPool, moves ...string) {
	for _, transport := range []string{"udp", "tcp", "tls", "dtls"} {
		c := client(at, transport, roots)
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			conn, err := c.Allocate(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, relay, conn.Relayed()[0].Addr())
			require.True(t, conn.Mapped().Addr().IsLoopback())
			for _, size := range []int{0, 1, 3, 100, 1199, 1400} {
				exchange(t, conn, echo(t, "127.0.0.1"), 20, size)
			}
			require.NoError(t, conn.Close())
			_, err = conn.WriteTo([]byte("x"), conn.LocalAddr())
			require.ErrorIs(t, err, net.ErrClosed)
			_, _, err = conn.ReadFrom(nil)
			require.ErrorIs(t, err, net.ErrClosed)
		})
		t.Run(transport+" refused", func(t *testing.T) {
			t.Parallel()
			wrong := client(at, transport, roots)
			wrong.Password = "wrong"
			_, err := wrong.Allocate(t.Context(), nil)
			require.ErrorIs(t, err, turn.ErrUnauthorized)
			wrong.Username = ""
			_, err = wrong.Allocate(t.Context(), nil)
			require.ErrorIs(t, err, turn.ErrUnauthorized)
		})
	}
	for _, transport := range moves {
		t.Run("move "+transport, func(t *testing.T) {
			t.Parallel()
			c := client(at, transport, roots)
			conn, err := c.Allocate(t.Context(), &turn.AllocateOptions{Mobility: true, Lifetime: 20 * time.Minute})
			require.NoError(t, err)
			defer conn.Close()
			to := echo(t, "127.0.0.1")
			exchange(t, conn, to, 5, 100)
			for range 3 {
				require.NoError(t, conn.Move(t.Context()))
				exchange(t, conn, to, 5, 100)
			}
		})
	}
	for _, transport := range []string{"tcp", "tls"} {
		t.Run("RFC6062 "+transport, func(t *testing.T) {
			t.Parallel()
			l, err := client(at, transport, roots).AllocateTCP(t.Context(), nil)
			require.NoError(t, err)
			defer l.Close()
			to := echoTCP(t, "127.0.0.1")
			active, err := l.Dial(t.Context(), to)
			require.NoError(t, err)
			defer active.Close()
			stream(t, active, 1<<20)
			_, err = l.Dial(t.Context(), to)
			var refused *turn.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, 446, refused.Code)

			require.NoError(t, l.Permit(t.Context(), netip.MustParseAddr("127.0.0.1")))
			for range 3 {
				direct := make(chan net.Conn, 1)
				go func() {
					c, err := net.Dial("tcp", l.Addr().String())
					if err == nil {
						_, err = c.Write([]byte("hello")) // before the client has bound it
					}
					if err != nil {
						t.Error(err)
					}
					direct <- c
				}()
				passive, err := l.Accept()
				require.NoError(t, err)
				b := make([]byte, 5)
				_, err = io.ReadFull(passive, b)
				require.NoError(t, err)
				require.Equal(t, "hello", string(b))
				far := <-direct
				require.Equal(t, far.LocalAddr().String(), passive.RemoteAddr().String())
				go func() {
					_, _ = io.Copy(far, far)
					far.Close()
				}()
				stream(t, passive, 100_000)
				passive.Close()
			}
		})
	}
	t.Run("forbidden", func(t *testing.T) {
		t.Parallel()
		conn, err := client(at, "udp", roots).Allocate(t.Context(), nil)
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(0, 0, 0, 1), Port: 9})
		require.ErrorIs(t, err, turn.ErrForbidden)
	})
	t.Run("even port", func(t *testing.T) {
		t.Parallel()
		c := client(at, "udp", roots)
		first, err := c.Allocate(t.Context(), &turn.AllocateOptions{EvenPort: true, ReserveNext: true})
		require.NoError(t, err)
		defer first.Close()
		require.Zero(t, first.Relayed()[0].Port()%2)
		second, err := c.Allocate(t.Context(), &turn.AllocateOptions{ReservationToken: first.ReservationToken()})
		require.NoError(t, err)
		defer second.Close()
		require.Equal(t, first.Relayed()[0].Port()+1, second.Relayed()[0].Port())
		_, err = c.Allocate(t.Context(), &turn.AllocateOptions{ReservationToken: first.ReservationToken()})
		var refused *turn.Error
		require.ErrorAs(t, err, &refused, "a token counts once") // 508; coturn 4.6 has a number of its own
	})
	t.Run("peers", func(t *testing.T) {
		t.Parallel()
		a, err := client(at, "udp", roots).Allocate(t.Context(), nil)
		require.NoError(t, err)
		defer a.Close()
		b, err := client(at, "tcp", roots).Allocate(t.Context(), nil)
		require.NoError(t, err)
		defer b.Close()
		require.NoError(t, b.Permit(t.Context(), relay))
		go func() { // what an echo does, over a relay of its own
			buf := make([]byte, 2000)
			for {
				n, from, err := b.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = b.WriteTo(buf[:n], from)
			}
		}()
		exchange(t, a, b.Relayed()[0], 50, 500)
	})
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		silent, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		defer silent.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = (&turn.Client{Server: silent.LocalAddr().String()}).Allocate(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// exchange sends packets to an echo and wants all of them back. One at a time
// is on its way, so none may be lost.
func exchange(t testing.TB, conn *turn.PacketConn, to netip.AddrPort, count, size int) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(live)))
	b := make([]byte, size+100)
	for i := range count {
		sent := bytes.Repeat([]byte{byte(i + 1)}, size)
		n, err := conn.WriteTo(sent, net.UDPAddrFromAddrPort(to))
		require.NoError(t, err)
		require.Equal(t, size, n)
		n, from, err := conn.ReadFrom(b)
		require.NoError(t, err, "packet %d of %d bytes", i, size)
		require.Equal(t, to.String(), from.String())
		require.Equal(t, sent, b[:n])
	}
}

// stream sends bytes to an echo and wants them back, so many at a time as fit
// in what is on the way: coturn stops reading one side while the other is full,
// and two that are wait for each other.
func stream(t testing.TB, c net.Conn, size int) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(live)))
	sent := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	got := make([]byte, 0, len(sent))
	for chunk := range slices.Chunk(sent, 16<<10) {
		_, err := c.Write(chunk)
		require.NoError(t, err)
		n, err := io.ReadFull(c, got[len(got):len(got)+len(chunk)])
		require.NoError(t, err, "after %d bytes", len(got)+n)
		got = got[:len(got)+n]
	}
	require.True(t, bytes.Equal(sent, got))
}
