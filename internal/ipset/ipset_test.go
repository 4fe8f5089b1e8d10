package ipset

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func a(s string) netip.Addr { return netip.MustParseAddr(s) }

func r(from, to string) Range { return Range{a(from), a(to)} }

func TestSet(t *testing.T) {
	s := New(
		r("10.0.0.5", "10.0.0.9"), r("10.0.0.1", "10.0.0.4"), r("10.0.0.8", "10.0.1.0"), // touch and overlap
		r("192.0.2.1", "192.0.2.1"),
		r("255.255.255.255", "255.255.255.255"), r("0.0.0.0", "0.0.0.0"),
		r("2001:db8::1", "2001:db8::ffff"), r("2001:db8::1:0", "2001:db8::2:0"),
		r("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		r("::ffff:198.51.100.1", "::ffff:198.51.100.9"), // IPv4
		r("10.9.0.0", "10.8.0.0"), Range{}, Range{a("10.7.0.0"), a("::1")}, // no ranges
	)
	require.Len(t, s.v4, 5)
	require.Len(t, s.v6, 2)
	for _, in := range []string{
		"10.0.0.1", "10.0.0.4", "10.0.0.5", "10.0.0.255", "10.0.1.0", "::ffff:10.0.0.7", "192.0.2.1", "198.51.100.5",
		"255.255.255.255", "0.0.0.0", "2001:db8::1", "2001:db8::2:0", "2001:db8::ffff%eth0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		require.True(t, s.Contains(a(in)), in)
	}
	for _, out := range []string{
		"10.0.0.0", "10.0.1.1", "192.0.2.0", "192.0.2.2", "10.8.5.0", "10.7.0.0", "255.255.255.254", "0.0.0.1",
		"2001:db8::", "2001:db8::2:1", "::", "::10.0.0.5", "198.51.100.10",
	} {
		require.False(t, s.Contains(a(out)), out)
	}
	require.False(t, s.Contains(netip.Addr{}))
	require.False(t, s.Empty())
	var none Set
	require.True(t, none.Empty())
	require.False(t, none.Contains(a("10.0.0.1")))
}

// coturn 6c13608c: a range is compared as a number, not byte by byte.
func TestRangesThatAreNotAligned(t *testing.T) {
	s := New(r("2001:db8:0:10::ff00", "2001:db8:0:20::1"), r("10.1.250.200", "10.2.3.4"))
	for in, want := range map[string]bool{
		"2001:db8:0:10::ff00": true, "2001:db8:0:10::feff": false,
		"2001:db8:0:11::":                   true, // each of its last bytes is below that of From
		"2001:db8:0:1f:ffff:ffff:ffff:ffff": true, // and these above that of To
		"2001:db8:0:20::1":                  true,
		"2001:db8:0:20::2":                  false,
		"2001:db8:0:10:0:0:1:0":             true,
		"10.1.255.0":                        true,
		"10.2.0.255":                        true,
		"10.1.250.199":                      false,
		"10.2.3.5":                          false,
		"2001:db8:0:9:ffff:ffff:ffff:ffff":  false,
	} {
		require.Equal(t, want, s.Contains(a(in)), in)
	}
}

// TestSetAgainstList compares the search with a walk over all ranges.
func TestSetAgainstList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	pick := func() netip.Addr {
		if rnd.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, 0, byte(rnd.IntN(4)), byte(rnd.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0: 0x20, 7: byte(rnd.IntN(3)), 8: byte(rnd.IntN(2) * 255), 15: byte(rnd.IntN(256))})
	}
	for range 200 {
		var ranges []Range
		for range rnd.IntN(20) {
			x, y := pick(), pick()
			ranges = append(ranges, Range{x, y})
		}
		s := New(ranges...)
		for range 200 {
			x, want := pick(), false
			for _, r := range ranges {
				want = want || r.From.BitLen() == r.To.BitLen() && x.BitLen() == r.From.BitLen() && r.From.Compare(x) <= 0 && x.Compare(r.To) <= 0
			}
			require.Equal(t, want, s.Contains(x), "%v in %v", x, ranges)
		}
	}
}

