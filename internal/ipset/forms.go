package ipset

import "net/netip"

// MaxForms is how many addresses Forms writes at most.
const MaxForms = 8

// Forms writes to dst the canonical form of a (no zone, IPv4-mapped as IPv4)
// and after it every IPv4 address that a carries inside, as translators and
// tunnels would take it out: a peer that may not be reached at 127.0.0.1 must
// not be reached at 2002:7f00:1:: either. It returns how many it wrote, 0 for
// the invalid address.
//
// What may be inside: IPv4-mapped and IPv4-compatible addresses (RFC 4291
// Section 2.5.5), IPv4-translated ones (RFC 2765), 6to4 (RFC 3056), Teredo with
// its server and its obfuscated client (RFC 4380), NAT64 of the well-known
// prefix (RFC 6052) and of 64:ff9b:1::/48 with any prefix length in it
// (RFC 8215), and ISATAP interface identifiers (RFC 5214).
func Forms(a netip.Addr, dst *[MaxForms]netip.Addr) int {
	if !a.IsValid() {
		return 0
	}
	a = a.Unmap().WithZone("")
	dst[0] = a
	if a.Is4() {
		return 1
	}
	n := 1
	b := a.As16()
	add := func(w, x, y, z byte) {
		dst[n] = netip.AddrFrom4([4]byte{w, x, y, z})
		n++
	}
	zero := func(from, to int) bool { // b[from:to]
		for _, v := range b[from:to] {
			if v != 0 {
				return false
			}
		}
		return true
	}

	switch {
	case zero(0, 15) && b[15] <= 1: // :: and ::1 are no IPv4-compatible addresses
	case zero(0, 12), // IPv4-compatible
		zero(0, 8) && b[8] == 0xff && b[9] == 0xff && b[10] == 0 && b[11] == 0,      // IPv4-translated
		b[0] == 0x00 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b && zero(4, 12): // NAT64, well-known
		add(b[12], b[13], b[14], b[15])
	case b[0] == 0x00 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b && b[4] == 0 && b[5] == 1: // NAT64, local use
		// The operator chooses a prefix of 48, 56, 64 or 96 bits inside, and
		// RFC 6052 Section 2.2 says where the address is then: around the
		// ninth byte, which is zero, and followed by zeros. Each reading that
		// this allows is looked at, but for 0.0.0.0/8: no translator sends
		// there, and the end of a longer prefix would look like it.
		if b[8] == 0 && zero(11, 16) && b[6] != 0 {
			add(b[6], b[7], b[9], b[10])
		}
		if b[8] == 0 && zero(12, 16) && b[7] != 0 {
			add(b[7], b[9], b[10], b[11])
		}
		if b[8] == 0 && zero(13, 16) && b[9] != 0 {
			add(b[9], b[10], b[11], b[12])
		}
		if b[12] != 0 {
			add(b[12], b[13], b[14], b[15])
		}
	case b[0] == 0x20 && b[1] == 0x02: // 6to4
		add(b[2], b[3], b[4], b[5])
	case b[0] == 0x20 && b[1] == 0x01 && b[2] == 0 && b[3] == 0: // Teredo
		add(b[4], b[5], b[6], b[7])
		add(^b[12], ^b[13], ^b[14], ^b[15])
	}
	if (b[8] == 0x00 || b[8] == 0x02) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP
		add(b[12], b[13], b[14], b[15])
	}
	return n
}
