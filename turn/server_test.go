package turn

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// relay exchanges data between a client with an allocation and a peer, both
// ways, by channel and by indication.
func relayBothWays(t *testing.T, c *rawClient, at netip.AddrPort, p *testPeer) {
	t.Helper()
	const channel = 0x4111
	require.Equal(t, 0, c.permit(p.addr))
	for _, text := range []string{"x", "four", "hello", strings.Repeat("v", 1200)} {
		c.indicate(p.addr, text)
		got, from := p.read(answerTimeout)
		require.Equal(t, text, got)
		require.Equal(t, at, from, "the peer sees the relayed address")
		p.write(at, text)
		number, from, got := c.data(answerTimeout)
		require.Equal(t, text, got)
		require.Zero(t, number)
		require.Equal(t, p.addr, from)
	}
	require.Equal(t, 0, c.bind(channel, p.addr))
	for _, text := range []string{"y", "abc", strings.Repeat("w", 1200), ""} {
		c.channel(channel, text)
		got, from := p.read(answerTimeout)
		require.Equal(t, text, got)
		require.Equal(t, at, from)
		p.write(at, text)
		number, _, got := c.data(answerTimeout)
		require.Equal(t, text, got)
		require.EqualValues(t, channel, number)
	}
}

func TestRelayOverEachTransport(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls", "dtls"} {
		t.Run(transport, func(t *testing.T) {
			cfg := serverTLS(t)
			f := start(t, func(s *Server, _ *Policy) { s.DTLS = cfg })
			var c *rawClient
			switch transport {
			case "udp":
				c = f.client()
			case "tcp":
				c = f.dialTCP()
			case "tls":
				ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
				require.NoError(t, err)
				go func() { f.check(f.server.Serve(ln)) }()
				conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
				require.NoError(t, err)
				c = f.over(conn, true)
			case "dtls":
				conn, err := dtls.Dial("udp", net.UDPAddrFromAddrPort(f.udp), &dtls.Config{InsecureSkipVerify: true})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
				defer cancel()
				require.NoError(t, conn.HandshakeContext(ctx))
				c = f.over(conn, false)
			}
			m := c.allocate()
			mapped, _ := m.Get(stunwire.AttrXORMappedAddress)
			got, err := m.XORAddr(mapped)
			require.NoError(t, err)
			local := netip.AddrPortFrom(loopback, c.local().Port()) // pion/dtls listens at [::]
			require.Equal(t, local, got)
			require.EqualValues(t, 600, lifetime(t, m))
			relayBothWays(t, c, relayed(t, m)[0], newPeer(t, loopback))
			info := f.one().Info()
			require.Equal(t, transport, info.Transport)
			require.Equal(t, local, info.Client)
			require.EqualValues(t, 8, info.Usage.ToPeer.Packets)
			require.EqualValues(t, 8, info.Usage.ToClient.Packets)
			require.Zero(t, info.Usage.Dropped)
			require.Len(t, info.Permissions, 1)
			require.Len(t, info.Channels, 1)

			require.EqualValues(t, 0, lifetime(t, c.refresh(0)))
			require.Equal(t, 437, code(c.refresh(600)), "after Refresh(0)")
		})
	}
}

func TestIPv6(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	at := relayed(t, c.allocate(attr(stunwire.AttrRequestedAddressFamily, familyIPv6, 0, 0, 0)))[0]
	require.True(t, at.Addr().Is6())
	relayBothWays(t, c, at, newPeer(t, loopback6))
	require.Equal(t, 443, c.permit(netip.MustParseAddrPort("127.0.0.1:9")))
	require.Equal(t, 443, c.bind(0x4FFF, netip.MustParseAddrPort("127.0.0.1:9")))
}

func TestBinding(t *testing.T) {
	f := start(t, nil)
	for _, c := range []*rawClient{f.client(), f.dialTCP()} {
		c.fingerprint = true
		m := c.do(stunwire.Binding, nil)
		v, _ := m.Get(stunwire.AttrXORMappedAddress)
		got, err := m.XORAddr(v)
		require.NoError(t, err)
		require.Equal(t, c.local(), got)
		m = c.do(stunwire.Binding, attr(stunwire.AttrChangeRequest, 0, 0, 0, 6))
		require.Equal(t, 420, code(m))
	}
	require.EqualValues(t, 4, f.server.Stats().Bindings)
}

