package turn

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// The tests here are named after the advisories on coturn, and the remarks on
// pion/turn, whose mistakes they look for. Those on peer addresses are in
// security_peers_test.go.

// CVE-2020-6061, CVE-2020-6062: HTTP that a parser reads beyond its end.
func TestCVE_2020_6061_HTTPOnThePort(t *testing.T) {
	f := start(t, nil)
	for _, b := range []string{"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\na=", "POST /\r\n\r\n", "GET"} {
		c := f.dialTCP()
		c.write([]byte(b))
		if len(b) >= 4 {
			require.True(t, closed(t, c.conn))
		}
		u := f.client()
		u.write([]byte(b))
		require.Nil(t, u.read(20*time.Millisecond))
	}
	f.client().allocate()
}

// CVE-2020-4067: padding that shows old memory. rawClient.read checks that of
// streams, too.
func TestCVE_2020_4067_PaddingIsZero(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Realm, s.Software = "odd", "five5" })
	for _, c := range []*rawClient{f.client(), f.dialTCP()} {
		at := relayed(t, c.allocate())[0]
		p := newPeer(t, loopback)
		require.Equal(t, 0, c.permit(p.addr))
		for _, text := range []string{"\xff", "\xff\xff", "\xff\xff\xff", "\xff\xff\xff\xff\xff"} {
			p.write(at, text)
			b := c.next(answerTimeout)
			end := len(b) - (-len(text) & 3)
			require.Equal(t, make([]byte, len(b)-end), b[end:])
			require.Equal(t, text, string(b[end-len(text):end]))
		}
		m := c.do(stunwire.Allocate, transportAttr(protocolTCP))
		for a, v := range m.Each {
			from := bytes.Index(m.Raw, v) + len(v)
			require.Equal(t, make([]byte, -len(v)&3), m.Raw[from:from+(-len(v)&3)], a)
		}
	}
}

// CVE-2025-69217: nonces, ports, tickets and tokens from random().
func TestCVE_2025_69217_NothingCanBeForetold(t *testing.T) {
	f := start(t, mobile)
	ports, seen := map[uint16]bool{}, map[string]bool{}
	ascending := 0
	last := uint16(0)
	for range 40 {
		c := f.client()
		m := c.allocate(attr(stunwire.AttrMobilityTicket), attr(stunwire.AttrEvenPort, 0x80))
		port := relayed(t, m)[0].Port()
		if port > last {
			ascending++
		}
		last = port
		ports[port] = true
		for _, a := range []stunwire.Attr{stunwire.AttrMobilityTicket, stunwire.AttrReservationToken} {
			v, _ := m.Get(a)
			require.False(t, seen[string(v)])
			seen[string(v)] = true
		}
		require.False(t, seen[c.nonce])
		seen[c.nonce] = true
	}
	require.Len(t, ports, 40)
	require.Greater(t, ascending, 5)
	require.Less(t, ascending, 36)
	var one, two Server
	one.nonces.init(nil)
	two.nonces.init(nil)
	at, now := netip.MustParseAddrPort("192.0.2.1:1"), time.Now().UnixMilli()
	require.NotEqual(t, one.nonces.append(nil, 0, at, "r", now), two.nonces.append(nil, 0, at, "r", now))
}

// CVE-2026-40613: attributes at odd offsets. In Go they can't trap; they have
// to be read right.
func TestCVE_2026_40613_OddOffsets(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.allocate(attr(0xC001, 1), attr(0xC002, 1, 2, 3), lifetimeAttr(700), attr(0xC003, 1, 2, 3, 4, 5))
	m := c.do(stunwire.Refresh, with(attr(0xC001, 1), lifetimeAttr(800)))
	require.EqualValues(t, 800, lifetime(t, m))
}

// CVE-2026-43994: an ACCESS-TOKEN longer than what was made room for.
func TestCVE_2026_43994_LongTokens(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		s.ThirdParty = "turn.example"
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if len(r.Token) > maxToken {
				t.Error("a token beyond the bound")
			}
			return nil, auth.ErrDenied
		})
	})
	c := f.client()
	c.login()
	for _, n := range []int{0, 1, 2, 3, maxToken, maxToken + 1, 30000} {
		token := attr(stunwire.AttrAccessToken, bytes.Repeat([]byte{0xff}, n)...)
		c.key = stunwire.NewKey([]byte("k"))
		want := 401
		if n > maxToken {
			want = 400
		}
		m := c.exchange(c.build(stunwire.Allocate, with(transportAttr(protocolUDP), token)), answerTimeout)
		require.Equal(t, want, code(m), n)
	}
}

