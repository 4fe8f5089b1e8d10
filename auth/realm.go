package auth

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// RealmOptions are the limits of one TURN realm. Zero means no bound.
type RealmOptions struct {
	TotalQuota int   // allocations of the realm at a time
	UserQuota  int   // allocations of one user of the realm at a time
	BitRate    int64 // bits a second of one session, each way (coturn's max-bps counts bytes)
}

// PeerRules say which peer addresses the clients of one realm may relay to, on
// top of what the server's own policy says.
type PeerRules struct {
	Allow, Deny []IPRange
}

// Realms tells what a TURN server should know of the realms it serves.
// Databases implement it. Calls may block until ctx ends, come from many
// goroutines at once, and are never made by the goroutine that moves packets.
type Realms interface {
	// RealmOf returns the realm that serves an ORIGIN, "" if none does.
	RealmOf(ctx context.Context, origin string) (string, error)
	// RealmOptions returns the limits of a realm, zero if it has none.
	RealmOptions(ctx context.Context, realm string) (RealmOptions, error)
	// PeerRules returns the peers that a realm allows and denies.
	PeerRules(ctx context.Context, realm string) (PeerRules, error)
}

// An IPRange is every address from From to To, both included, of one address
// family.
type IPRange struct {
	From, To netip.Addr
}

// ParseIPRange reads an address ("192.0.2.1"), a range ("192.0.2.1-192.0.2.9")
// or a prefix ("192.0.2.0/24"). IPv4-mapped IPv6 addresses become IPv4; zones
// are refused.
func ParseIPRange(s string) (IPRange, error) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return IPRange{}, fmt.Errorf("auth: IP range %q: not a prefix", s)
		}
		return PrefixRange(p), nil
	}
	from, to, dash := strings.Cut(s, "-")
	if !dash {
		to = from
	}
	a, errA := netip.ParseAddr(strings.TrimSpace(from))
	b, errB := netip.ParseAddr(strings.TrimSpace(to))
	if errA != nil || errB != nil || a.Zone() != "" || b.Zone() != "" {
		return IPRange{}, fmt.Errorf("auth: IP range %q: not an address", s)
	}
	r := IPRange{From: a.Unmap(), To: b.Unmap()}
	if r.From.BitLen() != r.To.BitLen() || r.To.Less(r.From) {
		return IPRange{}, fmt.Errorf("auth: IP range %q: ends before it begins", s)
	}
	return r, nil
}

// PrefixRange is the range of every address in p. A prefix of IPv4-mapped
// addresses becomes one of IPv4 addresses.
func PrefixRange(p netip.Prefix) IPRange {
	p = p.Masked()
	from := p.Addr()
	bits := p.Bits()
	if from.Is4In6() && bits >= 96 {
		from, bits = from.Unmap(), bits-96
	}
	b := from.AsSlice()
	for i := bits; i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	to, _ := netip.AddrFromSlice(b)
	return IPRange{From: from, To: to}
}

// Contains reports whether a, taken as it is if it is IPv6 and as IPv4 if it
// is IPv4-mapped, lies in r.
func (r IPRange) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.BitLen() == r.From.BitLen() && a.Compare(r.From) >= 0 && a.Compare(r.To) <= 0
}

// String returns "from-to", or the address alone if there is but one.
func (r IPRange) String() string {
	if r.From == r.To {
		return r.From.String()
	}
	return r.From.String() + "-" + r.To.String()
}
