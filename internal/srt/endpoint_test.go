package srt

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/runnel-media/runnel/internal/udp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen serves an endpoint on a loopback port.
func listen(t testing.TB, e *Endpoint) netip.AddrPort {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- e.Serve(pc) }()
	t.Cleanup(func() {
		e.Close()
		require.ErrorIs(t, <-served, ErrServerClosed)
	})
	return e.LocalAddr()
}

// accept accepts every call whose passphrase is right.
func accept(passphrase string, conns chan<- *Conn) func(*Call) {
	return func(c *Call) {
		if passphrase != "" {
			c.Secret(passphrase)
		}
		if conn, err := c.Accept(nil); err == nil {
			conns <- conn
		}
	}
}

func dial(t testing.TB, addr netip.AddrPort, o DialOptions) (*Conn, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return Dial(ctx, addr.String(), &Endpoint{Latency: 200 * time.Millisecond}, o)
}

func TestBothWays(t *testing.T) {
	for name, o := range map[string]DialOptions{
		"plain": {}, "AES-128": {Passphrase: "correct horse"}, "AES-192": {Passphrase: "correct horse", KeyLength: 24},
		"AES-256": {Passphrase: "correct horse", KeyLength: 32}, "FEC": {Filter: "fec,cols:10,rows:5"},
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			addr := listen(t, &Endpoint{Handler: accept(o.Passphrase, conns), Latency: 200 * time.Millisecond})
			o.StreamID = "live/a"
			c, err := dial(t, addr, o)
			require.NoError(t, err)
			s := <-conns
			require.Equal(t, "live/a", s.StreamID())
			want := make([]byte, 300*livePayload+188)
			_, _ = rand.Read(want)
			for _, pair := range [][2]*Conn{{c, s}, {s, c}} {
				_, err = pair[0].Write(want)
				require.NoError(t, err)
				var got []byte
				b := make([]byte, maxPayload)
				require.NoError(t, pair[1].SetReadDeadline(time.Now().Add(time.Minute)))
				for len(got) < len(want) {
					n, err := pair[1].Read(b)
					require.NoError(t, err)
					got = append(got, b[:n]...)
				}
				require.True(t, bytes.Equal(want, got))
			}
			require.NoError(t, c.Close())
			<-s.Done()
			require.ErrorIs(t, s.Err(), ErrPeerClosed)
			<-c.Done()
			require.ErrorIs(t, c.Err(), net.ErrClosed)
		})
	}
}

// Another socket is read in the loop of an endpoint, and what comes to it goes on
// over SRT.
func TestReadsAnotherSocket(t *testing.T) {
	conns := make(chan *Conn, 1)
	addr := listen(t, &Endpoint{Handler: accept("", conns)})
	in, err := udp.Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	require.NoError(t, err)
	from := in.LocalAddr()
	e := &Endpoint{}
	out := make(chan *Conn, 1)
	require.NoError(t, e.Read(in, udp.HandlerFunc(func(ps []udp.Packet) {
		c := <-out
		for i := range ps {
			_, err := c.PushBytes(bytes.Clone(ps[i].Data))
			require.NoError(t, err)
		}
		out <- c
	})))
	c, err := Dial(t.Context(), addr.String(), e, DialOptions{StreamID: "live/a"})
	require.NoError(t, err)
	out <- c
	s := <-conns
	require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Minute)))
	to, err := net.Dial("udp4", from.String())
	require.NoError(t, err)
	defer to.Close()
	b := make([]byte, maxPayload)
	for i := range 100 {
		_, err := to.Write([]byte{byte(i)})
		require.NoError(t, err)
	}
	for i := range 100 {
		n, err := s.Read(b)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i)}, b[:n])
	}
	c.Abort()
	<-c.Done()
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	conns := make(chan *Conn, 1)
	addr := listen(t, &Endpoint{Handler: accept("", conns), Latency: 200 * time.Millisecond})
	c, err := dial(t, addr, DialOptions{StreamID: "a"})
	require.NoError(t, err)
	s := <-conns
	_, err = c.Write(make([]byte, 100*livePayload))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	n, b := 0, make([]byte, maxPayload)
	for {
		k, err := s.Read(b)
		if err != nil {
			break
		}
		n += k
	}
	require.Equal(t, 100*livePayload, n)
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		secret string
		o      DialOptions
		why    Reason
		reject Reason
	}{
		"no stream id":      {"", DialOptions{}, BadRequest, 0},
		"wrong passphrase":  {"correct horse", DialOptions{StreamID: "a", Passphrase: "wrong horse"}, BadSecret, 0},
		"no passphrase":     {"correct horse", DialOptions{StreamID: "a"}, Unsecure, 0},
		"passphrase unused": {"", DialOptions{StreamID: "a", Passphrase: "wrong horse"}, Unsecure, 0},
		"application":       {"", DialOptions{StreamID: "a"}, Conflict, Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			h := accept(c.secret, conns)
			if c.reject != 0 {
				h = func(call *Call) { call.Reject(c.reject) }
			}
			addr := listen(t, &Endpoint{Handler: h})
			_, err := dial(t, addr, c.o)
			var r *Rejection
			require.ErrorAs(t, err, &r)
			require.Equal(t, c.why, r.Reason)
			require.Empty(t, conns)
		})
	}
	addr := listen(t, &Endpoint{})
	_, err := dial(t, addr, DialOptions{StreamID: "a"})
	var r *Rejection
	require.ErrorAs(t, err, &r)
	require.Equal(t, Forbidden, r.Reason)
}

