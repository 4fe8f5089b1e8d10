package dtlsmux

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// hello returns the record of a ClientHello with the given cookie, message and
// record number.
func hello(random byte, cookie []byte, msg uint16, seq uint64) []byte {
	body := binary.BigEndian.AppendUint16(nil, version12)
	for range 32 {
		body = append(body, random)
	}
	body = append(body, 0) // session id
	body = append(body, byte(len(cookie)))
	body = append(body, cookie...)
	body = append(body, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f) // cipher suites
	body = append(body, 1, 0)                         // compression
	body = append(body, 0, 18,
		0, 10, 0, 4, 0, 2, 0, 29, // groups: X25519
		0, 13, 0, 6, 0, 4, 4, 3, 8, 4) // signatures
	n := len(body)
	b := []byte{typeHandshake}
	b = binary.BigEndian.AppendUint16(b, version12)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint16(b, uint16(n+handshakeHeaderLen))
	b = append(b, msgClientHello, byte(n>>16), byte(n>>8), byte(n), byte(msg>>8), byte(msg), 0, 0, 0, byte(n>>16), byte(n>>8), byte(n))
	return append(b, body...)
}

// A script is a Mux whose datagrams are looked at instead of sent.
type script struct {
	*Mux
	sent chan []byte
}

func newScript(t testing.TB, m *Mux) *script {
	cert := testCert(t, false, 1)
	s := &script{Mux: m, sent: make(chan []byte, 1000)}
	m.GetCertificate = certOf(cert)
	m.Send = func(b []byte, _ netip.AddrPort) error {
		select {
		case s.sent <- append([]byte(nil), b...):
		default:
		}
		return nil
	}
	m.Receive = func(*Conn, []byte) {}
	t.Cleanup(func() { m.Close() })
	return s
}

// cookie asks for a cookie and returns it.
func (s *script) cookie(t testing.TB, random byte, from netip.AddrPort) []byte {
	t.Helper()
	s.Input(hello(random, nil, 0, 7), from)
	b := <-s.sent
	for b[0] != typeHandshake || b[headerLen] != msgHelloVerify { // a handshake of before
		b = <-s.sent
	}
	require.Len(t, b, headerLen+handshakeHeaderLen+3+cookieLen)
	return b[len(b)-cookieLen:]
}

func (s *script) handshakesOf() int {
	_, n := s.Len()
	return n
}

var peerA = netip.MustParseAddrPort("192.0.2.1:1000")

func TestHelloVerifyRequest(t *testing.T) {
	s := newScript(t, &Mux{})
	ask := hello(1, nil, 0, 7)
	s.Input(ask, peerA)
	got := <-s.sent
	require.LessOrEqual(t, len(got), len(ask), "amplification")
	require.Equal(t, []byte{22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 7, 0, 35, // the record's number is the asker's
		3, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 23, 0xfe, 0xff, 20}, got[:28])
	conns, handshakes := s.Len()
	require.Zero(t, conns+handshakes)
	require.Empty(t, s.peers)
}

// A client of DTLS 1.0 is told so at once, and without state.
func TestTooOldClientIsRefused(t *testing.T) {
	s := newScript(t, &Mux{})
	ask := hello(1, nil, 0, 3)
	ask[headerLen+handshakeHeaderLen+1] = 0xff
	s.Input(ask, peerA)
	require.Equal(t, []byte{21, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 3, 0, 2, 2, 70}, <-s.sent)
	require.Empty(t, s.peers)
}

// What pion refuses after the cookie reaches the client: the alert's record has
// a number that it has not seen.
func TestAlertOfRefusedHandshake(t *testing.T) {
	s := serve(t, &Mux{NextProtos: []string{"stun.turn"}}, nil)
	begun := time.Now()
	_, err := dial(t, s.addr, nil, dtls.WithSupportedProtocols("h2"))
	require.ErrorContains(t, err, "alert")
	_, err = dial(t, s.addr, nil, dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA))
	require.ErrorContains(t, err, "alert")
	require.Less(t, time.Since(begun), 15*time.Second, "it timed out")
}

