package dtlsmux

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

func certOf(c *tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }
}

// sealedPair returns a Conn that opens what it seals and keeps what it got in
// Owner, a *[][]byte.
func sealedPair(t testing.TB) *Conn {
	key := make([]byte, 16)
	rand.Read(key)
	h, err := newHalf(key, []byte("salt"))
	require.NoError(t, err)
	c := &Conn{in: h, out: h, Owner: new([][]byte)}
	c.mux = &Mux{
		Send: func([]byte, netip.AddrPort) error { return nil },
		Receive: func(c *Conn, b []byte) {
			got := c.Owner.(*[][]byte)
			*got = append(*got, bytes.Clone(b))
		},
	}
	return c
}

func (c *Conn) got() [][]byte { return *c.Owner.(*[][]byte) }

func (c *Conn) take(b []byte) {
	r, rest, ok := cutRecord(bytes.Clone(b))
	if ok && len(rest) == 0 {
		c.input(&r, time.Now())
	}
}

func TestRecords(t *testing.T) {
	c := sealedPair(t)
	var all []byte
	var err error
	for _, n := range []int{0, 1, 171, 1200, maxPlain} {
		all, err = c.Append(all, bytes.Repeat([]byte{byte(n)}, n))
		require.NoError(t, err)
	}
	_, err = c.Append(nil, make([]byte, maxPlain), []byte{1})
	require.ErrorIs(t, err, errTooLong)
	all, err = c.Append(all, []byte("in "), nil, []byte("parts"))
	require.NoError(t, err)
	for rest := all; len(rest) > 0; {
		r, next, ok := cutRecord(rest)
		require.True(t, ok)
		rest = next
		c.take(r.raw)
	}
	require.Len(t, c.got(), 6)
	require.Len(t, c.got()[3], 1200)
	require.Equal(t, "in parts", string(c.got()[5]))
}

