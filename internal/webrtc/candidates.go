package webrtc

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// A candidate is an address that an answer names.
type candidate struct {
	netip.AddrPort
	tcp bool
}

// candidates returns the addresses that an answer names, those of UDP first.
func (t *Transport) candidates() (all []candidate, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := make(map[candidate]bool)
	ports := slices.Clone(t.ports)
	slices.SortStableFunc(ports, func(a, b *port) int {
		switch {
		case a.conn != nil && b.conn == nil:
			return -1
		case a.conn == nil && b.conn != nil:
			return 1
		}
		return 0
	})
	for _, p := range ports {
		at := p.local()
		addrs := t.Addrs
		if len(addrs) == 0 {
			if addrs = []netip.Addr{at.Addr()}; at.Addr().IsUnspecified() {
				if addrs, err = machine(at.Addr().Is4()); err != nil {
					return nil, err
				}
			}
		}
		for _, a := range addrs {
			if c := (candidate{netip.AddrPortFrom(a.Unmap(), at.Port()), p.conn == nil}); !seen[c] {
				seen[c] = true
				all = append(all, c)
			}
		}
		if c := (candidate{p.mapped, false}); p.mapped.IsValid() && !seen[c] {
			seen[c] = true
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, errNoAddr
	}
	return all, nil
}

// machine returns the addresses of this machine that others may reach, and the
// loopback ones last.
func machine(only4 bool) (all []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("webrtc: %w", err)
	}
	var loopback []netip.Addr
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		switch {
		case !ok || ip.IsLinkLocalUnicast() || only4 && !ip.Is4():
		case ip.IsLoopback():
			loopback = append(loopback, ip)
		default:
			all = append(all, ip)
		}
	}
	return append(all, loopback...), nil
}
