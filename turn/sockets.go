package turn

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// ListenPackets opens UDP sockets at an address, for a call of ServePacket each:
// n of them, to which the system gives the clients out. n is 1 where the system
// can't (anything but Linux); below 1 it is half the number of processors that
// Go uses.
//
// An answer has to come from the address that was asked, and the socket of an
// unspecified address (":3478") answers from whichever the system chooses. So
// such an address stands for all that the machine has at the moment, but for
// the link-local ones of IPv6: there are n sockets for each, at one port.
func ListenPackets(ctx context.Context, network, address string, n int) ([]net.PacketConn, error) {
	n = socketCount(n)
	lc := net.ListenConfig{}
	if n > 1 {
		lc.Control = sharePort
	}
	addresses, err := localAddresses(network, address)
	if err != nil {
		return nil, err
	}
	var list []net.PacketConn
	fail := func(err error) ([]net.PacketConn, error) {
		for _, pc := range list {
			_ = pc.Close()
		}
		return nil, err
	}
	port := "" // that the system has chosen
	for _, address := range addresses {
		if port != "" {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return fail(err)
			}
			address = net.JoinHostPort(host, port)
		}
		for range n {
			pc, err := lc.ListenPacket(ctx, network, address)
			if errors.Is(err, syscall.EADDRNOTAVAIL) && len(addresses) > 1 {
				break // given up just now, or not quite there yet
			}
			if err != nil {
				return fail(err)
			}
			list = append(list, pc)
			address = pc.LocalAddr().String() // port 0 is the same for all
		}
		if len(list) > 0 && port == "" {
			if _, port, err = net.SplitHostPort(address); err != nil {
				return fail(err)
			}
		}
	}
	if len(list) == 0 {
		return nil, errNoAddress
	}
	return list, nil
}

var errNoAddress = errors.New("turn: the machine has no address to listen at")

// localAddresses is what an address to listen at stands for.
func localAddresses(network, address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ip := netip.IPv6Unspecified()
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
			return []string{address}, nil // a name is the system's to find
		}
	}
	v4, v6 := network != "udp6", network != "udp4" && !ip.Is4()
	local, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var list []string
	for _, a := range local {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if ip.Is4() && v4 || ip.Is6() && v6 && !ip.IsLinkLocalUnicast() {
			if at := net.JoinHostPort(ip.String(), port); !slices.Contains(list, at) {
				list = append(list, at)
			}
		}
	}
	return list, nil
}