// CVE-2026-26014 of pion/dtls: explicit nonces of AES-GCM by lot, which come
// twice. Ours are the records' numbers.
func TestCVE_2026_26014_NoncesNeverComeTwice(t *testing.T) {
	c := sealedPair(t)
	const each = 2000
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range each {
				b, err := c.Append(nil, []byte("x"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[binary.BigEndian.Uint64(b[headerLen:])] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, seen, 4*each)
}

func TestSequenceNumbersEnd(t *testing.T) {
	c := sealedPair(t)
	c.seq.Store(lastSeq)
	_, err := c.Append(nil, []byte("the last one"))
	require.NoError(t, err)
	_, err = c.Append(nil, []byte("one too many"))
	require.ErrorIs(t, err, errExhausted)
}

func TestReplayedAndForgedRecordsAreDropped(t *testing.T) {
	c := sealedPair(t)
	one, _ := c.Append(nil, []byte("one"))
	two, _ := c.Append(nil, []byte("two"))
	c.take(two)
	c.take(one) // out of order is fine
	c.take(one)
	c.take(two)
	require.Equal(t, [][]byte{[]byte("two"), []byte("one")}, c.got())

	three, _ := c.Append(nil, []byte("three"))
	for i := range three {
		forged := bytes.Clone(three)
		forged[i] ^= 1
		c.take(forged)
	}
	require.Len(t, c.got(), 2)
	c.take(three)
	require.Len(t, c.got(), 3, "forgeries must not move the window")
}

func TestWindow(t *testing.T) {
	var w window
	came := map[uint64]bool{}
	highest := uint64(0)
	seq := uint64(0)
	for i := range uint64(20000) {
		seq = (i*7919)%200 + i/3 // jumps about, drifts up
		want := !came[seq] && (len(came) == 0 || seq+64 > highest)
		require.Equal(t, want, w.fresh(seq), "seq %d, highest %d", seq, highest)
		if want {
			w.mark(seq)
			came[seq] = true
			highest = max(highest, seq)
		}
	}
	w.mark(1 << 40)
	require.False(t, w.fresh(highest))
}

// Alerts count only if they are authentic.
func TestForgedAlertDoesNotEndConn(t *testing.T) {
	s := serve(t, &Mux{}, nil)
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer pc.Close()
	c, err := dial(t, s.addr, pc)
	require.NoError(t, err)
	requireEcho(t, c, "one")
	pc.WriteToUDP([]byte{typeAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40}, s.addr)
	pc.WriteToUDP([]byte{typeAlert, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0}, s.addr)
	requireEcho(t, c, "two")
	require.Zero(t, s.ended())
}

// The certificate of a handshake is the one of that moment.
func TestCertificateReload(t *testing.T) {
	certs := make(chan *tls.Certificate, 2)
	certs <- testCert(t, false, 11)
	certs <- testCert(t, false, 22)
	s := serve(t, &Mux{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return <-certs, nil }}, nil)
	for range 2 {
		c, err := dial(t, s.addr, nil)
		require.NoError(t, err)
		requireEcho(t, c, "hello")
	}
	require.Empty(t, certs)
}

func TestClientCertificate(t *testing.T) {
	client := testCert(t, false, 33)
	s := serve(t, &Mux{ClientAuth: tls.RequireAnyClientCert}, nil)
	_, err := dial(t, s.addr, nil)
	require.Error(t, err)
	c, err := dial(t, s.addr, nil, dtls.WithCertificates(*client))
	require.NoError(t, err)
	requireEcho(t, c, "it is me")
	peer := s.first().ConnectionState().PeerCertificates
	require.Len(t, peer, 1)
	require.EqualValues(t, 33, peer[0].SerialNumber.Int64())
}

func TestSweepAndClose(t *testing.T) {
	s := newScript(t, &Mux{Idle: func(*Conn) time.Duration { return time.Minute }})
	var closed []*Conn
	s.Closed = func(c *Conn) { closed = append(closed, c) }
	idle, busy := sealedPair(t), sealedPair(t)
	for i, c := range []*Conn{idle, busy} {
		c.mux, c.last, c.remote = s.Mux, time.Now(), netip.AddrPortFrom(peerA.Addr(), uint16(i+1))
		if s.peers == nil {
			s.peers = map[netip.AddrPort]peer{}
		}
		s.peers[c.remote] = peer{conn: c}
	}
	idle.last = time.Now().Add(-2 * time.Minute)
	s.Sweep()
	require.Equal(t, []*Conn{idle}, closed)
	require.Equal(t, byte(typeAlert), (<-s.sent)[0])
	_, err := idle.Append(nil, []byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, s.Close())
	require.Equal(t, byte(typeAlert), (<-s.sent)[0])
	_, err = busy.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestDataPathDoesNotAllocate(t *testing.T) {
	c := sealedPair(t)
	c.mux.Receive = func(*Conn, []byte) {}
	payload := make([]byte, 1200)
	buf := make([]byte, 0, 2048)
	now := time.Now()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		b, _ := c.Append(buf[:0], payload[:4], payload[4:])
		r, _, _ := cutRecord(b)
		c.input(&r, now)
	}))
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{172, 1200} {
		b.Run(sizeName(n), func(b *testing.B) {
			c := sealedPair(b)
			payload := make([]byte, n)
			buf := make([]byte, 0, 2048)
			b.ReportAllocs()
			for b.Loop() {
				c.Append(buf[:0], payload)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{172, 1200} {
		b.Run(sizeName(n), func(b *testing.B) {
			c := sealedPair(b)
			c.mux.Receive = func(*Conn, []byte) {}
			payload := make([]byte, n)
			buf := make([]byte, 0, 2048)
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() { // with sealing: a record opens once only
				rec, _ := c.Append(buf[:0], payload)
				r, _, _ := cutRecord(rec)
				c.input(&r, now)
			}
		})
	}
}

func sizeName(n int) string {
	if n < 1000 {
		return "voice"
	}
	return "video"
}

// A pipeConn is one end of an in-memory net.PacketConn for benchmarks.
type pipeConn struct {
	net.PacketConn
	in, out chan []byte
	done    chan struct{}
}

func (p *pipeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case m := <-p.in:
		return copy(b, m), &net.UDPAddr{}, nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

func (p *pipeConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case p.out <- bytes.Clone(b):
	case <-p.done:
	}
	return len(b), nil
}
func (p *pipeConn) Close() error                     { return nil }
func (p *pipeConn) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (p *pipeConn) SetDeadline(time.Time) error      { return nil }
func (p *pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (p *pipeConn) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkPion is what a packet costs to send and to receive with pion's own
// connections, without any socket: what dtlsmux saves.
func BenchmarkPion(b *testing.B) {
	for _, n := range []int{172, 1200} {
		b.Run(sizeName(n), func(b *testing.B) {
			x, y, done := make(chan []byte, 16), make(chan []byte, 16), make(chan struct{})
			cert := testCert(b, false, 1)
			srv, err := dtls.ServerWithOptions(&pipeConn{in: x, out: y, done: done}, &net.UDPAddr{}, dtls.WithCertificates(*cert))
			require.NoError(b, err)
			cli, err := dtls.ClientWithOptions(&pipeConn{in: y, out: x, done: done}, &net.UDPAddr{}, dtls.WithInsecureSkipVerify(true))
			require.NoError(b, err)
			go srv.HandshakeContext(context.Background())
			require.NoError(b, cli.HandshakeContext(context.Background()))
			defer close(done)
			payload, buf := make([]byte, n), make([]byte, 2048)
			b.ReportAllocs()
			for b.Loop() {
				cli.Write(payload)
				srv.Read(buf)
			}
		})
	}
}

// BenchmarkConnMemory reports what an established Conn holds.
func BenchmarkConnMemory(b *testing.B) {
	s := serve(b, &Mux{MaxPerSource: 1000}, nil)
	var before, after runtime.MemStats
	const n = 200
	for b.Loop() {
		s.mu.Lock()
		s.conns = nil
		s.mu.Unlock()
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range n {
			pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(b, err)
			c, err := dial(b, s.addr, pc)
			require.NoError(b, err)
			requireEcho(b, c, "x")
			pc.Close() // without a word; the client is garbage now
			c.Close()
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/conn")
}
