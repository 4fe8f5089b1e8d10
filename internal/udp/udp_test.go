package udp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plain hides what a net.PacketConn is, so that Wrap cannot take its socket.
type plain struct{ net.PacketConn }

// kinds are the ways to a Conn; all are to behave alike.
var kinds = []struct {
	name string
	open func(t testing.TB, network, addr string, o Options) *Conn
}{
	{"Listen", func(t testing.TB, network, addr string, o Options) *Conn {
		c, err := Listen(network, netip.MustParseAddrPort(addr), o)
		require.NoError(t, err)
		return c
	}},
	{"Wrap", func(t testing.TB, network, addr string, o Options) *Conn {
		return WrapOptions(listenPacket(t, network, addr), o)
	}},
	{"portable", func(t testing.TB, network, addr string, o Options) *Conn {
		return &Conn{pc: listenPacket(t, network, addr), local: netip.MustParseAddrPort("127.0.0.1:1")}
	}},
	{"foreign", func(t testing.TB, network, addr string, o Options) *Conn {
		return Wrap(plain{listenPacket(t, network, addr)})
	}},
}

func listenPacket(t testing.TB, network, addr string) net.PacketConn {
	pc, err := new(net.ListenConfig).ListenPacket(context.Background(), network, addr)
	require.NoError(t, err)
	return pc
}

// localOf returns where a Conn can be sent to.
func localOf(c *Conn) netip.AddrPort {
	if c.pc != nil {
		return addrPort(c.pc.LocalAddr())
	}
	return c.LocalAddr()
}

// forKinds runs a test with each kind of Conn, closed at its end.
func forKinds(t *testing.T, f func(t *testing.T, open func(network, addr string, o Options) *Conn)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			f(t, func(network, addr string, o Options) *Conn {
				c := k.open(t, network, addr, o)
				t.Cleanup(func() { _ = c.Close() })
				return c
			})
		})
	}
}

// A sink is a handler that keeps what it gets.
type sink struct {
	mu sync.Mutex
	seen
}

type seen struct {
	got  []string
	from netip.AddrPort
	mark Mark
	runs int // packets with several datagrams
	icmp []ICMPError
}

// sofar returns a copy of what has come.
func (s *sink) sofar() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.seen
	c.got, c.icmp = slices.Clone(c.got), slices.Clone(c.icmp)
	return c
}

func (s *sink) HandlePackets(ps []Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ps {
		p := &ps[i]
		n := 0
		for d := range p.Datagrams() {
			s.got = append(s.got, string(d))
			n++
		}
		if n != p.Len() {
			panic(fmt.Sprintf("%d datagrams, Len %d", n, p.Len()))
		}
		if n > 1 {
			s.runs++
		}
		s.from, s.mark = p.Addr, p.Mark
	}
}

func (s *sink) HandleICMP(e *ICMPError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.icmp = append(s.icmp, *e)
}

func (s *sink) wait(t *testing.T, what string, ok func(s *sink) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return ok(s)
	}, 5*time.Second, time.Millisecond, what)
}

// runLoop runs a loop until the end of the test.
func runLoop(t testing.TB, l *Loop) {
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
}

func TestLoop(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
			a, b := open("udp", local, Options{}), open("udp", local, Options{GRO: true})
			var l Loop
			var s sink
			require.NoError(t, l.Add(b, &s))
			runLoop(t, &l)
			require.NoError(t, a.WriteTo([]byte("one"), localOf(b)))
			s.wait(t, "a datagram", func(s *sink) bool { return len(s.got) == 1 })
			require.NoError(t, a.WriteTo(nil, localOf(b)))
			require.NoError(t, a.WriteSegments([]byte("aaaabbbbcc"), 4, localOf(b)))
			s.wait(t, "a run", func(s *sink) bool { return len(s.got) == 5 })
			require.Equal(t, []string{"one", "", "aaaa", "bbbb", "cc"}, s.sofar().got)
			require.Equal(t, localOf(a), s.sofar().from)
		})
	}
}

