package turn

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

func TestAllocateErrors(t *testing.T) {
	udp, tcp := transportAttr(protocolUDP), transportAttr(protocolTCP)
	family := func(f byte) func(*stunwire.Builder) { return attr(stunwire.AttrRequestedAddressFamily, f, 0, 0, 0) }
	more := func(f byte) func(*stunwire.Builder) { return attr(stunwire.AttrAdditionalAddressFamily, f, 0, 0, 0) }
	even := func(v ...byte) func(*stunwire.Builder) { return attr(stunwire.AttrEvenPort, v...) }
	token := func(n int) func(*stunwire.Builder) { return attr(stunwire.AttrReservationToken, make([]byte, n)...) }
	f := start(t, func(_ *Server, p *Policy) { p.Mobility = true })
	for name, test := range map[string]struct {
		add  func(*stunwire.Builder)
		code int
	}{
		"no transport":           {with(), 400},
		"short transport":        {attr(stunwire.AttrRequestedTransport, 17), 400},
		"unknown transport":      {transportAttr(132), 442},
		"TCP over UDP":           {tcp, 400},
		"unknown family":         {with(udp, family(3)), 440},
		"short family":           {with(udp, attr(stunwire.AttrRequestedAddressFamily, 1)), 400},
		"two families":           {with(udp, family(1), more(2)), 400},
		"additional IPv4":        {with(udp, more(1)), 400},
		"even port of no length": {with(udp, even()), 400},
		"reserve and dual":       {with(udp, even(0x80), more(2)), 400},
		"token and even":         {with(udp, token(8), even(0)), 400},
		"token and family":       {with(udp, token(8), family(1)), 400},
		"short token":            {with(udp, token(7)), 400},
		"unknown token":          {with(udp, token(8)), 508},
		"ticket with a value":    {with(udp, attr(stunwire.AttrMobilityTicket, 1)), 400},
		"unknown attribute":      {with(udp, attr(0x7FFE, 1, 2)), 420},
		"change request":         {with(udp, attr(stunwire.AttrChangeRequest, 0, 0, 0, 0)), 420},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.client()
			c.login()
			m := c.do(stunwire.Allocate, test.add)
			require.Equal(t, test.code, code(m))
			if test.code == 420 {
				v, _ := m.Get(stunwire.AttrUnknownAttributes)
				require.Len(t, v, 2)
			}
		})
	}
	st := f.server.Stats()
	require.Zero(t, st.Realms["test.example"].Live)
	require.EqualValues(t, 2, st.Errors[420])
	server, _, _ := f.server.quota.counts("test.example", "alice")
	require.Zero(t, server, "refused allocations give their quota back")
}