// coturn #1844, #1964: a 16-bit length that overflows in the framing.
func TestCoturn1844_FramingLengthOverflow(t *testing.T) {
	f := start(t, nil)
	for _, head := range []string{"\x40\x00\xff\xff", "\x40\x00\xff\xfc", "\x00\x03\xff\xff\x21\x12\xa4\x42", "\x00\x03\xff\xfc\x21\x12\xa4\x42"} {
		c := f.dialTCP()
		c.write([]byte(head))
		c.write(bytes.Repeat([]byte{'x'}, 2000))
		require.True(t, closed(t, c.conn), "%q of a client without an allocation", head)
		c = f.dialTCP()
		c.allocate()
		c.write([]byte("\x40\x00\xff\xff"))
		c.write(make([]byte, 65536))
		require.Equal(t, 0, code(c.refresh(600)), "a channel message of 65535 bytes is one message")
	}
}

// coturn #1871 (origin pinned before integrity was checked).
func TestCoturn1871_NoStateFromUnauthenticatedAttributes(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Realms = testRealms{} })
	c := f.client()
	other := with(transportAttr(protocolUDP), attr(stunwire.AttrOrigin, []byte("https://other.example")...))
	require.Equal(t, 401, code(c.do(stunwire.Allocate, other)))
	c.login() // without ORIGIN
	require.Equal(t, "test.example", c.realm)
	require.Zero(t, held(f.server, func() int { return len(f.server.realms) }), "no realm was made for a stranger")
}

// coturn ab762f33: attributes after MESSAGE-INTEGRITY were honoured.
func TestCoturn_ab762f33_AttributesAfterIntegrityAreIgnored(t *testing.T) {
	var asked []string // one after the other: the client waits for each answer
	f := start(t, func(s *Server, _ *Policy) {
		inner := s.Auth
		s.Auth = auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
			asked = append(asked, r.Origin)
			return inner.Authorize(ctx, r)
		})
	})
	c := f.client()
	c.allocate()
	appended := func(b []byte, a stunwire.Attr, v ...byte) []byte {
		b = append(b, byte(a>>8), byte(a), byte(len(v)>>8), byte(len(v)))
		b = append(append(b, v...), make([]byte, -len(v)&3)...)
		n := len(b) - stunwire.HeaderSize
		b[2], b[3] = byte(n>>8), byte(n)
		return b
	}
	m := c.exchange(appended(c.build(stunwire.Refresh, nil), stunwire.AttrLifetime, 0, 0, 0, 0), answerTimeout)
	require.Equal(t, 0, code(m))
	require.EqualValues(t, 600, lifetime(t, m), "LIFETIME 0 behind the integrity does not count")
	require.Equal(t, 0, code(c.refresh(600)), "the allocation is there")
	peer := []byte{0, 1, 0x2b, 0x1b, 0x5e, 0x12, 0xa4, 0x43} // 127.0.0.1:2569
	m = c.exchange(appended(c.build(stunwire.CreatePermission, nil), stunwire.AttrXORPeerAddress, peer...), answerTimeout)
	require.Equal(t, 400, code(m))
	require.Empty(t, f.one().Info().Permissions)

	d := f.client()
	d.login()
	allocate := d.build(stunwire.Allocate, transportAttr(protocolUDP))
	allocate = appended(allocate, stunwire.AttrOrigin, []byte("mine")...)
	require.Equal(t, 0, code(d.exchange(appended(allocate, stunwire.AttrEvenPort, 0x80), answerTimeout)))
	require.Zero(t, held(f.server, func() int { return len(f.server.reserved) }))
	require.Equal(t, []string{"", ""}, asked, "the ORIGINs that Auth has heard of")
}

// coturn #1869: a MAC that was compared until the first difference.
func TestCoturn1869_MACsAreComparedInConstantTime(t *testing.T) {
	for file, functions := range map[string][]string{
		"nonce.go":                    {"check"},
		"../internal/stunwire/key.go": {"CheckIntegrity", "CheckIntegritySHA256"},
		"../internal/dtlsmux/gate.go": {"check"},
	} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, name := range functions {
			calls := map[string]bool{}
			for _, d := range parsed.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Name.Name != name {
					continue
				}
				ast.Inspect(f, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok {
						if x, ok := s.X.(*ast.Ident); ok {
							calls[x.Name+"."+s.Sel.Name] = true
						}
					}
					return true
				})
			}
			require.True(t, calls["hmac.Equal"] || calls["subtle.ConstantTimeCompare"], "%s in %s", name, file)
			require.False(t, calls["bytes.Equal"] || calls["bytes.Compare"], "%s in %s", name, file)
		}
	}
}

