package ipset

import "net/netip"

// A Purpose is what an address is for. Global is the only one that a stranger
// may be sent to without being asked for.
type Purpose uint8

// The purposes, in the order in which PurposeOf decides: an address that
// serves several is of the last of them that it serves.
const (
	Global        Purpose = iota // globally reachable unicast
	Reserved                     // unassigned, for future use, or of one protocol only
	Tunnel                       // 6to4, Teredo: an IPv4 address in disguise
	Translated                   // local-use NAT64, 64:ff9b:1::/48
	Documentation                // examples, benchmarks
	Shared                       // carrier-grade NAT, 100.64.0.0/10
	Private                      // RFC 1918, unique local IPv6
	LinkLocal                    // link-local, site-local
	Multicast                    // multicast
	Broadcast                    // 255.255.255.255
	Loopback                     // this host
	Unspecified                  // 0.0.0.0/8, ::; most hosts take it for themselves
	Metadata                     // where clouds tell a machine its credentials
	Invalid                      // no address
)

var purposeNames = [...]string{
	"global", "reserved", "tunnel", "translated", "documentation", "shared", "private",
	"link-local", "multicast", "broadcast", "loopback", "unspecified", "metadata", "invalid",
}

// String returns a lower-case word that is fit for a metric's label.
func (p Purpose) String() string {
	if int(p) >= len(purposeNames) {
		return "unknown"
	}
	return purposeNames[p]
}

// Special is one row of the table of PurposeOf.
type Special struct {
	Prefix  netip.Prefix
	Purpose Purpose
	Name    string // as the registry has it
}

