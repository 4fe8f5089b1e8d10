package turn

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// resident is the memory that the server's process has, in bytes.
func (s *server) resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.PID()))
	require.NoError(t, err)
	var size, resident int64
	_, err = fmt.Sscan(string(b), &size, &resident)
	require.NoError(t, err)
	return resident * int64(os.Getpagesize())
}

// stranger is the k-th of many addresses in a network of its own.
func stranger(network byte, k int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, network, byte(k >> 8), byte(k)})
}

// flood sends one datagram from each of n strangers, and waits until the server
// has nothing more to do.
func (s *server) flood(t *testing.T, network byte, n int, datagram func(k int) []byte) {
	t.Helper()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.at, 3478))
	for k := range n {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(stranger(network, k), 0)), to)
		require.NoError(t, err)
		_, err = c.Write(datagram(k))
		require.NoError(t, err)
		c.Close()
	}
	s.isThere(t)
}

// isThere waits until the server answers: what came before has been read then.
func (s *server) isThere(t *testing.T) {
	t.Helper()
	at := netip.AddrPortFrom(s.at, 3478).String()
	peer.Eventually(t, live, "an answer at "+at, func() bool { return answers(at) })
}

// What nobody has proved costs the server's process no memory that stays: 10,000
// sources with an Allocate each, 10,000 with a ClientHello without a cookie. (A
// server that keeps something for each of them takes 200 MB and more.)
func TestMemoryOfFloods(t *testing.T) {
	t.Parallel()
	const (
		sources = 10_000
		slack   = 12 << 20 // of the collector and the kernel's accounting
	)
	s := startServer(t, "-log-level", "warn")
	hello := clientHello(t)
	allocate := func(k int) []byte {
		id := stunwire.TxID{1}
		binary.BigEndian.PutUint32(id[4:], uint32(k))
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Request), id)
		b.Add(stunwire.AttrRequestedTransport, []byte{17, 0, 0, 0})
		return b.Bytes()
	}
	s.flood(t, 10, 500, allocate)
	s.flood(t, 11, 500, func(int) []byte { return hello })
	before := s.resident(t)
	s.flood(t, 12, sources, allocate)
	after := s.resident(t)
	t.Logf("Allocates: %d KB before, %d KB after", before>>10, after>>10)
	require.Less(t, after-before, int64(slack))
	before = after
	s.flood(t, 13, sources, func(int) []byte { return hello })
	after = s.resident(t)
	t.Logf("ClientHellos: %d KB before, %d KB after", before>>10, after>>10)
	require.Less(t, after-before, int64(slack))
}

// clientHello is the first that a DTLS client sends.
func clientHello(t *testing.T) []byte {
	t.Helper()
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	c, err := dtls.Dial("udp", l.LocalAddr().(*net.UDPAddr), &dtls.Config{InsecureSkipVerify: true}) //nolint:gosec // nobody is there
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = c.HandshakeContext(ctx) }() // nobody answers
	require.NoError(t, l.SetReadDeadline(time.Now().Add(live)))
	b := make([]byte, 2048)
	n, _, err := l.ReadFrom(b)
	require.NoError(t, err)
	return b[:n]
}

// Connections that say nothing, or a part of a message, or of a handshake, cost
// what Server.MaxWaiting says: 10 KB each, 25 with TLS.
func TestMemoryOfSlowConnections(t *testing.T) {
	t.Parallel()
	const (
		connections = 1000
		slack       = 12 << 20
	)
	s := startServer(t, "-log-level", "warn")
	tcp, secure := netip.AddrPortFrom(s.at, 3478).String(), netip.AddrPortFrom(s.at, 5349).String()
	for name, c := range map[string]struct {
		network byte
		to      string
		each    int64
		say     func(net.Conn)
	}{
		"silent":         {20, tcp, 10 << 10, func(net.Conn) {}},
		"part":           {21, tcp, 10 << 10, func(c net.Conn) { _, _ = c.Write([]byte{0, 3, 0, 100, 0x21}) }},
		"part of TLS":    {22, secure, 25 << 10, func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) }},
		"TLS and silent": {23, secure, 25 << 10, func(c net.Conn) { _ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() }}, //nolint:gosec // a certificate of this minute
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			before := s.resident(t)
			for k := range connections {
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(stranger(c.network, k/20), 0)), Timeout: live}
				conn, err := d.Dial("tcp", c.to)
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				require.NoError(t, conn.SetDeadline(time.Now().Add(live)))
				c.say(conn)
			}
			s.isThere(t)
			after := s.resident(t)
			t.Logf("%d KB before, %d KB after", before>>10, after>>10)
			require.Less(t, after-before, connections*c.each+slack)
		})
	}
}