// GHSA-4g7c-p5wg-j4hp, and secrets in logs (#1932).
func TestGHSA_4g7c_p5wg_j4hp_HostileNamesInLogs(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	name := "%s%n\r\n level=ERROR msg=forged {turn/realm} \x00\x1b[31m"
	f := start(t, func(s *Server, _ *Policy) {
		s.Auth = users(map[string]string{name: "hunter2-secret"})
		s.Log = slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(b)
		}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := f.client()
	c.user, c.pass = name, "hunter2-secret"
	m := c.allocate()
	require.Equal(t, name, f.one().Info().User)
	require.Equal(t, 1, f.server.Stats().Realms["test.example"].Live)
	relayBothWays(t, c, relayed(t, m)[0], newPeer(t, loopback))
	c.refresh(0)
	c.pass = "wrong"
	c.login()
	c.do(stunwire.Allocate, transportAttr(protocolUDP))
	// What is logged of a request may be so after its answer.
	var text string
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		text = log.String()
		return strings.Contains(text, "session began") && strings.Contains(text, "usage.toPeerPackets=8")
	}, "the session's lines")
	require.NotContains(t, text, "hunter2")
	require.NotContains(t, text, c.nonce)
	for line := range strings.Lines(text) {
		require.True(t, strings.HasPrefix(line, "time="), "%q", line)
	}
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// coturn #1932, pion: permissions without end. RFC 8656: 508.
func TestCoturn1932_PermissionCap(t *testing.T) {
	f := start(t, func(_ *Server, p *Policy) { p.MaxPermissions, p.MaxChannels, p.Peers.AllowPrivate = 10, 3, true })
	c := f.client()
	c.allocate()
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1) }
	for i := range 10 {
		require.Equal(t, 0, c.permit(at(i)))
	}
	require.Equal(t, 508, c.permit(at(10)))
	require.Equal(t, 0, c.permit(at(3)), "one that is there can be refreshed")
	for i := range 3 {
		require.Equal(t, 0, c.bind(0x4000+uint16(i), at(i)))
	}
	require.Equal(t, 508, c.bind(0x4003, at(3)))
	require.Equal(t, 0, c.bind(0x4000, at(0)))
	many := f.client()
	many.allocate()
	var add []func(*stunwire.Builder)
	for i := range 11 {
		add = append(add, peerAttr(at(i)))
	}
	require.Equal(t, 508, code(many.do(stunwire.CreatePermission, with(add...))))
	require.Equal(t, 0, code(many.do(stunwire.CreatePermission, with(add[:10]...))))
}

// coturn #1969: a ticket of somebody else's.
func TestCoturn1969_MobilityTicketOfAnotherUser(t *testing.T) {
	f := start(t, mobile)
	c := f.client()
	m := c.allocate(attr(stunwire.AttrMobilityTicket))
	ticket := ticketOf(t, m)
	d := f.client()
	d.user, d.pass = "bob", "builder"
	d.login()
	require.Equal(t, 441, code(d.do(stunwire.Refresh, ticket)))
	require.Equal(t, 441, code(d.do(stunwire.Refresh, with(ticket, lifetimeAttr(0)))))
	require.Equal(t, 0, code(c.refresh(600)))
	require.Equal(t, c.local(), f.one().Info().Client)
}

// RFC 8656 Section 5: requests of another user for an allocation get 441.
func TestAnotherUsersAllocation(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.allocate()
	c.user, c.pass = "bob", "builder"
	c.key = stunwire.NewKey(stunwire.LongTermKey("bob", c.realm, "builder", stunwire.MD5))
	require.Equal(t, 441, code(c.refresh(0)))
	require.Equal(t, 441, c.permit(netip.MustParseAddrPort("127.0.0.1:1")))
	require.Equal(t, 441, c.bind(0x4000, netip.MustParseAddrPort("127.0.0.1:1")))
	c.key = stunwire.NewKey([]byte("wrong"))
	require.Equal(t, 401, code(c.refresh(0)))
	require.NotNil(t, f.one())
}

// GHSA-hpq3-g7x4-h7xx: chained moves that leave sessions behind.
func TestGHSA_hpq3_g7x4_h7xx_MobilityResumeFlood(t *testing.T) {
	f := start(t, mobile)
	c := f.client()
	m := c.allocate(attr(stunwire.AttrMobilityTicket))
	for range 50 {
		d := f.client()
		d.login()
		m = d.do(stunwire.Refresh, ticketOf(t, m))
		require.Equal(t, 0, code(m))
	}
	require.NotNil(t, f.one())
	require.LessOrEqual(t, held(f.server, func() int { return len(f.server.tickets) }), 2)
	paths := 0
	for _, sh := range f.server.shardsForTest() {
		sh.mu.Lock()
		paths += len(sh.paths)
		sh.mu.Unlock()
	}
	require.LessOrEqual(t, paths, 2)
	server, _, _ := f.server.quota.counts("test.example", "alice")
	require.Equal(t, 1, server)
	require.Equal(t, 0, code(c.refresh(0)), "the first path is there still")
	require.Zero(t, held(f.server, func() int { return len(f.server.tickets) }))
}

