package udp

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func listen(t testing.TB, addr string, o Options) *Conn {
	c, err := Listen("udp", netip.MustParseAddrPort(addr), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestRuns: a run is one message on the whole way, where the kernel can.
func TestRuns(t *testing.T) {
	from, to := listen(t, "127.0.0.1:0", Options{}), listen(t, "127.0.0.1:0", Options{GRO: true})
	if !from.sys.segments.Load() {
		t.Skip("no UDP_SEGMENT in this kernel")
	}
	if v, err := unix.GetsockoptInt(to.sys.fd, unix.IPPROTO_UDP, unix.UDP_GRO); err != nil || v == 0 {
		t.Skip("no UDP_GRO in this kernel")
	}
	var l Loop
	var s sink
	require.NoError(t, l.Add(to, &s))
	runLoop(t, &l)
	require.NoError(t, from.WriteSegments(make([]byte, 7*1200), 1200, to.LocalAddr()))
	s.wait(t, "them", func(s *sink) bool { return len(s.got) == 7 })
	require.Equal(t, 1, s.sofar().runs)
}

// TestWithoutSegments: what a kernel without UDP_SEGMENT, a device without
// checksum offload or a small MTU does not take at once goes one by one.
func TestWithoutSegments(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, c *Conn){
		"no UDP_SEGMENT": func(_ *testing.T, c *Conn) { c.sys.segments.Store(false) },
		// EINVAL for every run, as from a path whose MTU is too small.
		"EINVAL": func(t *testing.T, c *Conn) {
			require.NoError(t, unix.SetsockoptInt(c.sys.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := listen(t, "127.0.0.1:0", Options{}), listen(t, "127.0.0.1:0", Options{GRO: true})
			spoil(t, from)
			var l Loop
			var s sink
			require.NoError(t, l.Add(to, &s))
			runLoop(t, &l)
			var b Batch
			b.Add(to.LocalAddr(), Mark{TTL: 9}, []byte("he"), []byte("ad"))
			b.Add(to.LocalAddr(), Mark{TTL: 9}, nil, []byte("data"))
			b.Add(to.LocalAddr(), Mark{}, nil, []byte("rest"))
			dropped, err := b.Flush(from)
			require.NoError(t, err)
			require.Zero(t, dropped)
			s.wait(t, "them", func(s *sink) bool { return len(s.got) == 3 })
			require.Equal(t, []string{"head", "data", "rest"}, s.sofar().got)
			require.Zero(t, s.sofar().runs)
		})
	}
}

// TestMarks: TOS and TTL arrive as they were asked for.
func TestMarks(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		from, to := listen(t, local, Options{}), listen(t, local, Options{Marks: true, GRO: true})
		var l Loop
		var s sink
		require.NoError(t, l.Add(to, &s))
		runLoop(t, &l)
		for i, m := range []Mark{{TOS: 0xB9, TTL: 7}, {TOS: 0x02}, {TTL: 200}, {}} {
			var b Batch
			b.Add(to.LocalAddr(), m, nil, []byte("a"))
			b.Add(to.LocalAddr(), m, nil, []byte("b"))
			dropped, err := b.Flush(from)
			require.NoError(t, err)
			require.Zero(t, dropped)
			s.wait(t, "both", func(s *sink) bool { return len(s.got) == 2*(i+1) })
			if m.TTL == 0 {
				m.TTL = 64 // the default of loopback
			}
			require.Equal(t, m, s.sofar().mark)
		}
	}
}

// TestSetMark: the default of a socket changes, and goes back.
func TestSetMark(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		from, to := listen(t, local, Options{}), listen(t, local, Options{Marks: true})
		var l Loop
		var s sink
		require.NoError(t, l.Add(to, &s))
		runLoop(t, &l)
		for i, m := range []Mark{{TOS: 0xB8, TTL: 7}, {TTL: 9}, {}} {
			require.NoError(t, from.SetMark(m))
			require.NoError(t, from.WriteTo([]byte("x"), to.LocalAddr()))
			s.wait(t, "it", func(s *sink) bool { return len(s.got) == i+1 })
			if m.TTL == 0 {
				m.TTL = 64
			}
			require.Equal(t, m, s.sofar().mark)
		}
		require.NoError(t, from.Close())
		require.ErrorIs(t, from.SetMark(Mark{}), net.ErrClosed)
	}
}

