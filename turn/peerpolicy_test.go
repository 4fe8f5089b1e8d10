package turn

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
)

func ranges(t testing.TB, list ...string) []auth.IPRange {
	t.Helper()
	var out []auth.IPRange
	for _, s := range list {
		r, err := auth.ParseIPRange(s)
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func peerAddr(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 5000) }

// reason returns why a peer is refused, "" if it is not.
func reason(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	require.IsType(t, peerDenied(0), err)
	return err.(peerDenied).String()
}

// What coturn's advisories were about, and what it lets pass to this day.
func TestPeersRefusedByDefault(t *testing.T) {
	p := (&PeerPolicy{}).compile()
	for name, tc := range map[string]struct {
		peers []string
		want  string
	}{
		"CVE-2018-4058 loopback":                 {[]string{"127.0.0.1", "127.255.255.254", "::1"}, "loopback"},
		"CVE-2020-26262 unspecified":             {[]string{"0.0.0.0", "0.1.2.3", "::"}, "unspecified"},
		"CVE-2026-27624 IPv4-mapped":             {[]string{"::ffff:127.0.0.1", "::ffff:7f00:1"}, "loopback"},
		"CVE-2026-27624 IPv4-mapped unspecified": {[]string{"::ffff:0.0.0.0"}, "unspecified"},
		"CVE-2026-27624 IPv4-mapped private":     {[]string{"::ffff:10.0.0.1"}, "private"},
		"GHSA-w4hf-cr3w-6h79 zone":               {[]string{"::1%lo", "::ffff:127.0.0.1%eth0"}, "loopback"},
		"coturn 1945 metadata": {[]string{
			"169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "169.254.170.2",
		}, "metadata"},
		"coturn 1946 unique local":      {[]string{"fc00::1", "fdff::1"}, "private"},
		"link-local":                    {[]string{"169.254.1.1", "fe80::1", "fe80::1%eth0", "fec0::1"}, "link-local"},
		"private":                       {[]string{"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1"}, "private"},
		"carrier-grade NAT":             {[]string{"100.64.0.1", "100.127.255.255"}, "shared"},
		"multicast":                     {[]string{"224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1"}, "multicast"},
		"broadcast":                     {[]string{"255.255.255.255"}, "broadcast"},
		"future use":                    {[]string{"240.0.0.1", "255.255.255.254", "192.0.0.8", "100::1", "4000::1"}, "reserved"},
		"documentation":                 {[]string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1"}, "documentation"},
		"coturn 1947 6to4":              {[]string{"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1"}, "tunnel"},
		"coturn's gap, Teredo":          {[]string{"2001:0:7f00:1::", "2001::1:2:3:80ff:fffe", "2001:0:808:808:0:0:f7f7:f7f7"}, "tunnel"},
		"coturn's gap, local NAT64":     {[]string{"64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "64:ff9b:1::808:808"}, "translated"},
		"coturn 1947 NAT64":             {[]string{"64:ff9b::7f00:1", "64:ff9b::127.1.2.3"}, "loopback"},
		"NAT64 metadata":                {[]string{"64:ff9b::a9fe:a9fe"}, "metadata"},
		"NAT64 private":                 {[]string{"64:ff9b::10.0.0.1"}, "private"},
		"NAT64 unspecified":             {[]string{"64:ff9b::"}, "unspecified"},
		"coturn 1947 IPv4-compatible":   {[]string{"::127.0.0.1", "::8.8.8.8"}, "reserved"},
		"IPv4-translated":               {[]string{"::ffff:0:127.0.0.1"}, "reserved"},
		"ISATAP on a global prefix":     {[]string{"2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:127.0.0.1"}, "loopback"},
		"ISATAP with private addresses": {[]string{"2606:4700::5efe:192.168.1.1"}, "private"},
	} {
		for _, peer := range tc.peers {
			require.Equal(t, tc.want, reason(t, p.check(peerAddr(peer), false, nil, nil)), "%s: %s", name, peer)
			require.Equal(t, tc.want, reason(t, p.check(peerAddr(peer), true, nil, nil)), "%s: %s, any port", name, peer)
		}
	}
	require.Equal(t, "invalid", reason(t, p.check(netip.AddrPort{}, false, nil, nil)))
	require.Equal(t, "port", reason(t, p.check(netip.MustParseAddrPort("8.8.8.8:0"), false, nil, nil)))
	require.NoError(t, p.check(netip.MustParseAddrPort("8.8.8.8:0"), true, nil, nil))
}

func TestPeerPorts(t *testing.T) {
	ranges, err := auth.ParseIPRange("10.0.0.1")
	require.NoError(t, err)
	p := (&PeerPolicy{OnlyAllowed: true, Allow: []auth.IPRange{ranges}, Ports: []uint16{8000, 443}}).compile()
	relay := func(netip.AddrPort) ownKind { return ownRelay }
	for peer, want := range map[string]string{
		"10.0.0.1:8000": "", "10.0.0.1:443": "", "10.0.0.1:80": "port", "[::ffff:10.0.0.1]:8001": "port", "10.0.0.2:8000": "private",
	} {
		err := p.check(netip.MustParseAddrPort(peer), false, nil, nil)
		if want == "" {
			require.NoError(t, err, peer)
		} else {
			require.Equal(t, want, reason(t, err), peer)
		}
	}
	require.NoError(t, p.check(netip.MustParseAddrPort("10.0.0.1:0"), true, nil, nil), "a permission")
	require.Equal(t, "port", reason(t, p.check(netip.MustParseAddrPort("10.0.0.1:5000"), false, nil, relay)), "of another client")
}

func TestPeersAllowedByDefault(t *testing.T) {
	p := (&PeerPolicy{}).compile()
	for _, peer := range []string{
		"8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700::1111", "2a00:1450:4001::5efe:808:808",
		"172.32.0.1", "100.128.0.1", "11.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255", "1.0.0.1",
	} {
		require.NoError(t, p.check(peerAddr(peer), false, nil, nil), peer)
		require.NoError(t, p.check(peerAddr(peer), true, nil, nil), peer)
	}
}

// Each refusal has its switch, and a switch opens what it says and no more.
func TestPeerSwitches(t *testing.T) {
	groups := map[string][]string{
		"loopback":      {"127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"},
		"private":       {"10.0.0.1", "fd00::1", "100.64.0.1", "64:ff9b::10.0.0.1"},
		"linklocal":     {"169.254.1.1", "fe80::1"},
		"multicast":     {"224.0.0.1", "ff02::1", "255.255.255.255"},
		"documentation": {"192.0.2.1", "2001:db8::1", "198.18.0.1"},
		"tunnels":       {"2002:808:808::1", "2001:0:808:808:0:0:f7f7:f7f7", "64:ff9b:1::808:808"},
		"reserved":      {"240.0.0.1", "100::1", "::8.8.8.8"},
		"":              {"0.0.0.0", "::", "169.254.169.254", "fd00:ec2::254", "64:ff9b::169.254.169.254", "2002:7f00:1::", "64:ff9b:1::7f00:1"},
	}
	for on, policy := range map[string]PeerPolicy{
		"loopback":      {AllowLoopback: true},
		"private":       {AllowPrivate: true},
		"linklocal":     {AllowLinkLocal: true},
		"multicast":     {AllowMulticast: true},
		"documentation": {AllowDocumentation: true},
		"tunnels":       {AllowTunnels: true},
		"reserved":      {AllowReserved: true},
	} {
		p := policy.compile()
		for group, peers := range groups {
			for _, peer := range peers {
				err := p.check(peerAddr(peer), false, nil, nil)
				require.Equal(t, group == on, err == nil, "Allow%s: %s: %v", on, peer, err)
			}
		}
	}
	all := (&PeerPolicy{
		AllowLoopback: true, AllowPrivate: true, AllowLinkLocal: true, AllowMulticast: true, AllowDocumentation: true,
		AllowTunnels: true, AllowReserved: true, AllowSelf: true,
	}).compile()
	for _, peer := range []string{"0.0.0.0", "::", "169.254.169.254", "fd00:ec2::254", "2002:a9fe:a9fe::"} {
		require.Error(t, all.check(peerAddr(peer), false, nil, nil), peer)
	}
	require.NoError(t, all.check(peerAddr("2002:7f00:1::"), false, nil, nil))
}

func TestDenyWinsAllowOpens(t *testing.T) {
	p := (&PeerPolicy{
		Allow: ranges(t, "10.0.0.0/8", "169.254.169.254", "127.0.0.1-127.0.0.9", "fd00:1::/32", "0.0.0.0/8"),
		Deny:  ranges(t, "10.66.0.0/16", "8.8.0.0-8.8.255.255", "2606:4700::10-2606:4700::20"),
	}).compile()
	for peer, want := range map[string]string{
		"10.1.2.3": "", "::ffff:10.1.2.3": "", "64:ff9b::10.1.2.3": "", "127.0.0.9": "", "169.254.169.254": "", "fd00:1::5": "",
		"10.66.1.1": "rule", "::ffff:10.66.1.1": "rule", "64:ff9b::10.66.1.1": "rule", "8.8.4.4": "rule",
		"127.0.0.10": "loopback", "192.168.1.1": "private", "fd00:2::5": "private", "9.9.9.9": "",
		"2002:a00:1::": "tunnel", // what is inside is allowed, the outside is not
		"0.0.0.0":      "unspecified",
	} {
		require.Equal(t, want, reason(t, p.check(peerAddr(peer), false, nil, nil)), peer)
	}
}

// coturn 6c13608c: IPv6 ranges are compared as numbers.
func TestCoturn_6c13608c_PeerRangesThatAreNotAligned(t *testing.T) {
	p := (&PeerPolicy{Deny: ranges(t, "2606:4700:0:10::ff00-2606:4700:0:20::1")}).compile()
	for peer, want := range map[string]string{
		"2606:4700:0:10::feff": "", "2606:4700:0:10::ff00": "rule", "2606:4700:0:11::": "rule",
		"2606:4700:0:1f:ffff:ffff:ffff:ffff": "rule", "2606:4700:0:20::1": "rule", "2606:4700:0:20::2": "",
	} {
		require.Equal(t, want, reason(t, p.check(peerAddr(peer), false, nil, nil)), peer)
	}
}

func TestRealmRulesOnTop(t *testing.T) {
	p := (&PeerPolicy{Deny: ranges(t, "10.66.0.0/16")}).compile()
	realm := compileRules(ranges(t, "10.0.0.0/8"), ranges(t, "9.9.9.0/24", "10.77.0.0/16"))
	for peer, want := range map[string]string{
		"10.1.1.1": "", "10.66.1.1": "rule", "10.77.1.1": "rule", "9.9.9.9": "rule", "192.168.1.1": "private", "8.8.8.8": "",
	} {
		require.Equal(t, want, reason(t, p.check(peerAddr(peer), false, realm, nil)), peer)
	}
	require.Equal(t, "private", reason(t, p.check(peerAddr("10.1.1.1"), false, nil, nil)), "another realm's")
}

func TestOnlyAllowed(t *testing.T) {
	p := (&PeerPolicy{OnlyAllowed: true, Allow: ranges(t, "10.5.0.0/16", "9.9.9.9")}).compile()
	for peer, want := range map[string]string{"10.5.1.1": "", "9.9.9.9": "", "8.8.8.8": "not-listed", "10.6.0.1": "private"} {
		require.Equal(t, want, reason(t, p.check(peerAddr(peer), false, nil, nil)), peer)
	}
	realm := compileRules(ranges(t, "8.8.8.8"), nil)
	require.NoError(t, p.check(peerAddr("8.8.8.8"), false, realm, nil))
}

// The server at 5.5.5.5 (in front of 10.0.0.5, 1:1 NAT), which listens on port
// 3478, has a relay on port 50000, a database at 10.9.9.9 and an admin port.
func ownOf(a netip.AddrPort) ownKind {
	switch a.Addr().String() {
	case "5.5.5.5", "10.0.0.5":
		switch a.Port() {
		case 3478:
			return ownListener
		case 0, 50000:
			return ownRelay
		}
		return ownRelayIdle
	}
	return ownNone
}

func TestOwnAddresses(t *testing.T) {
	policy := PeerPolicy{Endpoints: []netip.AddrPort{
		netip.MustParseAddrPort("9.9.9.9:0"), netip.MustParseAddrPort("[::ffff:7.7.7.7]:9641"), netip.MustParseAddrPort("10.9.9.9:5432"),
	}}
	p := policy.compile()
	check := func(p *peerRules, peer string) string {
		return reason(t, p.check(netip.MustParseAddrPort(peer), false, nil, ownOf))
	}
	for peer, want := range map[string]string{
		"5.5.5.5:50000":            "", // two browsers relay through one server
		"10.0.0.5:50000":           "",
		"[::ffff:5.5.5.5]:50000":   "",
		"[64:ff9b::5.5.5.5]:50000": "",
		"5.5.5.5:50001":            "idle-relay",
		"5.5.5.5:22":               "idle-relay",
		"[64:ff9b::5.5.5.5]:22":    "idle-relay",
		"5.5.5.5:3478":             "own-endpoint",
		"[::ffff:5.5.5.5]:3478":    "own-endpoint",
		"10.0.0.5:3478":            "own-endpoint",
		"10.0.0.5:22":              "private",
		"9.9.9.9:1":                "own-endpoint",
		"[64:ff9b::9.9.9.9]:1":     "own-endpoint",
		"7.7.7.7:9641":             "own-endpoint",
		"7.7.7.7:9642":             "",
		"10.9.9.9:5432":            "own-endpoint",
		"5.5.5.5:0":                "port",
	} {
		require.Equal(t, want, check(p, peer), peer)
	}

	// A permission is for an address: that there are relays is enough, each
	// packet is judged again.
	require.NoError(t, p.check(netip.MustParseAddrPort("5.5.5.5:22"), true, nil, ownOf))
	require.NoError(t, p.check(netip.MustParseAddrPort("10.0.0.5:0"), true, nil, ownOf))
	require.Equal(t, "own-endpoint", reason(t, p.check(netip.MustParseAddrPort("9.9.9.9:22"), true, nil, ownOf)))

	// Allow and the switches open the rest of the machine, not the endpoints.
	policy.AllowPrivate, policy.Allow = true, ranges(t, "5.5.5.5", "9.9.9.9")
	p = policy.compile()
	for peer, want := range map[string]string{
		"10.0.0.5:22": "", "5.5.5.5:22": "", "5.5.5.5:3478": "own-endpoint", "10.0.0.5:3478": "own-endpoint",
		"9.9.9.9:1": "own-endpoint", "10.9.9.9:5432": "own-endpoint", "10.9.9.9:5433": "",
	} {
		require.Equal(t, want, check(p, peer), peer)
	}

	// Deny wins over its being ours.
	policy.Deny = ranges(t, "5.5.5.5")
	require.Equal(t, "rule", check(policy.compile(), "5.5.5.5:50000"))

	policy.Deny, policy.AllowSelf = nil, true
	p = policy.compile()
	require.Equal(t, "", check(p, "5.5.5.5:3478"))
	require.Equal(t, "", check(p, "9.9.9.9:1"))
	require.Equal(t, "", check(p, "10.9.9.9:5432"))
}

// A policy that is compiled does not change with what it was compiled from.
func TestCompiledPolicyIsACopy(t *testing.T) {
	policy := PeerPolicy{Deny: ranges(t, "8.8.8.8"), Endpoints: []netip.AddrPort{netip.MustParseAddrPort("7.7.7.7:1")}}
	p := policy.compile()
	policy.Deny[0] = ranges(t, "1.1.1.1")[0]
	policy.Endpoints[0] = netip.MustParseAddrPort("6.6.6.6:1")
	require.Error(t, p.check(peerAddr("8.8.8.8"), false, nil, nil))
	require.NoError(t, p.check(peerAddr("1.1.1.1"), false, nil, nil))
	require.Error(t, p.check(netip.MustParseAddrPort("7.7.7.7:1"), false, nil, nil))
}

func TestPeerCheckDoesNotAllocate(t *testing.T) {
	p := (&PeerPolicy{Deny: ranges(t, "10.66.0.0/16"), Endpoints: []netip.AddrPort{netip.MustParseAddrPort("7.7.7.7:1")}}).compile()
	realm := compileRules(ranges(t, "10.0.0.0/8"), nil)
	own := ownOf4
	for _, s := range []string{"8.8.8.8:1", "10.66.0.1:1", "127.0.0.1:1", "[64:ff9b::8.8.8.8]:5", "[2606:4700::1]:5", "7.7.7.7:1"} {
		peer := netip.MustParseAddrPort(s)
		require.Zero(t, testing.AllocsPerRun(100, func() { _ = p.check(peer, false, realm, own) }), s)
	}
}

func ownOf4(a netip.AddrPort) ownKind {
	if a == netip.MustParseAddrPort("5.5.5.5:1") {
		return ownListener
	}
	return ownNone
}

// FuzzPeerCheck: whatever the address, what gets through reaches neither this
// host, nor a private network, nor a metadata service, in any of its readings.
func FuzzPeerCheck(f *testing.F) {
	for _, s := range []string{"::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "8.8.8.8", "fd00::1", "2001::1:2:3:80ff:fffe"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	p := (&PeerPolicy{}).compile()
	open := (&PeerPolicy{AllowTunnels: true, AllowReserved: true}).compile()
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		refused := p.check(netip.AddrPortFrom(a, 1), false, nil, nil) != nil
		if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.Unmap().IsLoopback() || a.Unmap().IsPrivate() {
			require.True(t, refused, a)
		}
		if open.check(netip.AddrPortFrom(a, 1), false, nil, nil) != nil {
			require.True(t, refused, "%v: a switch closed it", a)
		}
		require.Equal(t, refused, p.check(netip.AddrPortFrom(a.WithZone("x"), 1), false, nil, nil) != nil)
		if a.Is4() {
			require.Equal(t, refused, p.check(netip.AddrPortFrom(netip.AddrFrom16(a.As16()), 1), false, nil, nil) != nil)
		}
	})
}

func BenchmarkPeerCheck(b *testing.B) {
	p := (&PeerPolicy{Deny: ranges(b, "10.66.0.0/16"), Endpoints: []netip.AddrPort{netip.MustParseAddrPort("7.7.7.7:1")}}).compile()
	realm := compileRules(nil, nil)
	for _, s := range []string{"8.8.8.8:1", "[2606:4700::1]:5", "[64:ff9b::8.8.8.8]:5"} {
		peer := netip.MustParseAddrPort(s)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p.check(peer, false, realm, nil) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