func (s *Server) shardsForTest() (list []*shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.closers {
		if sh, ok := c.(*shard); ok {
			list = append(list, sh)
		}
	}
	return list
}

// GHSA-f6hc-79w3-p8pq: a TCP client that leaves does not get its quota back
// while the allocation waits for it.
func TestGHSA_f6hc_79w3_p8pq_MobilityQuotaFlood(t *testing.T) {
	f := start(t, func(_ *Server, p *Policy) { p.Mobility, p.UserQuota = true, 1 })
	c := f.dialTCP()
	c.allocate(attr(stunwire.AttrMobilityTicket))
	require.NoError(t, c.conn.Close())
	eventually(t, func() bool { return f.one().Info().Transport == "" }, "the connection is gone")
	d := f.dialTCP()
	d.login()
	require.Equal(t, 486, code(d.do(stunwire.Allocate, transportAttr(protocolUDP))))
}

// GHSA-847g-qmc6-6m4r: EVEN-PORT without R leaks the odd port.
func TestGHSA_847g_qmc6_6m4r_EvenPortLeaksNothing(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		s.Relays = &RelayPorts{Addrs: []RelayAddr{{Listen: netip.MustParseAddr("127.0.0.91")}}, Min: 52000, Max: 52007}
	})
	for range 16 {
		c := f.client()
		c.allocate(attr(stunwire.AttrEvenPort, 0))
		require.Equal(t, 0, code(c.refresh(0)))
	}
}

// coturn 4.16: of several XOR-PEER-ADDRESS in a Send the first counts.
func TestDuplicatePeerInSend(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.allocate()
	one, two := newPeer(t, loopback), newPeer(t, loopback)
	require.Equal(t, 0, c.permit(one.addr))
	c.indicate(one.addr, "once", peerAttr(two.addr))
	got, _ := one.read(answerTimeout)
	require.Equal(t, "once", got)
	got, _ = two.read(nothing)
	require.Empty(t, got)
}

// pion: ChannelBind of 0x3FFF, silence where the RFC has 437.
func TestChannelNumbersAndMismatch(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.login()
	to := netip.MustParseAddrPort("127.0.0.1:9")
	require.Equal(t, 437, code(c.refresh(600)))
	require.Equal(t, 437, c.permit(to))
	require.Equal(t, 437, c.bind(0x4000, to))
	require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	p := newPeer(t, loopback)
	for _, n := range []uint16{0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF} {
		require.Equal(t, 400, c.bind(n, p.addr), "%#x", n)
	}
	require.Equal(t, 0, c.bind(0x4FFF, p.addr))
	require.Equal(t, 400, c.bind(0x4FFE, p.addr), "a peer with another number")
	require.Equal(t, 400, c.bind(0x4FFF, newPeer(t, loopback).addr), "a number with another peer")
	require.Equal(t, 400, code(c.do(stunwire.ChannelBind, channelAttr(0x4000))))
	require.Equal(t, 400, code(c.do(stunwire.ChannelBind, peerAttr(p.addr))))
	require.Equal(t, 400, code(c.do(stunwire.CreatePermission, nil)))
	f.server.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true}, RFC5766Channels: true})
	require.Equal(t, 0, c.bind(0x7FFF, newPeer(t, loopback).addr))
}

// Data without what it needs is dropped, and counted.
func TestDropsAreCounted(t *testing.T) {
	f := start(t, nil)
	p := newPeer(t, loopback)
	stranger := f.client()
	stranger.channel(0x4000, "x")
	stranger.indicate(p.addr, "x")
	stranger.write([]byte("\xffneither"))
	c := f.client()
	at := relayed(t, c.allocate())[0]
	c.channel(0x4000, "x")
	c.indicate(p.addr, "x")
	p.write(at, "x")
	want := map[string]uint64{"no-allocation": 2, "malformed": 1, "no-channel": 1, "no-permission": 2}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		drops := f.server.Stats().Drops
		for name, n := range want {
			assert.Equal(t, n, drops[name], name)
		}
	}, answerTimeout, 5*time.Millisecond)

	require.EqualValues(t, 3, f.one().Info().Usage.Dropped)
	got, _ := p.read(nothing)
	require.Empty(t, got)
}