func TestShutdownDrains(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	at := relayed(t, c.allocate())[0]
	other := f.client()
	other.login()
	done := make(chan error, 1)
	go func() { done <- f.server.Shutdown(context.Background()) }()
	eventually(t, func() bool { return f.server.Stats().Draining }, "drains")
	require.Equal(t, 508, code(other.do(stunwire.Allocate, transportAttr(protocolUDP))))
	relayBothWays(t, c, at, newPeer(t, loopback))
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned with a live allocation: %v", err)
	default:
	}
	c.refresh(0)
	require.NoError(t, <-done)

	f = start(t, nil)
	f.client().allocate()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, f.server.Shutdown(ctx), context.DeadlineExceeded)
	require.ErrorIs(t, f.server.Serve(nopListener{}), ErrServerClosed)
}

type nopListener struct{ net.Listener }

func (nopListener) Close() error { return nil }

func TestMisconfigured(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	require.ErrorContains(t, new(Server).ServePacket(pc), "Realm")
	_, err = pc.WriteTo(nil, pc.LocalAddr())
	require.ErrorIs(t, err, net.ErrClosed, "ServePacket owns the socket")

	pc, err = net.ListenPacket("udp", ":0")
	require.NoError(t, err)
	require.ErrorContains(t, (&Server{Realm: "x"}).ServePacket(pc), "Relays")
	pc, err = net.ListenPacket("udp", ":0")
	require.NoError(t, err)
	require.ErrorContains(t, (&Server{Realm: "x", NonceSecret: []byte("short")}).ServePacket(pc), "NonceSecret")
}

func TestStockRelays(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Relays = nil })
	require.Equal(t, loopback, relayed(t, f.client().allocate())[0].Addr())
}

func TestCloseAllocation(t *testing.T) {
	f := start(t, nil)
	events := make(chan Event, 16)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seq := f.server.Events(ctx)
	go func() {
		for e := range seq {
			events <- e
		}
		close(events)
	}()
	c := f.client()
	c.allocate()
	created := (<-events).(AllocationCreated)
	require.Equal(t, "alice", created.Session.User)
	a := f.one()
	require.Same(t, a, f.server.Allocation(created.Session.ID))
	require.NoError(t, a.Close())
	ended := (<-events).(AllocationEnded)
	require.Equal(t, EndClosed, ended.Reason)
	require.Equal(t, created.Session, ended.Session)
	require.Nil(t, f.server.Allocation(created.Session.ID))
	require.Equal(t, 437, code(c.refresh(600)))
	require.NoError(t, a.Close(), "again")
	st := f.server.Stats()
	require.Equal(t, 0, st.Realms["test.example"].Live)
	require.EqualValues(t, 1, st.Realms["test.example"].Total)
	require.EqualValues(t, 1, st.Errors[437])
	f.server.Close()
	for range events { // it ends
	}
}

func TestPolicyWhileLive(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	at := relayed(t, c.allocate())[0]
	p := newPeer(t, netip.MustParseAddr("127.0.0.2")) // not a relay address of the server's
	relayBothWays(t, c, at, p)
	f.server.SetPolicy(&Policy{})
	c.channel(0x4111, "denied")
	c.indicate(p.addr, "denied")
	p.write(at, "denied")
	got, _ := p.read(nothing)
	require.Empty(t, got)
	require.Nil(t, c.next(nothing))
	require.Equal(t, 403, c.permit(p.addr))
	require.Equal(t, 403, c.bind(0x4111, p.addr))
	require.NotZero(t, f.server.Stats().Drops["peer-denied"])
	f.server.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true}})
	require.Equal(t, 0, c.permit(p.addr))
	c.channel(0x4111, "again")
	got, _ = p.read(answerTimeout)
	require.Equal(t, "again", got)
}

func TestBandwidth(t *testing.T) {
	for name, change := range map[string]func(*Server, *Policy){
		"session": func(_ *Server, p *Policy) { p.SessionRate = 80_000 },
		"user":    func(_ *Server, p *Policy) { p.UserRate = 80_000 },
		"server":  func(_ *Server, p *Policy) { p.ServerRate = 80_000 },
		"grant": func(s *Server, _ *Policy) {
			s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
				r.Proof(auth.Secret{Plain: "wonder"})
				return &auth.Grant{Limits: auth.Limits{BitRate: 80_000}}, nil
			})
		},
		"attribute": nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, change)
			c := f.client()
			var add []func(*stunwire.Builder)
			if change == nil {
				add = append(add, attr(stunwire.AttrBandwidth, 0, 0, 0, 80))
			}
			c.allocate(add...)
			p := newPeer(t, loopback)
			require.Equal(t, 0, c.bind(0x4000, p.addr))
			for range 100 { // 1 Mbit at 80 kbit/s
				c.channel(0x4000, strings.Repeat("x", 1250))
			}
			eventually(t, func() bool { return f.one().Info().Usage.FromClient.Packets == 100 }, "all relayed or dropped")
			u := f.one().Info().Usage
			require.Greater(t, u.Dropped, uint64(50))
			require.Greater(t, u.ToPeer.Packets, uint64(0))
		})
	}
}