// A raw is a peer that says what a test likes.
type raw struct {
	t  *testing.T
	pc net.Conn
}

func newRaw(t *testing.T, addr netip.AddrPort) *raw {
	pc, err := net.Dial("udp4", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	return &raw{t, pc}
}

func (r *raw) say(hs *handshake) {
	b := make([]byte, headerSize)
	(&header{control: true, typ: typeHandshake}).put(b)
	_, err := r.pc.Write(hs.append(b))
	require.NoError(r.t, err)
}

// hear returns the next handshake, false if there is none.
func (r *raw) hear(wait time.Duration) (handshake, bool) {
	b := make([]byte, 2000)
	_ = r.pc.SetReadDeadline(time.Now().Add(wait))
	for {
		n, err := r.pc.Read(b)
		if err != nil {
			return handshake{}, false
		}
		if h, body, err := parseHeader(b[:n]); err == nil && h.control && h.typ == typeHandshake {
			hs, err := parseHandshake(append([]byte(nil), body...))
			require.NoError(r.t, err)
			return hs, true
		}
	}
}

func induction() *handshake {
	return &handshake{version: 4, extension: 2, isn: 5, mtu: 1500, window: 8192, kind: kindInduction, id: 77}
}

func conclusion(cookie uint32) *handshake {
	hs := &handshake{version: 5, isn: 5, mtu: 1500, window: 8192, kind: kindConclusion, id: 77, cookie: cookie,
		hello: hello{ourVersion, ourFlags, 120, 120}, isRequest: true, streamID: "live/a"}
	hs.extension = hs.follows()
	return hs
}

func TestCookies(t *testing.T) {
	conns := make(chan *Conn, 8)
	e := &Endpoint{Handler: accept("", conns)}
	addr := listen(t, e)
	a := newRaw(t, addr)
	a.say(induction())
	hs, ok := a.hear(time.Minute)
	require.True(t, ok)
	require.Equal(t, magic, hs.extension)
	require.Equal(t, uint32(5), hs.version)
	good := hs.cookie

	a.say(conclusion(good + 1))
	_, ok = a.hear(100 * time.Millisecond)
	require.False(t, ok, "no cookie, no answer")
	b := newRaw(t, addr) // another address
	b.say(conclusion(good))
	_, ok = b.hear(100 * time.Millisecond)
	require.False(t, ok)
	e.loop.Do(func() {
		require.Empty(t, e.calls)
		require.Empty(t, e.conns)
	})

	// Repeated conclusions make one connection, and are answered alike.
	var ids []uint32
	for range 4 {
		a.say(conclusion(good))
		hs, ok := a.hear(time.Minute)
		require.True(t, ok)
		require.Equal(t, kindConclusion, hs.kind)
		ids = append(ids, hs.id)
	}
	require.Equal(t, []uint32{ids[0], ids[0], ids[0], ids[0]}, ids)
	<-conns
	require.Empty(t, conns)
	e.loop.Do(func() { require.Len(t, e.conns, 1) })
}

func TestExtremes(t *testing.T) {
	addr := listen(t, &Endpoint{Handler: func(c *Call) { c.Reject(Forbidden) }})
	for name, c := range map[string]struct {
		change func(*handshake)
		why    Reason
	}{
		"version 4":     {func(h *handshake) { h.version = 4 }, Version},
		"old SRT":       {func(h *handshake) { h.hello.version = 0x010200 }, Version},
		"no HSREQ":      {func(h *handshake) { h.hello = hello{} }, Rogue},
		"small MSS":     {func(h *handshake) { h.mtu = 75 }, Rogue},
		"no MSS":        {func(h *handshake) { h.mtu = 0 }, Rogue},
		"no window":     {func(h *handshake) { h.window = 0 }, Rogue},
		"no socket":     {func(h *handshake) { h.id = 0 }, Rogue},
		"huge":          {func(h *handshake) { h.mtu, h.window = 1<<32-1, 1<<32-1 }, Forbidden},
		"stream mode":   {func(h *handshake) { h.hello.flags |= streamMode }, MessageMode},
		"file":          {func(h *handshake) { h.congestion = "file" }, Congestion},
		"filter":        {func(h *handshake) { h.filter = "fec,cols:100,rows:100" }, Filter},
		"stream id":     {func(h *handshake) { h.streamID = string(bytes.Repeat([]byte("x"), 513)) }, Rogue},
		"short KMREQ":   {func(h *handshake) { h.km = make([]byte, 20) }, Rogue},
		"long KMREQ":    {func(h *handshake) { h.km = make([]byte, 400) }, Rogue},
		"nothing wrong": {func(*handshake) {}, Forbidden},
	} {
		r := newRaw(t, addr)
		r.say(induction())
		hs, ok := r.hear(time.Minute)
		require.True(t, ok)
		in := conclusion(hs.cookie)
		c.change(in)
		r.say(in)
		hs, ok = r.hear(time.Minute)
		require.True(t, ok, name)
		why, ok := hs.rejected()
		require.True(t, ok, name)
		require.Equal(t, c.why, why, name)
	}
}

func TestEndpointCloses(t *testing.T) {
	conns := make(chan *Conn, 1)
	e := &Endpoint{Handler: accept("", conns)}
	addr := listen(t, e)
	c, err := dial(t, addr, DialOptions{StreamID: "a"})
	require.NoError(t, err)
	s := <-conns
	told := make(chan error, 1)
	s.OnEnd(func(err error) { told <- err })
	e.Close()
	require.ErrorIs(t, <-told, net.ErrClosed)
	<-c.Done()
	require.ErrorIs(t, c.Err(), ErrPeerClosed)
	_, err = s.PushBytes([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.Error(t, (&Endpoint{}).closedServe(t))
}

func (e *Endpoint) closedServe(t *testing.T) error {
	e.Close()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	return e.Serve(pc)
}

// One publisher and many players, through one socket, at once.
func TestManyAtOnce(t *testing.T) {
	const players, packets = 30, 400
	var mu sync.Mutex
	var subs []*Conn
	all := make(chan struct{})
	e := &Endpoint{Latency: 200 * time.Millisecond}
	e.Handler = func(c *Call) {
		if c.StreamID == "pub" {
			_, _ = c.Accept(func(due [][]byte) {
				for _, p := range due {
					own := bytes.Clone(p)
					mu.Lock()
					for _, s := range subs {
						_, _ = s.PushBytes(own)
					}
					mu.Unlock()
				}
			})
			return
		}
		s, err := c.Accept(nil)
		if err == nil {
			mu.Lock()
			subs = append(subs, s)
			if len(subs) == players {
				close(all)
			}
			mu.Unlock()
		}
	}
	addr := listen(t, e)
	var wg sync.WaitGroup
	for range players {
		wg.Go(func() {
			c, err := dial(t, addr, DialOptions{StreamID: "play"})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			b := make([]byte, maxPayload)
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			for i := range packets {
				n, err := c.Read(b)
				if err != nil || n != livePayload || b[0] != byte(i) {
					t.Errorf("packet %d: %d bytes, %v", i, n, err)
					return
				}
			}
		})
	}
	<-all
	p, err := dial(t, addr, DialOptions{StreamID: "pub"})
	require.NoError(t, err)
	for i := range packets {
		b := make([]byte, livePayload)
		b[0] = byte(i)
		_, err := p.Write(b)
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	require.NoError(t, p.Close())
	<-p.Done()
}

func TestReadDeadline(t *testing.T) {
	conns := make(chan *Conn, 1)
	addr := listen(t, &Endpoint{Handler: accept("", conns)})
	c, err := dial(t, addr, DialOptions{StreamID: "a"})
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = c.Read(make([]byte, 10))
	require.True(t, errors.Is(err, errTimeout))
	c.Abort()
	<-c.Done()
}