// TestBatch: whatever is put into a batch arrives as it was, in order of each
// destination.
func TestBatch(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		from := open("udp", "127.0.0.1:0", Options{})
		var l Loop
		to := make([]*Conn, 3)
		sinks := make([]sink, len(to))
		for i := range to {
			to[i] = open("udp", "127.0.0.1:0", Options{GRO: true, ReadBuffer: 1 << 20})
			require.NoError(t, l.Add(to[i], &sinks[i]))
		}
		runLoop(t, &l)
		var b Batch
		want := make([][]string, len(to))
		add := func(i int, head, data string) {
			h := b.Scratch(len(head))
			copy(h, head)
			b.Add(localOf(to[i]), Mark{}, h, []byte(data))
			want[i] = append(want[i], head+data)
		}
		for round := range 3 {
			for i := range 200 { // runs of many lengths, more than one call takes
				size := 1 + i/7%5*100 + i%7/6 // the last of 7 is longer
				add(i/13%3, "head", string(bytes.Repeat([]byte{byte('a' + i%26)}, size)))
				if i%50 == 0 {
					add(i%3, "", "")
					add(i%3, "only", "")
					add(i%3, "", "data")
				}
			}
			require.Equal(t, len(want[0])+len(want[1])+len(want[2]), b.Len()*(round+1))
			dropped, err := b.Flush(from)
			require.NoError(t, err)
			require.Zero(t, dropped)
			require.Zero(t, b.Len())
			for i := range sinks {
				sinks[i].wait(t, "everything", func(s *sink) bool { return len(s.got) >= len(want[i]) })
				require.Equal(t, want[i], sinks[i].sofar().got)
			}
		}
	})
}

// TestFront: a header that is written before the data of a packet goes out with
// it.
func TestFront(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		through, to := open("udp", "127.0.0.1:0", Options{}), open("udp", "127.0.0.1:0", Options{})
		from := open("udp", "127.0.0.1:0", Options{})
		var l Loop
		var b Batch
		l.Flush = func() { _, _ = b.Flush(through) }
		require.NoError(t, l.Add(through, HandlerFunc(func(ps []Packet) {
			for i := range ps {
				head := ps[i].Front(4)
				if head == nil { // not on every system
					head = b.Scratch(4)
				}
				require.Nil(t, ps[i].Front(1<<10))
				b.Add(localOf(to), Mark{}, append(head[:0], "head"...), ps[i].Data)
			}
		})))
		var got sink
		require.NoError(t, l.Add(to, &got))
		runLoop(t, &l)
		for _, s := range []string{"1", "", strings.Repeat("x", 1400)} {
			require.NoError(t, from.WriteTo([]byte(s), localOf(through)))
		}
		got.wait(t, "three", func(s *sink) bool { return len(s.got) == 3 })
		require.Equal(t, []string{"head1", "head", "head" + strings.Repeat("x", 1400)}, got.sofar().got)
	})
}

// TestUnsendable: a datagram that cannot be sent does not keep the others.
func TestUnsendable(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		from, to := open("udp4", "127.0.0.1:0", Options{}), open("udp4", "127.0.0.1:0", Options{})
		var l Loop
		var s sink
		require.NoError(t, l.Add(to, &s))
		runLoop(t, &l)
		var b Batch
		b.Add(localOf(to), Mark{}, nil, []byte("first"))
		b.Add(netip.MustParseAddrPort("[::1]:9"), Mark{}, nil, []byte("wrong family"))
		b.Add(localOf(to), Mark{}, nil, make([]byte, 70000)) // longer than any
		b.Add(netip.AddrPort{}, Mark{}, nil, []byte("nowhere"))
		b.Add(localOf(to), Mark{}, nil, []byte("second"))
		dropped, err := b.Flush(from)
		require.Error(t, err)
		require.Equal(t, 3, dropped)
		s.wait(t, "the good ones", func(s *sink) bool { return len(s.got) == 2 })
		require.Equal(t, []string{"first", "second"}, s.sofar().got)
		require.Error(t, from.WriteTo(make([]byte, 70000), localOf(to)))
		require.Error(t, from.WriteTo([]byte("x"), netip.MustParseAddrPort("[::1]:9")))
	})
}