// TestICMP: the network's word on what was sent comes to the handler, and the
// socket goes on.
func TestICMP(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		t.Run(local, func(t *testing.T) {
			from := listen(t, local, Options{ICMP: true})
			ip := from.LocalAddr().Addr()
			if ip.IsUnspecified() {
				ip = netip.MustParseAddr("127.0.0.1") // IPv4 of a dual socket
			}
			gone := listen(t, netip.AddrPortFrom(ip, 0).String(), Options{})
			there := listen(t, netip.AddrPortFrom(ip, 0).String(), Options{})
			require.NoError(t, gone.Close())
			var l Loop
			var s, got sink
			require.NoError(t, l.Add(from, &s))
			require.NoError(t, l.Add(there, &got))
			runLoop(t, &l)
			for range 3 {
				require.NoError(t, from.WriteTo([]byte("x"), gone.LocalAddr()))
				require.NoError(t, from.WriteTo([]byte("y"), there.LocalAddr()))
			}
			s.wait(t, "reports", func(s *sink) bool { return len(s.icmp) >= 1 })
			got.wait(t, "the rest", func(s *sink) bool { return len(s.got) == 3 })
			e := s.sofar().icmp[0]
			require.Equal(t, gone.LocalAddr(), e.Peer)
			require.Equal(t, ip, e.From)
			if ip.Is4() {
				require.Equal(t, []any{false, uint8(3), uint8(3)}, []any{e.V6, e.Type, e.Code}, "port unreachable of RFC 792")
			} else {
				require.Equal(t, []any{true, uint8(1), uint8(4)}, []any{e.V6, e.Type, e.Code}, "port unreachable of RFC 4443")
			}
			require.Contains(t, e.Error(), gone.LocalAddr().String())
		})
	}
}

// TestWithoutICMP: a socket that did not ask is not disturbed.
func TestWithoutICMP(t *testing.T) {
	from := listen(t, "127.0.0.1:0", Options{})
	gone := listen(t, "127.0.0.1:0", Options{})
	require.NoError(t, gone.Close())
	var l Loop
	var s sink
	require.NoError(t, l.Add(from, &s))
	runLoop(t, &l)
	for range 10 {
		require.NoError(t, from.WriteTo([]byte("x"), gone.LocalAddr()))
	}
	require.NoError(t, from.WriteTo([]byte("self"), from.LocalAddr()))
	s.wait(t, "its own", func(s *sink) bool { return len(s.got) == 1 })
	require.Empty(t, s.sofar().icmp)
}

// TestDontFragment: what is too big for the path is refused, and the kernel's
// guess of the path counts.
func TestDontFragment(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		c := listen(t, local, Options{})
		for _, on := range []bool{true, false} {
			require.NoError(t, c.SetDontFragment(on))
			level, name, want := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
			if c.LocalAddr().Addr().Is6() {
				level, name = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
			}
			if on {
				want = unix.IP_PMTUDISC_DO
			}
			v, err := unix.GetsockoptInt(c.sys.fd, level, name)
			require.NoError(t, err)
			require.Equal(t, want, v)
		}
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.SetDontFragment(true), net.ErrClosed)
	}
}

// TestReusePort: sockets share an address, and a sender stays with one.
func TestReusePort(t *testing.T) {
	a := listen(t, "127.0.0.1:0", Options{ReusePort: true})
	b := listen(t, a.LocalAddr().String(), Options{ReusePort: true})
	var l Loop
	var sinks [2]sink
	require.NoError(t, l.Add(a, &sinks[0]))
	require.NoError(t, l.Add(b, &sinks[1]))
	runLoop(t, &l)
	for range 64 {
		from := listen(t, "127.0.0.1:0", Options{})
		require.NoError(t, from.WriteTo([]byte("x"), a.LocalAddr()))
	}
	total := func() (n [2]int) {
		for i := range sinks {
			sinks[i].mu.Lock()
			n[i] = len(sinks[i].got)
			sinks[i].mu.Unlock()
		}
		return n
	}
	require.Eventually(t, func() bool { n := total(); return n[0]+n[1] == 64 }, 5*time.Second, time.Millisecond)
	require.NotContains(t, total(), 0, "all went to one")
}

// TestTakesOver: the UDPConn of Wrap is closed, its socket is not.
func TestTakesOver(t *testing.T) {
	pc := listenPacket(t, "udp", "127.0.0.1:0")
	at := addrPort(pc.LocalAddr())
	c := Wrap(pc)
	require.Nil(t, c.pc)
	require.Equal(t, at, c.LocalAddr())
	_, _, err := pc.ReadFrom(nil)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = Listen("udp", at, Options{})
	require.ErrorIs(t, err, unix.EADDRINUSE)
	require.NoError(t, c.Close())
	again, err := Listen("udp", at, Options{})
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// TestNothingLeft: a loop that has ended has no descriptors open, whenever it
// was closed.
func TestNothingLeft(t *testing.T) {
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(names)
	}
	listen(t, "127.0.0.1:0", Options{}).Close() // what the runtime opens for itself
	before := open()
	for i := range 60 {
		var l Loop
		require.NoError(t, l.Add(listen(t, "127.0.0.1:0", Options{}), new(sink)))
		done := make(chan error)
		if i%3 > 0 {
			go func() { done <- l.Run() }()
		}
		if i%3 > 1 {
			l.Do(func() {})
			time.Sleep(time.Millisecond) // it waits for packets by then, or does not yet: both are to work
		}
		require.NoError(t, l.Close())
		if i%3 > 0 {
			require.ErrorIs(t, <-done, net.ErrClosed)
		}
	}
	require.LessOrEqual(t, open(), before)
}

// relayer reads a and sends what it reads to a peer, with a header.
type relayer struct {
	batch *Batch
	peer  netip.AddrPort
	n     *int
}

