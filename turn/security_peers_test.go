package turn

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// quiet is how long a test waits for what must not come.
const quiet = 100 * time.Millisecond

func familyAttr(v6 bool) func(*stunwire.Builder) {
	family := byte(1)
	if v6 {
		family = 2
	}
	return attr(stunwire.AttrRequestedAddressFamily, family, 0, 0, 0)
}

// The addresses of coturn's advisories, and of its gaps, as they come in
// requests: CreatePermission, ChannelBind and Connect say 403 (a peer of the
// other family than the relayed address may get 443).
func TestRequestsForRefusedPeers(t *testing.T) {
	f := start(t, func(_ *Server, p *Policy) { p.Peers = PeerPolicy{} })
	four, six := f.client(), f.client()
	four.allocate()
	six.allocate(familyAttr(true))
	tcp, tcp6 := f.dialTCP(), f.dialTCP()
	tcp.allocateTCP()
	tcp6.login()
	require.Equal(t, 0, code(tcp6.do(stunwire.Allocate, with(transportAttr(protocolTCP), familyAttr(true)))))

	number := uint16(0x4000)
	for advisory, peers := range map[string][]string{
		"CVE-2018-4058 loopback":          {"127.0.0.2", "127.255.255.255"},
		"CVE-2020-26262 this host":        {"0.0.0.0", "0.0.0.1", "::"},
		"CVE-2026-27624 IPv4-mapped":      {"::ffff:127.0.0.2", "::ffff:0.0.0.0", "::ffff:10.0.0.1", "::ffff:169.254.169.254"},
		"GHSA-w4hf-cr3w-6h79 exact forms": {"::ffff:127.0.0.1", "::127.0.0.1", "::2"},
		"coturn 1945 6to4":                {"2002:7f00:2::", "2002:808:808::"},
		"coturn 1945 NAT64":               {"64:ff9b::7f00:2", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:2", "64:ff9b:1:7f00:0:200::"},
		"coturn 1945 IPv4-compatible":     {"::127.0.0.2", "::10.0.0.1"},
		"coturn 1946 metadata":            {"169.254.169.254", "168.63.129.16", "fd00:ec2::254"},
		"coturn 1947 unique local":        {"fc00::1", "fd12:3456::1"},
		"Teredo and ISATAP":               {"2001:0:7f00:2::", "2001::1:2:3:80ff:fffd", "2606:4700::5efe:7f00:2"},
		"IANA: private, shared, link":     {"10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "fe80::1", "fec0::1"},
		"IANA: documentation, benchmarks": {"192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1"},
		"IANA: multicast and the rest":    {"224.0.0.1", "240.0.0.1", "255.255.255.255", "ff02::1", "100::1"},
	} {
		t.Run(advisory, func(t *testing.T) {
			for _, peer := range peers {
				a := netip.MustParseAddr(peer)
				udp, stream := four, tcp
				if a.Unmap().Is6() {
					udp, stream = six, tcp6
				}
				to := netip.AddrPortFrom(a, 5000)
				if peer != "::ffff:127.0.0.1" { // the relay addresses' own: a permission is for the relays there
					require.Equal(t, 403, udp.permit(to), "CreatePermission %s", peer)
				}
				require.Equal(t, 403, udp.bind(number, to), "ChannelBind %s", peer)
				require.Equal(t, 403, code(stream.do(stunwire.Connect, peerAttr(to))), "Connect %s", peer)
				if a.Is4In6() { // is IPv4, whatever the client's relayed address is
					require.Equal(t, 443, six.permit(to), "CreatePermission %s", peer)
					require.Equal(t, 443, six.bind(number, to), "ChannelBind %s", peer)
					require.Equal(t, 443, code(tcp6.do(stunwire.Connect, peerAttr(to))), "Connect %s", peer)
				}
				number++
			}
		})
	}
	// The test's relay addresses are loopback ones; no port but a relay's may be
	// named there.
	for c, to := range map[*rawClient]string{four: "127.0.0.1:5000", six: "[::1]:5000"} {
		require.Equal(t, 403, c.bind(number, netip.MustParseAddrPort(to)), to)
	}
	for c, to := range map[*rawClient]string{tcp: "127.0.0.1:5000", tcp6: "[::1]:5000"} {
		require.Equal(t, 403, code(c.do(stunwire.Connect, peerAttr(netip.MustParseAddrPort(to)))), to)
	}
	// One refused address among good ones refuses them all.
	require.Equal(t, 403, code(four.do(stunwire.CreatePermission, with(
		peerAttr(netip.MustParseAddrPort("8.8.8.8:1")), peerAttr(netip.MustParseAddrPort("127.0.0.2:1"))))))
	for a := range f.server.Allocations() {
		require.Empty(t, a.Info().Permissions)
		require.Empty(t, a.Info().Channels)
	}
}

// The rules hold for every packet, not only for requests: what is denied while
// sessions live stops at once, and comes back when it is allowed again.
func TestPolicyHoldsForEveryPacket(t *testing.T) {
	f := start(t, nil)
	peer := newPeer(t, loopback)
	c := f.client()
	relay := relayed(t, c.allocate())[0]
	require.Equal(t, 0, c.permit(peer.addr))
	require.Equal(t, 0, c.bind(0x4000, peer.addr))
	sends := func() {
		c.indicate(peer.addr, "indication")
		c.channel(0x4000, "channel")
	}
	sends()
	for range 2 {
		got, _ := peer.read(answerTimeout)
		require.NotEmpty(t, got)
	}

	f.server.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true, Deny: ranges(t, "127.0.0.0/8")}, UnauthenticatedRate: -1})
	sends()
	got, _ := peer.read(quiet)
	require.Empty(t, got, "to a peer that was denied")
	peer.write(relay, "from a peer that was denied")
	_, _, data := c.data(quiet)
	require.Empty(t, data)

	f.server.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true}, UnauthenticatedRate: -1})
	require.Equal(t, 0, c.bind(0x4000, peer.addr))
	c.channel(0x4000, "again")
	got, _ = peer.read(answerTimeout)
	require.Equal(t, "again", got)
}