// TestBigDatagrams: runs never exceed what a datagram can have.
func TestBigDatagrams(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		from, to := open("udp", "127.0.0.1:0", Options{}), open("udp", "127.0.0.1:0", Options{GRO: true, ReadBuffer: 4 << 20})
		var l Loop
		var s sink
		require.NoError(t, l.Add(to, &s))
		runLoop(t, &l)
		for i, n := range []int{65507, 65000, 40000} {
			require.NoError(t, from.WriteTo(bytes.Repeat([]byte{byte(i)}, n), localOf(to)))
			s.wait(t, "it", func(s *sink) bool { return len(s.got) == i+1 })
			require.Len(t, s.sofar().got[i], n)
		}
		s.mu.Lock()
		s.got = nil
		s.mu.Unlock()
		require.NoError(t, from.WriteSegments(make([]byte, 70*1400+1), 1400, localOf(to)))
		s.wait(t, "them", func(s *sink) bool { return len(s.got) == 71 })
		require.Len(t, s.sofar().got[0], 1400)
		require.Len(t, s.sofar().got[70], 1)
	})
}

func TestReadBatch(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		a, b := open("udp", "127.0.0.1:0", Options{}), open("udp", "127.0.0.1:0", Options{})
		ps := make([]Packet, 4)
		bufs := make([][]byte, len(ps))
		for i := range ps {
			bufs[i] = make([]byte, 100)
		}
		reset := func() {
			for i := range ps {
				ps[i].Data = bufs[i]
			}
		}
		for i := range 6 {
			require.NoError(t, a.WriteTo(fmt.Append(nil, i), localOf(b)))
		}
		var got []string
		for len(got) < 6 {
			reset()
			n, err := b.ReadBatch(ps)
			require.NoError(t, err)
			require.Positive(t, n)
			for _, p := range ps[:n] {
				got = append(got, string(p.Data))
				require.Equal(t, localOf(a), p.Addr)
			}
		}
		require.Equal(t, []string{"0", "1", "2", "3", "4", "5"}, got)
		n, err := b.ReadBatch(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		done := make(chan error)
		go func() {
			reset()
			_, err := b.ReadBatch(ps)
			done <- err
		}()
		time.Sleep(10 * time.Millisecond) // it is likely to wait by then; it is to return either way
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
		require.ErrorIs(t, b.WriteTo([]byte("x"), localOf(a)), net.ErrClosed)
		dropped, err := new(Batch).Flush(b)
		require.NoError(t, err)
		require.Zero(t, dropped)
		var batch Batch
		batch.Add(localOf(a), Mark{}, nil, []byte("x"))
		dropped, err = batch.Flush(b)
		require.ErrorIs(t, err, net.ErrClosed)
		require.Equal(t, 1, dropped)
		require.NoError(t, b.Close(), "a second time")
	})
}

// TestCloseInLoop: sockets come and go while the loop runs, and their places
// are taken by others.
func TestCloseInLoop(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		from := open("udp", "127.0.0.1:0", Options{})
		var l Loop
		runLoop(t, &l)
		for range 20 {
			var sinks [3]sink
			var conns [3]*Conn
			for i := range conns {
				conns[i] = open("udp", "127.0.0.1:0", Options{})
				require.NoError(t, l.Add(conns[i], &sinks[i]))
			}
			for i, c := range conns {
				require.NoError(t, from.WriteTo(fmt.Append(nil, i), localOf(c)))
			}
			for i := range sinks {
				sinks[i].wait(t, "its own", func(s *sink) bool { return len(s.got) == 1 })
				require.Equal(t, fmt.Sprint(i), sinks[i].sofar().got[0])
			}
			for _, c := range conns {
				require.NoError(t, c.Close())
			}
		}
	})
}

