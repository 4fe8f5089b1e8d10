package turn

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// nullConn is a socket that takes everything and gives nothing.
type nullConn struct {
	at   net.Addr
	sent [][]byte // if keep
	keep bool
	done chan struct{}
}

func newNullConn(at string) *nullConn {
	return &nullConn{at: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)), done: make(chan struct{})}
}

func (c *nullConn) ReadFrom([]byte) (int, net.Addr, error) { <-c.done; return 0, nil, net.ErrClosed }
func (c *nullConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.keep {
		c.sent = append(c.sent, bytes.Clone(b))
	}
	return len(b), nil
}
func (c *nullConn) Close() error                     { return nil }
func (c *nullConn) LocalAddr() net.Addr              { return c.at }
func (c *nullConn) SetDeadline(time.Time) error      { return nil }
func (c *nullConn) SetReadDeadline(time.Time) error  { return nil }
func (c *nullConn) SetWriteDeadline(time.Time) error { return nil }

// A dataPath is an allocation without loops: tests call its handlers.
type dataPath struct {
	s                *Server
	sh               *shard
	a                *Allocation
	p                *path
	listener, relays *nullConn
	peer             netip.AddrPort
}

type nullRelays struct{ conn *nullConn }

func (r nullRelays) OpenRelay(context.Context, *RelayRequest) (*Relay, error) {
	return &Relay{PacketConn: r.conn}, nil
}

func newDataPath(t testing.TB, real bool) *dataPath {
	d := &dataPath{s: &Server{Realm: "r", Auth: users(alice)}}
	d.s.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true}, UnauthenticatedRate: -1})
	d.s.init()
	var client netip.AddrPort
	var listener net.PacketConn
	if real { // sockets, and others that nobody reads
		sink := func() *net.UDPConn {
			c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		d.peer, client = addrPortOf(sink().LocalAddr()), addrPortOf(sink().LocalAddr())
		listener = sink()
	} else {
		d.peer, client = netip.MustParseAddrPort("8.8.8.8:4000"), netip.MustParseAddrPort("203.0.113.5:6000")
		d.listener, d.relays = newNullConn("198.51.100.1:3478"), newNullConn("198.51.100.2:50000")
		listener, d.s.Relays = d.listener, nullRelays{d.relays}
	}
	t.Cleanup(func() {
		if !real {
			close(d.relays.done)
		}
		_ = d.s.Close()
	})
	d.sh = newShard(d.s, udp.Wrap(listener))
	d.p = &path{srv: d.s, shard: d.sh, local: d.sh.conn.LocalAddr(), remote: client, to: client}
	m := new(stunwire.Message)
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Request), txID())
	transportAttr(protocolUDP)(&b)
	require.NoError(t, m.Parse(b.Bytes()))
	r := &request{
		srv: d.s, path: d.p, policy: d.s.policy.Load(), msg: m, now: d.s.clock(),
		cred: &credential{user: "alice", realm: "r", key: stunwire.NewKey([]byte("k"))},
	}
	r.allocate()
	d.a = d.p.alloc.Load()
	require.NotNil(t, d.a)
	require.Zero(t, d.a.bind(r.policy, 0x4000, d.peer, r.now))
	return d
}

// up is a read of n ChannelData messages of size bytes from the client.
func (d *dataPath) up(n, size int) []udp.Packet {
	var b []byte
	for range n {
		b = stunwire.AppendChannelHeader(b, 0x4000, size)
		b = append(b, strings.Repeat("u", size)...)
	}
	return []udp.Packet{{Data: b, Addr: d.p.remote, Segment: 4 + size}}
}

// down is a read of n datagrams of size bytes from a peer.
func (d *dataPath) down(from netip.AddrPort, n, size int) []udp.Packet {
	return []udp.Packet{{Data: bytes.Repeat([]byte{'d'}, n*size), Addr: from, Segment: size}}
}

func (d *dataPath) send(size int) []udp.Packet {
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Send, stunwire.Indication), txID())
	b.AddXORAddr(stunwire.AttrXORPeerAddress, d.peer)
	b.AddString(stunwire.AttrData, strings.Repeat("s", size))
	return []udp.Packet{{Data: b.Bytes(), Addr: d.p.remote}}
}