// A permission is for an address, so that a port has to be judged when a packet
// goes there: the server's own, in the first place.
func TestServerItselfIsNoPeer(t *testing.T) {
	admin := newPeer(t, loopback)
	f := start(t, func(_ *Server, p *Policy) {
		p.Peers.Endpoints = []netip.AddrPort{admin.addr}
	})
	c := f.client()
	c.allocate()
	peer := newPeer(t, loopback)
	require.Equal(t, 0, c.permit(peer.addr))
	for _, to := range []netip.AddrPort{f.udp, admin.addr} {
		require.Equal(t, 403, c.bind(0x4001, to), to)
		binding := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), txID())
		c.indicate(to, string(binding.Bytes()))
	}
	got, _ := admin.read(quiet)
	require.Empty(t, got)
	_, _, data := c.data(quiet)
	require.Empty(t, data, "the server answered itself")

	tcp := f.dialTCP()
	tcp.login()
	require.Equal(t, 0, code(tcp.do(stunwire.Allocate, transportAttr(protocolTCP))))
	require.Equal(t, 403, code(tcp.do(stunwire.Connect, peerAttr(f.tcp))))
}

// Two clients relay through the one server, whose relay addresses are as
// private as here: that is the commonest case. Where nobody relays, nobody is
// reached.
func TestOwnRelaysAreReachedWhileTheyAreAllocated(t *testing.T) {
	f := start(t, func(_ *Server, p *Policy) { p.Peers = PeerPolicy{} })
	a, b := f.client(), f.client()
	relayA, relayB := relayed(t, a.allocate())[0], relayed(t, b.allocate())[0]
	require.Equal(t, 0, a.permit(relayB))
	require.Equal(t, 0, b.permit(relayA))
	require.Equal(t, 0, a.bind(0x4000, relayB))
	a.channel(0x4000, "from a to b")
	_, from, data := b.data(answerTimeout)
	require.Equal(t, relayA, from)
	require.Equal(t, "from a to b", data)
	b.indicate(relayA, "and back")
	number, _, data := a.data(answerTimeout)
	require.EqualValues(t, 0x4000, number)
	require.Equal(t, "and back", data)

	// Another service of the same machine.
	other := newPeer(t, loopback)
	require.Equal(t, 403, a.bind(0x4001, other.addr))
	a.indicate(other.addr, "psst")
	got, _ := other.read(quiet)
	require.Empty(t, got)

	// b leaves, and something else takes its port.
	require.Equal(t, 0, code(b.refresh(0)))
	var squatter *net.UDPConn
	require.Eventually(t, func() (ok bool) {
		var err error
		squatter, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(relayB))
		return err == nil
	}, answerTimeout, time.Millisecond)
	defer squatter.Close()
	a.channel(0x4000, "are you there")
	a.indicate(relayB, "are you there")
	require.NoError(t, squatter.SetReadDeadline(time.Now().Add(quiet)))
	n, _, err := squatter.ReadFromUDP(make([]byte, 100))
	require.Error(t, err, "%d bytes reached who took the port of a relay that is gone", n)
	require.Equal(t, 403, a.bind(0x4000, relayB))
}