func TestForms(t *testing.T) {
	for in, want := range map[string][]string{
		"192.0.2.1":                       {"192.0.2.1"},
		"::ffff:127.0.0.1":                {"127.0.0.1"},
		"fe80::1%eth0":                    {"fe80::1"},
		"2001:db8::1":                     {"2001:db8::1"},
		"::":                              {"::"},
		"::1":                             {"::1"},
		"::2":                             {"::2", "0.0.0.2"},
		"::127.0.0.1":                     {"::7f00:1", "127.0.0.1"},
		"::ffff:0:127.0.0.1":              {"::ffff:0:7f00:1", "127.0.0.1"},
		"64:ff9b::127.0.0.1":              {"64:ff9b::7f00:1", "127.0.0.1"},
		"64:ff9b::8.8.8.8":                {"64:ff9b::808:808", "8.8.8.8"},
		"64:ff9b:1::127.0.0.1":            {"64:ff9b:1::7f00:1", "127.0.0.1"},                 // /96
		"64:ff9b:1:7f00:0:100::":          {"64:ff9b:1:7f00:0:100::", "127.0.0.1"},            // /48
		"64:ff9b:1:7f:0:1::":              {"64:ff9b:1:7f:0:1::", "127.0.0.1"},                // /56
		"64:ff9b:1:0:7f:0:100::":          {"64:ff9b:1:0:7f:0:100:0", "127.0.0.1", "1.0.0.0"}, // /64
		"2002:7f00:1::":                   {"2002:7f00:1::", "127.0.0.1"},
		"2002:a9fe:a9fe::1":               {"2002:a9fe:a9fe::1", "169.254.169.254"},
		"2001:0:7f00:1:0:1234:f7f7:f7f7":  {"2001:0:7f00:1:0:1234:f7f7:f7f7", "127.0.0.1", "8.8.8.8"},
		"2001:0:808:808:0:1234:80ff:fffe": {"2001:0:808:808:0:1234:80ff:fffe", "8.8.8.8", "127.0.0.1"},
		"2001:db8::5efe:10.0.0.1":         {"2001:db8::5efe:a00:1", "10.0.0.1"},
		"2001:db8::200:5efe:10.0.0.1":     {"2001:db8::200:5efe:a00:1", "10.0.0.1"},
	} {
		var forms [MaxForms]netip.Addr
		n := Forms(a(in), &forms)
		got := []string{}
		for _, f := range forms[:n] {
			got = append(got, f.String())
		}
		require.Equal(t, a(want[0]).String(), got[0], in)
		for _, w := range want[1:] {
			require.Contains(t, got, w, in)
		}
		require.Len(t, got, len(want), "%s: %v", in, got)
	}
	var forms [MaxForms]netip.Addr
	require.Zero(t, Forms(netip.Addr{}, &forms))
}