func TestDataPathAllocatesNothing(t *testing.T) {
	d := newDataPath(t, true)
	relay := &d.a.relays[relayIPv4]
	other := netip.AddrPortFrom(d.peer.Addr(), d.peer.Port()^1) // permitted, no channel
	require.Zero(t, d.a.permit(d.s.policy.Load(), []netip.Addr{d.peer.Addr()}, d.s.clock()))
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), txID())
	binding := []udp.Packet{{Data: b.Bytes(), Addr: other}}
	stranger := []udp.Packet{{Data: d.up(1, 100)[0].Data, Addr: other}}
	up, send, down := d.up(7, 1200), d.send(1200), d.down(d.peer, 7, 1200)
	data, denied := d.down(other, 7, 1201), d.down(netip.MustParseAddrPort("9.9.9.9:1"), 7, 100)
	for name, f := range map[string]func(){
		"ChannelData up":        func() { d.sh.HandlePackets(up) },
		"Send":                  func() { d.sh.HandlePackets(send) },
		"ChannelData down":      func() { relay.HandlePackets(down) },
		"Data indications":      func() { relay.HandlePackets(data) },
		"not permitted":         func() { relay.HandlePackets(denied) },
		"Binding":               func() { d.sh.HandlePackets(binding) },
		"ChannelData of nobody": func() { d.sh.HandlePackets(stranger) },
	} {
		run := func() {
			f()
			d.sh.flush()
		}
		for range 10 {
			run()
		}
		require.Zero(t, testing.AllocsPerRun(200, run), name)
	}
	u := d.a.Info().Usage
	require.NotZero(t, u.ToPeer.Packets)
	require.NotZero(t, u.ToClient.Packets)
}

func TestRunsKeepTheirBounds(t *testing.T) {
	d := newDataPath(t, false)
	d.relays.keep, d.listener.keep = true, true
	ps := d.up(3, 100)
	ps[0].Data = append(ps[0].Data, "\x40\x00\x00\x05short\x00"...) // the last of a run may be shorter, and padded
	d.sh.HandlePackets(ps)
	d.sh.flush()
	require.Len(t, d.relays.sent, 4)
	for _, b := range d.relays.sent[:3] {
		require.Equal(t, strings.Repeat("u", 100), string(b))
	}
	require.Equal(t, "short", string(d.relays.sent[3]))

	ps = d.down(d.peer, 3, 101)
	ps[0].Data = append(ps[0].Data, "end"...)
	d.a.relays[relayIPv4].HandlePackets(ps)
	d.sh.flush()
	require.Len(t, d.listener.sent, 4)
	for i, n := range []int{101, 101, 101, 3} {
		number, data, ok := stunwire.ChannelData(d.listener.sent[i])
		require.True(t, ok)
		require.EqualValues(t, 0x4000, number)
		require.Len(t, data, n)
		require.Len(t, d.listener.sent[i], 4+n, "no padding in datagrams")
	}
}

func TestSTUNAmongChannelData(t *testing.T) {
	d := newDataPath(t, false)
	d.relays.keep, d.listener.keep = true, true
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), txID())
	size := len(b.Bytes())
	ps := d.up(2, size-4)
	ps[0].Data = append(ps[0].Data, b.Bytes()...)
	ps[0].Data = append(ps[0].Data, d.up(1, size-4)[0].Data...)
	d.sh.HandlePackets(ps)
	d.sh.flush()
	require.Len(t, d.relays.sent, 3)
	require.Len(t, d.listener.sent, 1)
}

func TestTTLEndsHere(t *testing.T) {
	d := newDataPath(t, false)
	d.relays.keep = true
	ps := d.up(2, 10)
	ps[0].Mark.TTL = 1
	d.sh.HandlePackets(ps)
	d.sh.flush()
	require.Empty(t, d.relays.sent)
	require.EqualValues(t, 2, d.s.Stats().Drops["ttl"])
	m, ok := onward(udp.Mark{TOS: 0xb8, TTL: 64})
	require.True(t, ok)
	require.Equal(t, udp.Mark{TOS: 0xb8, TTL: 63}, m)
}

func TestICMPReachesTheClient(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.allocate()
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.permit(p.addr))
	require.NoError(t, p.conn.Close())
	var b []byte
	for range 20 { // the system may need a packet or two to say so
		c.indicate(p.addr, "anybody there?")
		if b = c.next(nothing); b != nil {
			break
		}
	}
	if b == nil {
		t.Skip("this system does not report ICMP errors")
	}
	var m stunwire.Message
	require.NoError(t, m.Parse(b))
	require.Equal(t, stunwire.NewType(stunwire.Data, stunwire.Indication), m.Type)
	v, ok := m.Get(stunwire.AttrICMP)
	require.True(t, ok)
	require.Equal(t, []byte{0, 0, 3 << 1, 3, 0, 0, 0, 0}, v, "destination unreachable, port unreachable")
	require.False(t, m.Has(stunwire.AttrData))
	from, _ := peer(&m)
	require.Equal(t, p.addr, from)
}

