package stun

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// TestKindOf is the table of RFC 7983 Section 7.
func TestKindOf(t *testing.T) {
	for first := range 256 {
		want := kindOther
		switch {
		case first <= 3:
			want = kindNone // one byte is not STUN
		case first >= 20 && first <= 63:
			want = kindDTLS
		case first >= 64 && first <= 79:
			want = kindChannel
		case first >= 128 && first <= 191:
			want = kindMedia
		}
		require.Equal(t, want, kindOf([]byte{byte(first)}), first)
	}
	require.Equal(t, kindSTUN, kindOf(binding(nil)))
	require.Equal(t, kindNone, kindOf(nil))
}

// got collects what handlers get.
type got struct {
	mu    sync.Mutex
	calls [][]string
}

func (g *got) handler(name string) Handler {
	return func(ps []Packet) {
		g.mu.Lock()
		defer g.mu.Unlock()
		call := []string{name}
		for _, p := range ps {
			call = append(call, string(p.Data))
		}
		g.calls = append(g.calls, call)
	}
}

func (g *got) take() [][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.calls
	g.calls = nil
	return calls
}

func check(user string) []byte {
	return binding(func(b *stunwire.Builder) {
		b.AddString(stunwire.AttrUsername, user)
		b.AddIntegrity(stunwire.NewKey([]byte("secret")))
	})
}