func TestAllocateAgain(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	m := c.allocate()
	again := c.exchange(c.raw, answerTimeout)
	require.Equal(t, relayed(t, m), relayed(t, again), "a request that is repeated has the same answer")
	require.Equal(t, 437, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	require.EqualValues(t, 1, f.server.Stats().Realms["test.example"].Live)
}

func TestLifetime(t *testing.T) {
	f := start(t, nil)
	for _, test := range []struct{ asked, got uint32 }{{1, 600}, {600, 600}, {1234, 1234}, {3600, 3600}, {1 << 31, 3600}} {
		c := f.client()
		require.Equal(t, test.got, lifetime(t, c.allocate(lifetimeAttr(test.asked))))
		require.Equal(t, test.got, lifetime(t, c.refresh(test.asked)))
		require.EqualValues(t, 600, lifetime(t, c.do(stunwire.Refresh, nil)))
	}
}

func TestEvenPortAndReservation(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	m := c.allocate(attr(stunwire.AttrEvenPort, 0x80))
	at := relayed(t, m)[0]
	require.Zero(t, at.Port()%2)
	token, ok := m.Get(stunwire.AttrReservationToken)
	require.True(t, ok)
	other := f.client()
	other.user, other.pass = "bob", "builder"
	other.login()
	require.Equal(t, 508, code(other.do(stunwire.Allocate, with(transportAttr(protocolUDP), attr(stunwire.AttrReservationToken, token...)))),
		"a token is its user's")
	d := f.client()
	beside := relayed(t, d.allocate(attr(stunwire.AttrReservationToken, token...)))[0]
	require.Equal(t, netip.AddrPortFrom(at.Addr(), at.Port()+1), beside)
	relayBothWays(t, d, beside, newPeer(t, loopback))
	e := f.client()
	e.login()
	require.Equal(t, 508, code(e.do(stunwire.Allocate, with(transportAttr(protocolUDP), attr(stunwire.AttrReservationToken, token...)))),
		"and good for once")
	require.Zero(t, relayed(t, f.client().allocate(attr(stunwire.AttrEvenPort, 0)))[0].Port()%2)
}

func TestReservationCountsToTheQuota(t *testing.T) {
	f := start(t, func(_ *Server, p *Policy) { p.UserQuota = 2 })
	c := f.client()
	m := c.allocate(attr(stunwire.AttrEvenPort, 0x80))
	token, _ := m.Get(stunwire.AttrReservationToken)
	d := f.client()
	d.login()
	require.Equal(t, 486, code(d.do(stunwire.Allocate, transportAttr(protocolUDP))))
	d.allocate(attr(stunwire.AttrReservationToken, token...))
	e := f.client()
	e.login()
	require.Equal(t, 486, code(e.do(stunwire.Allocate, transportAttr(protocolUDP))))
	require.Equal(t, 0, code(c.refresh(0)))
	require.Equal(t, 0, code(e.do(stunwire.Allocate, transportAttr(protocolUDP))))
}

func TestDual(t *testing.T) {
	for _, number := range []stunwire.Attr{stunwire.AttrAdditionalAddressFamily, attrDraftAdditionalFamily} {
		f := start(t, nil)
		c := f.client()
		list := relayed(t, c.allocate(attr(number, familyIPv6, 0, 0, 0)))
		require.Len(t, list, 2)
		require.True(t, list[0].Addr().Is4())
		require.True(t, list[1].Addr().Is6())
		p4, p6 := newPeer(t, loopback), newPeer(t, loopback6)
		require.Equal(t, 0, c.bind(0x4000, p4.addr))
		require.Equal(t, 0, c.bind(0x4001, p6.addr))
		c.channel(0x4000, "four")
		got, from := p4.read(answerTimeout)
		require.Equal(t, "four", got)
		require.Equal(t, list[0], from)
		c.channel(0x4001, "six")
		got, from = p6.read(answerTimeout)
		require.Equal(t, "six", got)
		require.Equal(t, list[1], from)

		family := func(f byte) func(*stunwire.Builder) { return attr(stunwire.AttrRequestedAddressFamily, f, 0, 0, 0) }
		require.EqualValues(t, 0, lifetime(t, c.do(stunwire.Refresh, with(lifetimeAttr(0), family(familyIPv4)))))
		require.Equal(t, 443, code(c.do(stunwire.Refresh, with(lifetimeAttr(0), family(familyIPv4)))))
		require.Equal(t, 443, c.permit(p4.addr))
		c.channel(0x4001, "still")
		got, _ = p6.read(answerTimeout)
		require.Equal(t, "still", got)
		require.EqualValues(t, 0, lifetime(t, c.do(stunwire.Refresh, with(lifetimeAttr(0), family(familyIPv6)))))
		require.Equal(t, 437, code(c.refresh(600)))
	}
}

func TestDualWithOneFamily(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Relays = &RelayPorts{Addrs: []RelayAddr{{Listen: loopback}}} })
	c := f.client()
	m := c.allocate(attr(stunwire.AttrAdditionalAddressFamily, familyIPv6, 0, 0, 0))
	require.Len(t, relayed(t, m), 1)
	v, _ := m.Get(stunwire.AttrAddressErrorCode)
	require.Equal(t, []byte{familyIPv6, 0, 4, 40}, v)
	d := f.client()
	d.login()
	require.Equal(t, 440, code(d.do(stunwire.Allocate, with(transportAttr(protocolUDP), attr(stunwire.AttrRequestedAddressFamily, familyIPv6, 0, 0, 0)))))
}

func TestAllocateQuotas(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Server, *Policy)
		code   int
	}{
		"user":   {func(_ *Server, p *Policy) { p.UserQuota = 2 }, 486},
		"realm":  {func(_ *Server, p *Policy) { p.RealmQuota = 2 }, 486},
		"server": {func(_ *Server, p *Policy) { p.ServerQuota = 2 }, 508},
		"ports": {func(s *Server, _ *Policy) {
			s.Relays = &RelayPorts{Addrs: []RelayAddr{{Listen: netip.MustParseAddr("127.0.0.77")}}, Min: 50000, Max: 50001}
		}, 508},
		"grant": {func(s *Server, _ *Policy) {
			inner := s.Auth
			s.Auth = auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
				g, err := inner.Authorize(ctx, r)
				if g != nil {
					g.Limits.Sessions = 2
				}
				return g, err
			})
		}, 486},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, test.change)
			a, b, c := f.client(), f.client(), f.client()
			a.allocate()
			b.allocate()
			c.login()
			require.Equal(t, test.code, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
			a.refresh(0)
			require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
		})
	}
}