func TestTwoClientsOfOneServer(t *testing.T) {
	f := start(t, nil)
	a, b := f.client(), f.client()
	b.user, b.pass = "bob", "builder"
	at, bt := relayed(t, a.allocate())[0], relayed(t, b.allocate())[0]
	require.Equal(t, 0, a.bind(0x4000, bt))
	require.Equal(t, 0, b.bind(0x4000, at))
	a.channel(0x4000, "ping")
	_, _, got := b.data(answerTimeout)
	require.Equal(t, "ping", got)
	b.channel(0x4000, "pong")
	_, _, got = a.data(answerTimeout)
	require.Equal(t, "pong", got)
}

func TestEightClientsOfOnePeer(t *testing.T) {
	f := start(t, nil)
	p := newPeer(t, loopback)
	for i := range 8 {
		c := f.client()
		at := relayed(t, c.allocate())[0]
		require.Equal(t, 0, c.bind(0x4000, p.addr))
		text := strings.Repeat(string(rune('a'+i)), 100)
		c.channel(0x4000, text)
		got, from := p.read(answerTimeout)
		require.Equal(t, text, got)
		require.Equal(t, at, from)
		p.write(at, text)
		_, _, got = c.data(answerTimeout)
		require.Equal(t, text, got)
	}
}

func BenchmarkChannelDataUp(b *testing.B) {
	d := newDataPath(b, true)
	ps := d.up(7, 1200)
	b.SetBytes(7 * 1200)
	b.ReportAllocs()
	for b.Loop() {
		d.sh.HandlePackets(ps)
		d.sh.flush()
	}
}

func BenchmarkChannelDataDown(b *testing.B) {
	d := newDataPath(b, true)
	ps := d.down(d.peer, 7, 1200)
	b.SetBytes(7 * 1200)
	b.ReportAllocs()
	for b.Loop() {
		d.a.relays[relayIPv4].HandlePackets(ps)
		d.sh.flush()
	}
}

func BenchmarkUnauthenticatedAllocate(b *testing.B) {
	d := newDataPath(b, true)
	m := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Request), txID())
	transportAttr(protocolUDP)(&m)
	ps := []udp.Packet{{Data: m.Bytes(), Addr: netip.MustParseAddrPort("203.0.113.9:1")}}
	b.ReportAllocs()
	for b.Loop() {
		d.sh.HandlePackets(ps)
	}
}

// What is remembered of the last peer does not outlive what it was made of.
func TestAdmitted(t *testing.T) {
	d := newDataPath(t, false)
	now := d.s.clock()
	admits := func(from netip.AddrPort, at int64) (number uint16, ok bool) {
		d.a.mu.Lock()
		defer d.a.mu.Unlock()
		for range 2 { // looked up, and remembered
			number, ok = d.a.admits(d.s.policy.Load(), from, at)
		}
		return number, ok
	}
	number, ok := admits(d.peer, now)
	require.True(t, ok)
	require.EqualValues(t, 0x4000, number)
	other := netip.AddrPortFrom(d.peer.Addr(), 4001)
	number, ok = admits(other, now)
	require.True(t, ok)
	require.Zero(t, number)
	require.Zero(t, d.a.bind(d.s.policy.Load(), 0x4001, other, now))
	number, _ = admits(other, now)
	require.EqualValues(t, 0x4001, number, "bound meanwhile")

	policy := d.s.policy.Load()
	number, ok = admits(other, now+int64(policy.PermissionLifetime)-1)
	require.True(t, ok)
	require.EqualValues(t, 0x4001, number)
	_, ok = admits(other, now+int64(policy.PermissionLifetime))
	require.False(t, ok, "run out")

	own := netip.AddrPortFrom(d.a.relays[relayIPv4].open.public.Addr(), 50002)
	d.s.own.addRelay(false, own, own)
	require.Zero(t, d.a.permit(d.s.policy.Load(), []netip.Addr{own.Addr()}, now))
	_, ok = admits(own, now)
	require.True(t, ok)
	d.s.own.removeRelay(false, own, own)
	_, ok = admits(own, now)
	require.False(t, ok, "a relay address that was given up")

	_, ok = admits(d.peer, now)
	require.True(t, ok)
	d.s.SetPolicy(&Policy{Peers: PeerPolicy{Deny: ranges(t, d.peer.Addr().String())}})
	_, ok = admits(d.peer, now)
	require.False(t, ok, "denied meanwhile")
}