// GHSA-5x2p-4vqj-f6m4: state before the cookie.
func TestGHSA_5x2p_4vqj_f6m4_CookielessClientHellosLeaveNothing(t *testing.T) {
	s := newScript(t, &Mux{})
	ask := hello(1, nil, 0, 0)
	flood := func() {
		for i := range 10000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(1024+i))
			copy(ask[headerLen+handshakeHeaderLen+2:], []byte{byte(i), byte(i >> 8)})
			s.Input(ask, from)
			for len(s.sent) > 0 {
				<-s.sent
			}
		}
	}
	flood()
	var before, after runtime.MemStats
	runtime.GC()
	goroutines := runtime.NumGoroutine()
	runtime.ReadMemStats(&before)
	flood()
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapInuse)-int64(before.HeapInuse), int64(256<<10))
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	require.Empty(t, s.peers)
}

func TestCookieIsBound(t *testing.T) {
	s := newScript(t, &Mux{})
	good := s.cookie(t, 1, peerA)
	for name, try := range map[string]struct {
		b    []byte
		from netip.AddrPort
	}{
		"another address":    {hello(1, good, 1, 8), netip.MustParseAddrPort("192.0.2.2:1000")},
		"another port":       {hello(1, good, 1, 8), netip.MustParseAddrPort("192.0.2.1:1001")},
		"another random":     {hello(2, good, 1, 8), peerA},
		"a bit of it wrong":  {hello(1, append(append([]byte(nil), good[:19]...), good[19]^1), 1, 8), peerA},
		"shorter":            {hello(1, good[:19], 1, 8), peerA},
		"first message":      {hello(1, good, 0, 8), peerA},
		"third message":      {hello(1, good, 2, 8), peerA},
		"made up":            {hello(1, make([]byte, cookieLen), 1, 8), peerA},
		"as long as it gets": {hello(1, make([]byte, 255), 1, 8), peerA},
	} {
		s.Input(try.b, try.from)
		require.Zero(t, s.handshakesOf(), name)
		require.Empty(t, s.sent, name)
	}
	s.Input(hello(1, good, 1, 8), peerA)
	require.Equal(t, 1, s.handshakesOf())
	flight := <-s.sent
	require.Equal(t, byte(2), flight[headerLen], "ServerHello")
	require.Equal(t, hello(1, good, 1, 8)[3:11], flight[3:11], "its record has the number of the ClientHello (RFC 6347 4.2.1)")
	require.Equal(t, []byte{0, 1}, flight[headerLen+4:headerLen+6], "and its message is the second")
}

func TestCookieExpires(t *testing.T) {
	g := newGate()
	now := time.Unix(1e9, 0)
	r, _, ok := cutRecord(hello(1, nil, 0, 0))
	require.True(t, ok)
	h, ok := parseClientHello(r.body())
	require.True(t, ok)
	h.cookie = append([]byte(nil), g.helloVerify(&r, &h, peerA, now)[28:]...)
	require.True(t, g.check(&h, peerA, now))
	require.True(t, g.check(&h, peerA, now.Add(59*time.Second)))
	require.False(t, g.check(&h, peerA, now.Add(91*time.Second)))
	require.False(t, g.check(&h, peerA, now.Add(-31*time.Second)))
	require.False(t, newGate().check(&h, peerA, now), "another server's")
}

func TestHandshakesAreCapped(t *testing.T) {
	s := newScript(t, &Mux{MaxHandshakes: 5, MaxPerSource: 3})
	open := func(from netip.AddrPort) {
		c := s.cookie(t, 1, from)
		s.Input(hello(1, c, 1, 8), from)
		for len(s.sent) > 0 {
			<-s.sent
		}
	}
	for port := range uint16(10) {
		open(netip.AddrPortFrom(peerA.Addr(), 1000+port))
	}
	require.Equal(t, 3, s.handshakesOf(), "one address")
	for host := range byte(10) {
		// One machine has all of a /64.
		open(netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: host}), 1000))
	}
	require.Equal(t, 5, s.handshakesOf(), "in all")
}

func TestMaxConns(t *testing.T) {
	s := newScript(t, &Mux{MaxConns: 2})
	for port := range uint16(4) {
		from := netip.AddrPortFrom(peerA.Addr(), 1000+port)
		s.Input(hello(1, s.cookie(t, 1, from), 1, 8), from)
		time.Sleep(10 * time.Millisecond)
		for len(s.sent) > 0 {
			<-s.sent
		}
	}
	require.Equal(t, 2, s.handshakesOf())
	require.Len(t, s.peers, 2)
}

