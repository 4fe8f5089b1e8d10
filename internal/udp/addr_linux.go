package udp

import (
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inZone returns the address without an IPv4 mapping and with its zone.
func inZone(ip netip.Addr, zone uint32) netip.Addr {
	ip = ip.Unmap()
	if zone != 0 && ip.Is6() {
		return ip.WithZone(strconv.Itoa(int(zone)))
	}
	return ip
}

// A sockaddr is room for the kernel's form of an address of either family.
type sockaddr = unix.RawSockaddrInet6

const (
	sizeInet4 = unix.SizeofSockaddrInet4
	sizeInet6 = unix.SizeofSockaddrInet6
)

// put writes an address as the socket wants it and returns its length, 0 if
// the socket cannot send there.
func (s *sysConn) put(sa *sockaddr, to netip.AddrPort) uint32 {
	ip := to.Addr()
	if s.family == unix.AF_INET {
		if !ip.Is4() && !ip.Is4In6() {
			return 0
		}
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		sa4.Family = unix.AF_INET
		putPort((*[2]byte)(unsafe.Pointer(&sa4.Port)), to.Port())
		sa4.Addr = ip.As4()
		return sizeInet4
	}
	if !ip.IsValid() || !s.dual && (ip.Is4() || ip.Is4In6()) {
		return 0
	}
	sa.Family = unix.AF_INET6
	putPort((*[2]byte)(unsafe.Pointer(&sa.Port)), to.Port())
	sa.Flowinfo = 0
	sa.Addr = ip.As16()
	sa.Scope_id = 0
	if ip.Is6() && ip.Zone() != "" {
		sa.Scope_id = zoneID(ip.Zone())
	}
	return sizeInet6
}

func putPort(b *[2]byte, port uint16) { b[0], b[1] = byte(port>>8), byte(port) }

// get reads an address that the kernel wrote; zero if it is none.
func get(sa *sockaddr) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	p := uint16(port[0])<<8 | uint16(port[1])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), p)
	case unix.AF_INET6:
		return netip.AddrPortFrom(inZone(netip.AddrFrom16(sa.Addr), sa.Scope_id), p)
	}
	return netip.AddrPort{}
}

// zoneID returns the index of an IPv6 zone, 0 if there is none.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32) // 0 is no zone
	return uint32(n)
}