func TestRelayPortsMapAndTurn(t *testing.T) {
	public := netip.MustParseAddr("198.51.100.7")
	f := start(t, func(s *Server, _ *Policy) {
		s.Relays = &RelayPorts{Addrs: []RelayAddr{
			{Listen: netip.MustParseAddr("127.0.0.50"), Public: public}, {Listen: netip.MustParseAddr("127.0.0.51")},
		}}
	})
	seen := map[netip.Addr]int{}
	for range 4 {
		seen[relayed(t, f.client().allocate())[0].Addr()]++
	}
	require.Equal(t, map[netip.Addr]int{public: 2, netip.MustParseAddr("127.0.0.51"): 2}, seen)
}

func TestForeignRelays(t *testing.T) {
	stock := &RelayPorts{Addrs: []RelayAddr{{Listen: loopback}}, Min: 51000, Max: 51003}
	f := start(t, func(s *Server, _ *Policy) { s.Relays = wrappedRelays{stock} })
	c := f.client()
	m := c.allocate(attr(stunwire.AttrEvenPort, 0x80))
	at := relayed(t, m)[0]
	relayBothWays(t, c, at, newPeer(t, loopback))
	d := f.dialTCP()
	d.login()
	require.Equal(t, 0, code(d.do(stunwire.Allocate, transportAttr(protocolTCP))))
	c.refresh(0)
	f.server.Close()
	for i := range stock.taken[loopback] {
		for port := range 1 << 16 {
			require.False(t, stock.taken[loopback][i].has(uint16(port)), "port %d is not given back", port)
		}
	}
}

// wrappedRelays is a RelayAllocator that the server does not know.
type wrappedRelays struct{ inner *RelayPorts }

func (w wrappedRelays) OpenRelay(ctx context.Context, r *RelayRequest) (*Relay, error) {
	return w.inner.OpenRelay(ctx, r)
}

func TestRedirect(t *testing.T) {
	near, far := netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("[2001:db8::1]:3478")
	f := start(t, func(_ *Server, p *Policy) {
		p.Alternates = []Alternate{
			{Server: far, NoProbe: true},
			{Server: near, Domain: "near.example", NoProbe: true},
			{Server: netip.MustParseAddrPort("192.0.2.2:3478"), Transport: "tls", NoProbe: true},
		}
	})
	c := f.client()
	c.login()
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	require.Equal(t, 300, code(m))
	v, _ := m.Get(stunwire.AttrAlternateServer)
	got, err := m.Addr(v)
	require.NoError(t, err)
	require.Equal(t, near, got)
	domain, _ := m.Get(stunwire.AttrAlternateDomain)
	require.Equal(t, "near.example", string(domain))
}

func TestAlternateHealthAndWeight(t *testing.T) {
	up := start(t, nil)
	down := newPeer(t, loopback) // silent
	p := compilePolicy(&Policy{Alternates: []Alternate{
		{Server: up.udp, Weight: 3}, {Server: netip.MustParseAddrPort("192.0.2.1:1"), Weight: 1, NoProbe: true}, {Server: down.addr, Weight: 96},
	}}, 1)
	require.True(t, up.server.answers(up.udp))
	_ = down.conn.Close()
	require.False(t, up.server.answers(down.addr))
	p.alternates[2].down.Store(true)
	from := &path{kind: overUDP, remote: netip.MustParseAddrPort("127.0.0.1:1")}
	count := map[netip.AddrPort]int{}
	for range 4000 {
		count[p.choose(from).Server]++
	}
	require.Len(t, count, 2)
	require.InDelta(t, 3000, count[up.udp], 300)
	next := compilePolicy(&Policy{Alternates: p.Alternates}, 2)
	next.inherit(p)
	require.True(t, next.alternates[2].down.Load(), "a new policy knows who is down")
}

// A reservation counts to every quota that an allocation counts to, and lies
// within the range of ports.
func TestReservationIsBounded(t *testing.T) {
	even := attr(stunwire.AttrEvenPort, 0x80)
	for name, test := range map[string]struct {
		change func(*Server, *Policy)
		code   int
	}{
		"server": {func(_ *Server, p *Policy) { p.ServerQuota = 1 }, 508},
		"user":   {func(_ *Server, p *Policy) { p.UserQuota = 1 }, 486},
		"grant": {func(s *Server, _ *Policy) {
			s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
				r.Proof(auth.Secret{Plain: "wonder"})
				return &auth.Grant{Limits: auth.Limits{Sessions: 1}}, nil
			})
		}, 486},
		"ports": {func(s *Server, _ *Policy) {
			s.Relays = &RelayPorts{Addrs: []RelayAddr{{Listen: netip.MustParseAddr("127.0.0.92")}}, Min: 52000, Max: 52000}
		}, 508},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, test.change)
			c := f.client()
			c.login()
			require.Equal(t, test.code, code(c.do(stunwire.Allocate, with(transportAttr(protocolUDP), even))))
			server, _, _ := f.server.quota.counts("test.example", "alice")
			require.Zero(t, server, "nothing is held")
			require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
		})
	}
}