// TestHandlerCloses: a handler may close its own socket and that of another
// that has something to read.
func TestHandlerCloses(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		from, a, b := open("udp", "127.0.0.1:0", Options{}), open("udp", "127.0.0.1:0", Options{}), open("udp", "127.0.0.1:0", Options{})
		done := make(chan struct{})
		var once sync.Once
		h := HandlerFunc(func([]Packet) {
			_ = a.Close()
			_ = b.Close()
			once.Do(func() { close(done) })
		})
		var l Loop
		require.NoError(t, l.Add(a, h))
		require.NoError(t, l.Add(b, h))
		require.NoError(t, from.WriteTo([]byte("x"), localOf(a)))
		require.NoError(t, from.WriteTo([]byte("x"), localOf(b)))
		runLoop(t, &l)
		<-done
		l.Do(func() {})
	})
}

// TestLoopOrder: callbacks never run at the same time, and Flush follows the
// handlers while what they got is still there.
func TestLoopOrder(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		from := open("udp", "127.0.0.1:0", Options{})
		var l Loop
		state := make(map[string]int) // the race detector watches it
		var kept [][]byte
		all := make(chan struct{})
		l.Flush = func() {
			for _, d := range kept {
				state["seen"]++
				if string(d) != "payload" {
					panic(fmt.Sprintf("%q at Flush", d))
				}
			}
			kept = kept[:0]
			if state["seen"] == 150 {
				state["seen"]++
				close(all)
			}
		}
		l.Tick = func(now time.Time) time.Time {
			state["ticks"]++
			return now.Add(time.Millisecond)
		}
		var conns []*Conn
		for range 3 {
			c := open("udp", "127.0.0.1:0", Options{ReadBuffer: 1 << 20})
			conns = append(conns, c)
			require.NoError(t, l.Add(c, HandlerFunc(func(ps []Packet) {
				for i := range ps {
					for d := range ps[i].Datagrams() {
						kept = append(kept, d)
					}
				}
			})))
		}
		runLoop(t, &l)
		for i := range 150 {
			require.NoError(t, from.WriteTo([]byte("payload"), localOf(conns[i%3])))
			l.Do(func() { state["done"]++ })
		}
		select {
		case <-all:
		case <-time.After(5 * time.Second):
			t.Fatal("not all arrived")
		}
		require.Eventually(t, func() (ok bool) {
			l.Do(func() { ok = state["ticks"] > 2 && state["done"] == 150 })
			return ok
		}, 5*time.Second, time.Millisecond)
	})
}

// TestTick: a loop without sockets, one that gets its first later, and Wake.
func TestTick(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		var l Loop
		ticks := make(chan time.Time, 100)
		wait := time.Duration(0)
		l.Tick = func(now time.Time) time.Time {
			ticks <- now
			if wait == 0 {
				return time.Time{}
			}
			return now.Add(wait)
		}
		next := func() time.Time {
			t.Helper()
			select {
			case at := <-ticks:
				return at
			case <-time.After(5 * time.Second):
				t.Fatal("no tick")
				return time.Time{}
			}
		}
		runLoop(t, &l)
		next()
		l.Wake()
		next()
		var s sink
		c := open("udp", "127.0.0.1:0", Options{})
		require.NoError(t, l.Add(c, &s))
		require.NoError(t, c.WriteTo([]byte("to itself"), localOf(c)))
		s.wait(t, "it", func(s *sink) bool { return len(s.got) == 1 })
		for len(ticks) > 0 {
			<-ticks
		}
		l.Do(func() { wait = 20 * time.Millisecond })
		l.Wake()
		first := next()
		require.GreaterOrEqual(t, next().Sub(first), 20*time.Millisecond)
	})
}

func TestLoopCloses(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, string, Options) *Conn) {
		var never Loop
		c := open("udp", "127.0.0.1:0", Options{})
		require.NoError(t, never.Add(c, new(sink)))
		require.NoError(t, never.Close())
		require.NoError(t, never.Close())
		require.ErrorIs(t, never.Run(), net.ErrClosed)
		require.ErrorIs(t, never.Add(open("udp", "127.0.0.1:0", Options{}), new(sink)), net.ErrClosed)
		require.ErrorIs(t, c.WriteTo([]byte("x"), netip.MustParseAddrPort("127.0.0.1:9")), net.ErrClosed)

		var l Loop
		closed := open("udp", "127.0.0.1:0", Options{})
		require.NoError(t, closed.Close())
		if closed.pc == nil {
			require.ErrorIs(t, l.Add(closed, new(sink)), net.ErrClosed)
		}
		c = open("udp", "127.0.0.1:0", Options{})
		require.NoError(t, l.Add(c, new(sink)))
		done := make(chan error)
		go func() { done <- l.Run() }()
		l.Wake()
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
}

