package main

import (
	"errors"
	"net/netip"

	"github.com/runnel-media/runnel/stun"
)

// discovery has the server answer NAT behaviour discovery (RFC 5780) at the
// first two plain addresses of a family that have the same port, and at the
// port after it, which is added to what is to be opened.
func (s *server) discovery(all []endpoint) ([]endpoint, error) {
	for _, v4 := range []bool{true, false} {
		var pair []netip.AddrPort
		for _, e := range all {
			if e.udp && !e.secure && e.Addr().Is4() == v4 && len(pair) < 2 && (pair == nil || e.Port() == pair[0].Port()) {
				pair = append(pair, e.AddrPort)
			}
		}
		if len(pair) < 2 {
			continue
		}
		for i, at := range pair {
			other := netip.AddrPortFrom(at.Addr(), at.Port()+1)
			address := stun.Primary
			if i > 0 {
				address = stun.AlternateAddress
			}
			s.turn.NAT[address], s.turn.NAT[address|stun.AlternatePort] = at, other
			all = append(all, endpoint{AddrPort: other, udp: true})
		}
		return all, nil
	}
	return nil, errors.New("two -listen addresses of one family with the same port are needed")
}