func TestMuxDispatch(t *testing.T) {
	var g got
	m := &Mux{STUN: g.handler("stun"), DTLS: g.handler("dtls"), Channel: g.handler("channel"), Media: g.handler("media")}
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	one, err := m.Session("fragOne", g.handler("one"))
	require.NoError(t, err)
	two, err := m.Session("fragTwo", g.handler("two"))
	require.NoError(t, err)
	_, err = m.Session("fragOne", g.handler("x"))
	require.ErrorIs(t, err, ErrTaken)
	for _, ufrag := range []string{"", "abc", "a:bcd", string(make([]byte, 257))} {
		_, err = m.Session(ufrag, g.handler("x"))
		require.Error(t, err)
	}
	_, err = m.Session("four", nil)
	require.Error(t, err)

	allocate := string(stream(stunwire.NewType(stunwire.Allocate, stunwire.Request)))
	answer := string(stream(stunwire.NewType(stunwire.Binding, stunwire.Success)))
	// Runs of packets with one handler go in one call; order is kept.
	packets := func(from netip.AddrPort, data ...string) (ps []Packet) {
		for _, d := range data {
			ps = append(ps, Packet{[]byte(d), from})
		}
		return ps
	}
	checkOne, checkTwo, checkOther := string(check("fragOne:peer")), string(check("fragTwo:peer")), string(check("nobody:peer"))
	m.dispatch(packets(a, "\x80rtp1", "\x80rtp2", "\x16dtls", checkOne, checkOne, checkTwo, checkOther, "\x40chan", answer, allocate, "\x10zrtp", "\x00short"))
	require.Equal(t, [][]string{
		{"media", "\x80rtp1", "\x80rtp2"}, {"dtls", "\x16dtls"}, {"one", checkOne, checkOne}, {"two", checkTwo},
		{"stun", checkOther}, {"channel", "\x40chan"}, {"stun", answer, allocate},
	}, g.take())
	require.EqualValues(t, 2, m.Dropped())

	// What comes from an address that was taken is the session's.
	require.NoError(t, one.Take(a))
	require.NoError(t, one.Take(netip.MustParseAddrPort("[::ffff:192.0.2.1]:1")), "it has it")
	require.ErrorIs(t, two.Take(a), ErrTaken)
	m.dispatch(append(packets(a, "\x80rtp", "\x16dtls", answer, checkTwo, "\x40chan", allocate), packets(b, "\x80rtp")...))
	require.Equal(t, [][]string{
		{"one", "\x80rtp", "\x16dtls", answer}, {"two", checkTwo}, {"channel", "\x40chan"}, {"stun", allocate}, {"media", "\x80rtp"},
	}, g.take())
	one.Release(a)
	two.Release(b)
	require.NoError(t, two.Take(a))
	one.Release(a) // not its own any more
	m.dispatch(packets(a, "\x80rtp"))
	require.Equal(t, [][]string{{"two", "\x80rtp"}}, g.take())
	require.NoError(t, two.Close())
	require.NoError(t, two.Close())
	m.dispatch(packets(a, "\x80rtp", checkTwo))
	require.Equal(t, [][]string{{"media", "\x80rtp"}, {"stun", checkTwo}}, g.take())
	require.ErrorIs(t, two.Take(a), net.ErrClosed)

	for i := range maxSessionAddrs {
		require.NoError(t, one.Take(netip.AddrPortFrom(b.Addr(), uint16(i+1))))
	}
	require.ErrorIs(t, one.Take(a), errAddrs)

	// A handler that takes an address gets what follows in the same batch.
	var three *Session
	three, err = m.Session("fragThree", func(ps []Packet) {
		g.handler("three")(ps)
		require.NoError(t, three.Take(ps[0].From))
	})
	require.NoError(t, err)
	checkThree := string(check("fragThree:peer"))
	m.dispatch(packets(a, "\x16early", checkThree, "\x16dtls"))
	require.Equal(t, [][]string{{"dtls", "\x16early"}, {"three", checkThree}, {"three", "\x16dtls"}}, g.take())

	require.NoError(t, m.Close())
	_, err = m.Session("fragFour", g.handler("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, three.WriteTo(nil, a), net.ErrClosed)
	require.Zero(t, m.LocalAddr())
	pc := newWire().listen("10.0.0.1:1")
	require.ErrorIs(t, m.Serve(pc), net.ErrClosed)
}

// TestMuxLoopback: one real socket that is a STUN server, and an ICE session
// of foreign code, with large and small packets.
func TestMuxLoopback(t *testing.T) {
	m := new(Mux)
	var r Responder
	m.STUN = func(ps []Packet) {
		for _, p := range ps {
			if out := r.Append(nil, p.Data, p.From); len(out) > 0 {
				m.WriteTo(out, p.From)
			}
		}
	}
	pc := listenUDP(t, "127.0.0.1:0")
	ended := make(chan error, 1)
	server := pc.LocalAddr()
	go func() { ended <- m.Serve(pc) }()
	defer func() {
		m.Close()
		require.ErrorIs(t, <-ended, ErrMuxClosed)
	}()
	view, err := m.Listen("frag")
	require.NoError(t, err)

	c, err := net.Dial("udp", server.String())
	require.NoError(t, err)
	defer c.Close()
	ap, err := new(Client).Binding(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, c.LocalAddr().String(), ap.String())
	require.Equal(t, server.String(), view.LocalAddr().String())

	_, err = c.Write(check("frag:peer"))
	require.NoError(t, err)
	b := make([]byte, 70000)
	view.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, from, err := view.ReadFrom(b)
	require.NoError(t, err)
	require.Equal(t, check("frag:peer"), b[:n])
	_, err = view.WriteTo([]byte("\x80taken"), from)
	require.NoError(t, err)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err = c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "\x80taken", string(b[:n]))

	for _, size := range []int{1, 1200, 1200, 1200, 1472, 60000} {
		data := append([]byte{0x80}, bytes.Repeat([]byte{byte(size)}, size)...)
		_, err = c.Write(data)
		require.NoError(t, err)
		n, _, err := view.ReadFromAddrPort(b)
		require.NoError(t, err)
		require.Equal(t, data, b[:n])
	}
	// Two packets that wait at once, and a buffer that is too short.
	_, err = c.Write([]byte("\x80long"))
	require.NoError(t, err)
	n, _, err = view.ReadFrom(b[:2])
	require.NoError(t, err)
	require.Equal(t, "\x80l", string(b[:n]))
}

func TestPacketView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		m := new(Mux)
		var view *PacketView
		view, m.Other = m.View()
		go m.Serve(w.listen("10.0.0.2:1"))
		s := w.listen("10.0.0.1:1000")
		defer s.Close()
		synctest.Wait()
		to, b := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.2:1")), make([]byte, 100)

		start := time.Now()
		require.NoError(t, view.SetReadDeadline(start.Add(time.Second)))
		_, _, err := view.ReadFrom(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		_, _, err = view.ReadFrom(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, view.SetDeadline(time.Time{}))

		// A deadline that moves while a read waits.
		require.NoError(t, view.SetReadDeadline(time.Now().Add(time.Second)))
		go func() {
			time.Sleep(time.Second / 2)
			view.SetReadDeadline(time.Now().Add(2 * time.Second))
		}()
		start = time.Now()
		_, _, err = view.ReadFrom(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 2500*time.Millisecond, time.Since(start))
		require.NoError(t, view.SetReadDeadline(time.Time{}))

		for range viewQueue + 10 {
			_, err := s.WriteTo([]byte{200}, to)
			require.NoError(t, err)
			synctest.Wait()
		}
		require.EqualValues(t, 10, view.Dropped())
		for range viewQueue {
			n, from, err := view.ReadFromAddrPort(b)
			require.NoError(t, err)
			require.Equal(t, []byte{200}, b[:n])
			require.Equal(t, s.at, from)
		}

		require.NoError(t, view.SetWriteDeadline(time.Now()))
		_, err = view.WriteTo(b, net.UDPAddrFromAddrPort(s.at))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, view.SetWriteDeadline(time.Time{}))
		_, err = view.WriteTo([]byte("out"), net.UDPAddrFromAddrPort(s.at))
		require.NoError(t, err)
		n, _, err := s.ReadFrom(b)
		require.NoError(t, err)
		require.Equal(t, "out", string(b[:n]))

		closed := make(chan error)
		go func() {
			_, _, err := view.ReadFrom(b)
			closed <- err
		}()
		synctest.Wait()
		require.NoError(t, view.Close())
		require.ErrorIs(t, <-closed, net.ErrClosed)
		_, err = view.WriteTo(b, net.UDPAddrFromAddrPort(s.at))
		require.ErrorIs(t, err, net.ErrClosed)

		session, err := m.Listen("frag")
		require.NoError(t, err)
		_, err = m.Listen("frag")
		require.ErrorIs(t, err, ErrTaken)
		require.NoError(t, m.Close())
		_, _, err = session.ReadFrom(b)
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, session.Close())
		require.NoError(t, m.Close())
	})
}