func TestListenErrors(t *testing.T) {
	for _, tt := range []struct{ network, addr string }{
		{"tcp", "127.0.0.1:0"}, {"udp4", "[::1]:0"}, {"udp6", "127.0.0.1:0"}, {"udp", "192.0.2.1:1"},
	} {
		_, err := Listen(tt.network, netip.MustParseAddrPort(tt.addr), Options{})
		require.Error(t, err, tt)
	}
	c, err := Listen("udp", netip.MustParseAddrPort("127.0.0.1:0"), Options{})
	require.NoError(t, err)
	defer c.Close()
	_, err = Listen("udp", c.LocalAddr(), Options{})
	var op *net.OpError
	require.True(t, errors.As(err, &op), err)
	zero, err := Listen("udp", netip.AddrPort{}, Options{})
	require.NoError(t, err)
	require.NotZero(t, localOf(zero).Port())
	require.NoError(t, zero.Close())
}

// TestDual: a socket at [::] speaks both, and IPv4 looks like IPv4.
func TestDual(t *testing.T) {
	c, err := Listen("udp", netip.MustParseAddrPort("[::]:0"), Options{GRO: true, Marks: true, ICMP: true})
	require.NoError(t, err)
	var l Loop
	var s sink
	require.NoError(t, l.Add(c, &s))
	runLoop(t, &l)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		s.mu.Lock()
		s.got = nil
		s.mu.Unlock()
		peer, err := Listen("udp", netip.AddrPortFrom(netip.MustParseAddr(ip), 0), Options{})
		require.NoError(t, err)
		defer peer.Close()
		require.NoError(t, peer.WriteTo([]byte("in"), netip.AddrPortFrom(netip.MustParseAddr(ip), localOf(c).Port())))
		s.wait(t, ip, func(s *sink) bool { return len(s.got) == 1 })
		require.Equal(t, peer.LocalAddr(), s.sofar().from)
		require.NoError(t, c.WriteTo([]byte("out"), peer.LocalAddr()))
		ps := []Packet{{Data: make([]byte, 100)}}
		_, err = peer.ReadBatch(ps)
		require.NoError(t, err)
		require.Equal(t, "out", string(ps[0].Data))
	}
}

func TestDatagrams(t *testing.T) {
	for _, tt := range []struct {
		data    string
		segment int
		want    []string
	}{
		{"", 0, []string{""}},
		{"abc", 0, []string{"abc"}},
		{"abc", 3, []string{"abc"}},
		{"abc", 9, []string{"abc"}},
		{"abc", -1, []string{"abc"}},
		{"abcd", 2, []string{"ab", "cd"}},
		{"abcde", 2, []string{"ab", "cd", "e"}},
	} {
		p := Packet{Data: []byte(tt.data), Segment: tt.segment}
		var got []string
		for d := range p.Datagrams() {
			got = append(got, string(d))
		}
		require.Equal(t, tt.want, got)
		require.Equal(t, len(tt.want), p.Len())
		for range p.Datagrams() {
			break // an iterator that is left early
		}
	}
}

// The first Tick needs no packet to come before it.
func TestFirstTick(t *testing.T) {
	for range 50 {
		ticked := make(chan struct{}, 1)
		l := &Loop{Tick: func(time.Time) time.Time {
			ticked <- struct{}{}
			return time.Time{}
		}}
		c, err := Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"), Options{})
		require.NoError(t, err)
		require.NoError(t, l.Add(c, HandlerFunc(func([]Packet) {})))
		done := make(chan error, 1)
		go func() { done <- l.Run() }()
		select {
		case <-ticked:
		case <-time.After(10 * time.Second):
			t.Fatal("no Tick")
		}
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	}
}