func (r *relayer) HandlePackets(ps []Packet) {
	for i := range ps {
		for d := range ps[i].Datagrams() {
			h := r.batch.Scratch(4)
			copy(h, "head")
			r.batch.Add(r.peer, Mark{}, h, d)
			*r.n++
		}
	}
}

// newRelay makes a loop that relays from one socket by another, and returns
// what sends a burst through it and waits until it is out.
func newRelay(t testing.TB, burst []byte, segment int) (send func()) {
	client := listen(t, "127.0.0.1:0", Options{})
	in := listen(t, "127.0.0.1:0", Options{GRO: true, ReadBuffer: 1 << 20})
	out := listen(t, "127.0.0.1:0", Options{})
	peer := listen(t, "127.0.0.1:0", Options{}) // its buffer fills up: what is sent is lost
	var l Loop
	var batch Batch
	n, want := 0, 0
	relayed := make(chan struct{}, 1)
	l.Flush = func() {
		if dropped, err := batch.Flush(out); err != nil || dropped > 0 {
			panic(err)
		}
		if n == want && want > 0 {
			want = 0
			relayed <- struct{}{}
		}
	}
	require.NoError(t, l.Add(in, &relayer{&batch, peer.LocalAddr(), &n}))
	runLoop(t, &l)
	var b Batch
	count := (len(burst) + segment - 1) / segment
	begin := func() { n, want = 0, count }
	return func() {
		l.Do(begin)
		for rest := burst; len(rest) > 0; rest = rest[min(segment, len(rest)):] {
			b.Add(in.LocalAddr(), Mark{}, nil, rest[:min(segment, len(rest))])
		}
		if dropped, err := b.Flush(client); err != nil || dropped > 0 {
			panic(err)
		}
		<-relayed
	}
}

func TestAllocs(t *testing.T) {
	send := newRelay(t, make([]byte, 7*1200), 1200)
	for range 10 {
		send()
	}
	runtime.GC()
	require.Zero(t, testing.AllocsPerRun(200, send))
	c := listen(t, "127.0.0.1:0", Options{})
	p := []byte("x")
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = c.WriteTo(p, c.LocalAddr()) }))
	ps := []Packet{{}}
	buf := make([]byte, 100)
	read := func() {
		ps[0].Data = buf
		_ = c.WriteTo(p, c.LocalAddr())
		if _, err := c.ReadBatch(ps); err != nil {
			panic(err)
		}
	}
	read()
	require.LessOrEqual(t, testing.AllocsPerRun(100, read), 4.0, "ReadBatch makes what the poller calls")
}

func BenchmarkRelay(b *testing.B) {
	for _, bb := range []struct {
		name           string
		count, segment int
	}{{"video", 7, 1200}, {"voice", 1, 172}} {
		b.Run(bb.name, func(b *testing.B) {
			send := newRelay(b, make([]byte, bb.count*bb.segment), bb.segment)
			b.ReportAllocs()
			b.ReportMetric(float64(bb.count), "packets/op")
			for b.Loop() {
				send()
			}
		})
	}
}

// FuzzControl: whatever stands in control messages, nothing breaks. The kernel
// writes them, but some of what it writes comes from the network.
func FuzzControl(f *testing.F) {
	var b [receiveControl]byte
	at := putControl(b[:], 0, unix.IPPROTO_UDP, unix.UDP_GRO, 4, 1200)
	at = putControl(b[:], at, unix.IPPROTO_IP, unix.IP_TTL, 4, 64)
	at = putControl(b[:], at, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4, 0xB8)
	f.Add(b[:at])
	f.Add(b[:at-3])
	f.Add([]byte{})
	var e [64]byte
	n := putControl(e[:], 0, unix.IPPROTO_IP, unix.IP_RECVERR, 32, 111)
	f.Add(e[:n])
	f.Fuzz(func(t *testing.T, oob []byte) {
		p := Packet{Data: make([]byte, 3000)}
		p.readControl(oob)
		if p.Segment < 0 {
			p.Segment = 0
		}
		n := 0
		for d := range p.Datagrams() {
			n += len(d)
		}
		require.Len(t, p.Data, n)
		_, _ = parseICMP(oob)
	})
}

// A Loop that rests reads what came meanwhile at once, all of it, and goes on.
func TestLoopRests(t *testing.T) {
	c, err := Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"), Options{})
	require.NoError(t, err)
	from, err := Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"), Options{})
	require.NoError(t, err)
	defer from.Close()
	const datagrams = 200
	got, rests, all := 0, 0, make(chan struct{})
	l := &Loop{Rest: func() time.Duration {
		rests++
		return 2 * time.Millisecond
	}}
	require.NoError(t, l.Add(c, HandlerFunc(func(ps []Packet) {
		for i := range ps {
			got += ps[i].Len()
		}
		if got == datagrams {
			close(all)
		}
	})))
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	for i := range datagrams {
		require.NoError(t, from.WriteTo([]byte{byte(i)}, c.LocalAddr()))
		if i%50 == 49 {
			time.Sleep(time.Millisecond)
		}
	}
	<-all
	l.Do(func() { require.NotZero(t, rests) })
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}