// FuzzMux: whatever comes, it goes to one handler as it is, or is dropped.
func FuzzMux(f *testing.F) {
	f.Add(check("fragOne:peer"), true)
	f.Add([]byte{0x16, 1}, true)
	f.Add([]byte{0x40}, false)
	f.Add(binding(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, taken bool) {
		var n uint64
		h := func(ps []Packet) {
			for _, p := range ps {
				require.Equal(t, b, p.Data)
				n++
			}
		}
		m := &Mux{STUN: h, DTLS: h, Media: h, Other: h}
		s, err := m.Session("fragOne", h)
		require.NoError(t, err)
		if taken {
			require.NoError(t, s.Take(testFrom))
		}
		m.dispatch([]Packet{{b, testFrom}, {b, testFrom6}, {b, testFrom}})
		require.EqualValues(t, 3, n+m.Dropped())
	})
}

func TestMuxAllocations(t *testing.T) {
	m := &Mux{STUN: func([]Packet) {}}
	s, err := m.Session("fragOne", func([]Packet) {})
	require.NoError(t, err)
	require.NoError(t, s.Take(testFrom))
	ps := []Packet{{[]byte("\x80media"), testFrom}, {check("fragOne:peer"), testFrom6}, {binding(nil), testFrom6}}
	require.Zero(t, testing.AllocsPerRun(100, func() { m.dispatch(ps) }))
}

func BenchmarkMux(b *testing.B) {
	m := new(Mux)
	s, err := m.Session("fragOne", func([]Packet) {})
	require.NoError(b, err)
	require.NoError(b, s.Take(testFrom))
	ps := make([]Packet, 32)
	for i := range ps {
		ps[i] = Packet{append([]byte{0x80}, make([]byte, 1200)...), testFrom}
	}
	b.ReportAllocs()
	for b.Loop() {
		m.dispatch(ps)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ps)), "ns/packet")
}