// A client that sends more than any handshake has is cut off.
func TestHandshakeInputIsBounded(t *testing.T) {
	s := newScript(t, &Mux{})
	s.Input(hello(1, s.cookie(t, 1, peerA), 1, 8), peerA)
	require.Equal(t, 1, s.handshakesOf())
	junk := make([]byte, headerLen+1200)
	junk[0], junk[1], junk[2] = typeHandshake, 0xfe, 0xfd
	binary.BigEndian.PutUint16(junk[11:], 1200)
	copy(junk[headerLen:], []byte{11, 0x0f, 0, 0, 0, 2}) // the beginning of a certificate of 983040 bytes
	require.Eventually(t, func() bool {
		s.Input(append([]byte(nil), junk...), peerA)
		return s.handshakesOf() == 0
	}, 30*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.peers) == 0
	}, 30*time.Second, time.Millisecond)
}

func TestHandshakeTimesOut(t *testing.T) {
	s := newScript(t, &Mux{HandshakeTimeout: time.Second})
	goroutines := runtime.NumGoroutine()
	s.Input(hello(1, s.cookie(t, 1, peerA), 1, 8), peerA)
	require.Equal(t, 1, s.handshakesOf())
	for end := time.Now().Add(30 * time.Second); s.handshakesOf() > 0 || runtime.NumGoroutine() > goroutines; {
		require.True(t, time.Now().Before(end), "%d handshakes, %d goroutines of %d", s.handshakesOf(), runtime.NumGoroutine(), goroutines)
		time.Sleep(time.Millisecond)
	}
}

func TestSecondClientHelloTakesThePlaceOnlyLater(t *testing.T) {
	s := newScript(t, &Mux{})
	s.Input(hello(1, s.cookie(t, 1, peerA), 1, 8), peerA)
	first := s.peers[peerA].handshake
	require.NotNil(t, first)
	<-s.sent
	s.Input(hello(2, s.cookie(t, 2, peerA), 1, 9), peerA)
	require.Same(t, first, s.peers[peerA].handshake, "a signature for every datagram is too much")
	first.begun = first.begun.Add(-2 * settled)
	s.Input(hello(2, s.cookie(t, 2, peerA), 1, 9), peerA)
	require.NotSame(t, first, s.peers[peerA].handshake)
}

func TestIs(t *testing.T) {
	require.True(t, Is(hello(1, nil, 0, 0)))
	require.False(t, Is([]byte{22, 0xfe}))
	require.False(t, Is(make([]byte, 20)))         // STUN
	require.False(t, Is([]byte("GET / HTTP/1.1"))) // not even UDP
	require.False(t, Is(append([]byte{0x40}, make([]byte, 20)...)))
}

func FuzzInput(f *testing.F) {
	f.Add(hello(1, nil, 0, 0))
	f.Add(hello(1, make([]byte, cookieLen), 1, 1))
	f.Add([]byte{20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 1, 22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9})
	f.Add([]byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 2, 40})
	f.Add([]byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 5, 0, 24, 0, 1, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	m := newScript(f, &Mux{MaxHandshakes: 4})
	pair := sealedPair(f)
	from := netip.MustParseAddrPort("198.51.100.1:9")
	f.Fuzz(func(t *testing.T, b []byte) {
		m.Input(append([]byte(nil), b...), from)
		for len(m.sent) > 0 {
			require.LessOrEqual(t, len(<-m.sent), len(b))
		}
		if r, _, ok := cutRecord(append([]byte(nil), b...)); ok && r.epoch == 1 {
			pair.input(&r, time.Now())
		}
	})
}

func FuzzClientHello(f *testing.F) {
	f.Add(hello(1, []byte("cookie"), 1, 3)[headerLen:])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseClientHello(b)
		if !ok {
			return
		}
		first := h.appendFirst(nil)
		r, rest, ok := cutRecord(first)
		require.True(t, ok)
		require.Empty(t, rest)
		again, ok := parseClientHello(r.body())
		require.True(t, ok)
		require.Empty(t, again.cookie)
		require.Equal(t, h.random, again.random)
		require.Equal(t, h.after, again.after)
		require.Equal(t, h.core, again.core)
	})
}
