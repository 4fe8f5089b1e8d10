package ipset

import (
	"net/netip"
	"slices"
)

// cutPoints returns the addresses of one family at which the row of the
// longest prefix may change: where rows begin and where they have ended.
func cutPoints(bits int) []netip.Addr {
	points := []netip.Addr{netip.IPv4Unspecified()}
	if bits == 128 {
		points[0] = netip.IPv6Unspecified()
	}
	for _, s := range specials {
		if s.Prefix.Addr().BitLen() != bits {
			continue
		}
		points = append(points, s.Prefix.Addr())
		if end := last(s.Prefix).Next(); end.IsValid() {
			points = append(points, end)
		}
	}
	slices.SortFunc(points, netip.Addr.Compare)
	return slices.Compact(points)
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// slowPurpose looks at every row. The tables are made of it.
func slowPurpose(a netip.Addr) Purpose {
	purpose, bits := Global, -1
	for _, s := range specials {
		if s.Prefix.Contains(a) && s.Prefix.Bits() > bits {
			purpose, bits = s.Purpose, s.Prefix.Bits()
		}
	}
	return purpose
}

func cutTable4() []cut4 {
	var t []cut4
	for _, a := range cutPoints(32) {
		if q := slowPurpose(a); len(t) == 0 || t[len(t)-1].purpose != q {
			t = append(t, cut4{num4(a), q})
		}
	}
	return t
}

func cutTable6() []cut6 {
	var t []cut6
	for _, a := range cutPoints(128) {
		if q := slowPurpose(a); len(t) == 0 || t[len(t)-1].purpose != q {
			t = append(t, cut6{num6(a), q})
		}
	}
	return t
}