// specials is IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC
// 6890 and its updates, state of October 2025), the multicast blocks, and what
// clouds and operating systems have added without asking IANA. The longest
// prefix wins. Rows with Global are the registries' "Globally Reachable: True".
var specials = []Special{
	{p("0.0.0.0/8"), Unspecified, "This network"},
	{p("10.0.0.0/8"), Private, "Private-Use"},
	{p("100.64.0.0/10"), Shared, "Shared Address Space"},
	{p("127.0.0.0/8"), Loopback, "Loopback"},
	{p("169.254.0.0/16"), LinkLocal, "Link Local"},
	{p("172.16.0.0/12"), Private, "Private-Use"},
	{p("192.0.0.0/24"), Reserved, "IETF Protocol Assignments"},
	{p("192.0.0.9/32"), Global, "Port Control Protocol Anycast"},
	{p("192.0.0.10/32"), Global, "TURN Anycast"},
	{p("192.0.2.0/24"), Documentation, "TEST-NET-1"},
	{p("192.31.196.0/24"), Global, "AS112-v4"},
	{p("192.52.193.0/24"), Global, "AMT"},
	{p("192.88.99.0/24"), Tunnel, "Deprecated (6to4 Relay Anycast)"},
	{p("192.168.0.0/16"), Private, "Private-Use"},
	{p("192.175.48.0/24"), Global, "Direct Delegation AS112 Service"},
	{p("198.18.0.0/15"), Documentation, "Benchmarking"},
	{p("198.51.100.0/24"), Documentation, "TEST-NET-2"},
	{p("203.0.113.0/24"), Documentation, "TEST-NET-3"},
	{p("224.0.0.0/4"), Multicast, "Multicast"},
	{p("240.0.0.0/4"), Reserved, "Reserved"},
	{p("255.255.255.255/32"), Broadcast, "Limited Broadcast"},

	// Everything outside 2000::/3 that IANA has not given out.
	{p("::/0"), Reserved, "Reserved by IETF"},
	{p("2000::/3"), Global, "Global Unicast"},
	{p("::/128"), Unspecified, "Unspecified Address"},
	{p("::1/128"), Loopback, "Loopback Address"},
	{p("64:ff9b::/96"), Global, "IPv4-IPv6 Translation"}, // its IPv4 address decides
	{p("64:ff9b:1::/48"), Translated, "IPv4-IPv6 Translation, local use"},
	{p("100::/64"), Reserved, "Discard-Only Address Block"},
	{p("100:0:0:1::/64"), Reserved, "Dummy IPv6 Prefix"},
	{p("2001::/23"), Reserved, "IETF Protocol Assignments"},
	{p("2001::/32"), Tunnel, "TEREDO"},
	{p("2001:1::1/128"), Global, "Port Control Protocol Anycast"},
	{p("2001:1::2/128"), Global, "TURN Anycast"},
	{p("2001:1::3/128"), Global, "DNS-SD Service Registration Protocol Anycast"},
	{p("2001:2::/48"), Documentation, "Benchmarking"},
	{p("2001:3::/32"), Global, "AMT"},
	{p("2001:4:112::/48"), Global, "AS112-v6"},
	{p("2001:10::/28"), Reserved, "Deprecated (previously ORCHID)"},
	{p("2001:20::/28"), Global, "ORCHIDv2"},
	{p("2001:30::/28"), Global, "Drone Remote ID Protocol Entity Tags"},
	{p("2001:db8::/32"), Documentation, "Documentation"},
	{p("2002::/16"), Tunnel, "6to4"},
	{p("2620:4f:8000::/48"), Global, "Direct Delegation AS112 Service"},
	{p("3fff::/20"), Documentation, "Documentation"},
	{p("5f00::/16"), Reserved, "Segment Routing (SRv6) SIDs"},
	{p("fc00::/7"), Private, "Unique-Local"},
	{p("fe80::/10"), LinkLocal, "Link-Local Unicast"},
	{p("fec0::/10"), LinkLocal, "Deprecated (Site-Local)"},
	{p("ff00::/8"), Multicast, "Multicast"},

	{p("100.100.100.200/32"), Metadata, "Alibaba Cloud"},
	{p("168.63.129.16/32"), Metadata, "Azure WireServer"},
	{p("169.254.169.254/32"), Metadata, "instance metadata of most clouds"},
	{p("169.254.169.123/32"), Metadata, "Amazon time service"},
	{p("169.254.169.253/32"), Metadata, "Amazon VPC resolver"},
	{p("169.254.170.2/32"), Metadata, "Amazon ECS task credentials"},
	{p("169.254.170.23/32"), Metadata, "Amazon EKS pod identity"},
	{p("169.254.0.23/32"), Metadata, "Tencent Cloud"},
	{p("169.254.42.42/32"), Metadata, "Scaleway"},
	{p("192.0.0.192/32"), Metadata, "Oracle Cloud Classic"},
	{p("fd00:42::42/128"), Metadata, "Scaleway"},
	{p("fd00:c1::a9fe:a9fe/128"), Metadata, "Oracle Cloud"},
	{p("fd00:ec2::23/128"), Metadata, "Amazon EKS pod identity"},
	{p("fd00:ec2::123/128"), Metadata, "Amazon time service"},
	{p("fd00:ec2::253/128"), Metadata, "Amazon VPC resolver"},
	{p("fd00:ec2::254/128"), Metadata, "Amazon instance metadata"},
	{p("fd20:ce::254/128"), Metadata, "Google Cloud"},
	{p("fe80::a9fe:a9fe/128"), Metadata, "OpenStack"},
}

func p(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// Specials returns the table of PurposeOf, for documentation and tests.
func Specials() []Special { return append([]Special(nil), specials...) }

// PurposeOf returns what a is for: the row of the longest prefix, Global if
// there is none. An IPv4-mapped address is the IPv4 address and a zone is not
// looked at; what is inside of an address, Forms tells.
func PurposeOf(a netip.Addr) Purpose {
	switch {
	case !a.IsValid():
		return Invalid
	case a.Is4() || a.Is4In6():
		return lookup4(num4(a))
	default:
		return lookup6(num6(a))
	}
}

// The tables below cut the number line at every point where the purpose
// changes, so that a search for the last cut at or before an address answers.
var (
	cuts4 = cutTable4()
	cuts6 = cutTable6()
)

type cut4 struct {
	from    uint32
	purpose Purpose
}

type cut6 struct {
	from    key6
	purpose Purpose
}

func lookup4(n uint32) Purpose {
	lo, hi := 0, len(cuts4)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if cuts4[mid].from <= n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return cuts4[lo-1].purpose // the first cut is at 0
}

func lookup6(n key6) Purpose {
	lo, hi := 0, len(cuts6)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.less(cuts6[mid].from) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return cuts6[lo-1].purpose
}