// realmsOf are Realms with the same rules for every realm.
type realmsOf auth.PeerRules

func (realmsOf) RealmOf(context.Context, string) (string, error) { return "", nil }
func (realmsOf) RealmOptions(context.Context, string) (auth.RealmOptions, error) {
	return auth.RealmOptions{}, nil
}
func (r realmsOf) PeerRules(context.Context, string) (auth.PeerRules, error) {
	return auth.PeerRules(r), nil
}

func TestPeerRulesOfARealm(t *testing.T) {
	peer := newPeer(t, loopback)
	f := start(t, func(s *Server, p *Policy) {
		p.Peers = PeerPolicy{Deny: ranges(t, "127.9.0.0/16")}
		s.Realms = realmsOf{Allow: ranges(t, "127.0.0.0/8"), Deny: ranges(t, "8.8.0.0/16", "127.8.0.0/16")}
	})
	c := f.client()
	c.allocate()
	for to, want := range map[string]int{"8.8.8.8": 403, "9.9.9.9": 0, "127.8.0.1": 403, "127.9.0.1": 403, "10.0.0.1": 403} {
		require.Equal(t, want, c.permit(netip.AddrPortFrom(netip.MustParseAddr(to), 9)), to)
	}
	require.Equal(t, 0, c.bind(0x4000, peer.addr))
	c.channel(0x4000, "the realm allows it")
	got, _ := peer.read(answerTimeout)
	require.Equal(t, "the realm allows it", got)
}

// GHSA-5x2p-4vqj-f6m4, at the server's own port.
func TestGHSA_5x2p_4vqj_f6m4_CookielessDTLSLeavesNothing(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		s.DTLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "localhost")}}
	})
	conn, err := net.Dial("udp", f.udp.String())
	require.NoError(t, err)
	defer conn.Close()
	hello := []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 56,
		1, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 44, 0xfe, 0xfd}
	hello = append(hello, make([]byte, 32)...) // random
	hello = append(hello, 0, 0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0)
	answers := 0
	flood := func(n int) {
		for i := range n {
			hello[27], hello[28] = byte(i), byte(i>>8)
			_, err := conn.Write(hello)
			require.NoError(t, err)
			conn.SetReadDeadline(time.Now().Add(time.Second))
			b := make([]byte, 2048)
			if n, err := conn.Read(b); err == nil {
				require.Less(t, n, len(hello))
				require.EqualValues(t, 3, b[13], "HelloVerifyRequest")
				answers++
			}
		}
	}
	flood(100)
	var before, after runtime.MemStats
	goroutines := runtime.NumGoroutine()
	runtime.GC()
	runtime.ReadMemStats(&before)
	flood(10_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Greater(t, answers, 9000)
	require.Less(t, int64(after.HeapInuse)-int64(before.HeapInuse), int64(1<<20))
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}