// The registries' rows, one address of each, and the edges of some.
func TestPurposeOf(t *testing.T) {
	for in, want := range map[string]Purpose{
		"8.8.8.8": Global, "1.0.0.0": Global, "223.255.255.255": Global, "2606:4700::1": Global, "2a00::": Global,
		"0.0.0.0": Unspecified, "0.255.255.255": Unspecified, "::": Unspecified,
		"127.0.0.1": Loopback, "127.255.255.255": Loopback, "128.0.0.0": Global, "::1": Loopback, "::ffff:127.0.0.1": Loopback,
		"10.0.0.0": Private, "10.255.255.255": Private, "11.0.0.0": Global, "9.255.255.255": Global,
		"172.16.0.0": Private, "172.31.255.255": Private, "172.32.0.0": Global, "192.168.1.1": Private,
		"fc00::": Private, "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": Private, "fe00::": Reserved,
		"100.64.0.0": Shared, "100.127.255.255": Shared, "100.128.0.0": Global, "100.63.255.255": Global,
		"169.254.1.1": LinkLocal, "fe80::1": LinkLocal, "febf::1": LinkLocal, "fec0::1": LinkLocal,
		"169.254.169.254": Metadata, "fd00:ec2::254": Metadata, "100.100.100.200": Metadata, "168.63.129.16": Metadata, "fd20:ce::254": Metadata,
		"224.0.0.1": Multicast, "239.255.255.255": Multicast, "ff02::1": Multicast,
		"240.0.0.1": Reserved, "255.255.255.254": Reserved, "255.255.255.255": Broadcast,
		"192.0.0.8": Reserved, "192.0.0.9": Global, "192.0.0.10": Global, "192.0.0.11": Reserved, "192.0.0.170": Reserved,
		"192.0.2.1": Documentation, "198.51.100.1": Documentation, "203.0.113.1": Documentation, "198.18.0.1": Documentation, "198.20.0.0": Global,
		"2001:db8::1": Documentation, "3fff::1": Documentation, "3fff:1000::": Global, "2001:2::1": Documentation,
		"192.88.99.1": Tunnel, "2002::1": Tunnel, "2001::1": Tunnel, "2001:0:ffff::": Tunnel,
		"64:ff9b::1": Global, "64:ff9b:0:0:0:1::": Reserved, "64:ff9b:1::1": Translated, "64:ff9b:2::": Reserved,
		"2001:1::1": Global, "2001:1::4": Reserved, "2001:20::1": Global, "2001:10::1": Reserved, "2001:200::": Global, "2001:1ff:ffff::": Reserved,
		"100::1": Reserved, "100:0:0:1::1": Reserved, "5f00::1": Reserved, "4000::": Reserved, "::8.8.8.8": Reserved, "1::": Reserved,
		"fe80::a9fe:a9fe": Metadata,
	} {
		require.Equal(t, want.String(), PurposeOf(a(in)).String(), in)
	}
	require.Equal(t, Invalid, PurposeOf(netip.Addr{}))
	require.Equal(t, "unknown", Purpose(200).String())
}

// The table that is searched says what the rows say, at each of their ends.
func TestTableAgainstRows(t *testing.T) {
	for _, s := range Specials() {
		require.Equal(t, s.Prefix.Masked(), s.Prefix, "bits set beyond the length of %v", s.Prefix)
		first, last := s.Prefix.Addr(), last(s.Prefix)
		for _, x := range []netip.Addr{first, last, first.Prev(), last.Next()} {
			if x.IsValid() {
				require.Equal(t, slowPurpose(x), PurposeOf(x), x)
			}
		}
	}
}

func FuzzForms(f *testing.F) {
	for _, s := range []string{"::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b:1:7f00:0:100::", "2001:0:7f00:1:0:1234:f7f7:f7f7", "::1"} {
		b := a(s).As16()
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		var forms [MaxForms]netip.Addr
		n := Forms(x, &forms)
		require.Positive(t, n)
		require.False(t, forms[0].Is4In6())
		for _, f := range forms[1:n] {
			require.True(t, f.Is4())
		}
		for _, f := range forms[:n] {
			require.Equal(t, slowPurpose(f), PurposeOf(f))
		}
	})
}

func TestNoAllocations(t *testing.T) {
	s := New(r("10.0.0.0", "10.255.255.255"), r("2001:db8::", "2001:db8::ffff"))
	x := a("64:ff9b:1:7f00:0:100::")
	var forms [MaxForms]netip.Addr
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, f := range forms[:Forms(x, &forms)] {
			s.Contains(f)
			PurposeOf(f)
		}
	}))
}

func BenchmarkPurposeOf(b *testing.B) {
	for _, s := range []string{"203.0.114.9", "2a00:1450::1"} {
		x := a(s)
		b.Run(s, func(b *testing.B) {
			for b.Loop() {
				PurposeOf(x)
			}
		})
	}
}
