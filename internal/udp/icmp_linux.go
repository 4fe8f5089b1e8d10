package udp

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// drainErrors reads the reports that wait and hands those of the network to h.
func (s *sysConn) drainErrors(h icmpHandler) {
	if !s.icmp {
		// No queue: the error is the socket's, and reading it is its end.
		_, _ = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return
	}
	var data [256]byte // the beginning of what was sent
	var oob [256]byte
	for range 64 { // a flood must not hold up the loop
		_, n, _, from, err := unix.Recvmsg(s.fd, data[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		if e, ok := parseICMP(oob[:n]); ok && h != nil {
			switch sa := from.(type) {
			case *unix.SockaddrInet4:
				e.Peer = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
			case *unix.SockaddrInet6:
				e.Peer = netip.AddrPortFrom(inZone(netip.AddrFrom16(sa.Addr), sa.ZoneId), uint16(sa.Port))
			default:
				continue
			}
			h.HandleICMP(&e)
		}
	}
}

// sock_extended_err of linux/errqueue.h, followed by the offender's address.
type extendedErr struct {
	errno  uint32
	origin uint8
	typ    uint8
	code   uint8
	pad    uint8
	info   uint32
	data   uint32
}

// parseICMP reads the control messages of the error queue.
func parseICMP(oob []byte) (e ICMPError, ok bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return e, false
	}
	for _, m := range msgs {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		size := int(unsafe.Sizeof(extendedErr{}))
		if !v4 && !v6 || len(m.Data) < size {
			continue
		}
		x := (*extendedErr)(unsafe.Pointer(&m.Data[0]))
		if x.origin != unix.SO_EE_ORIGIN_ICMP && x.origin != unix.SO_EE_ORIGIN_ICMP6 {
			continue // the kernel's own word on a send that failed: the sender knows
		}
		e = ICMPError{V6: x.origin == unix.SO_EE_ORIGIN_ICMP6, Type: x.typ, Code: x.code}
		if syscall.Errno(x.errno) == unix.EMSGSIZE {
			e.MTU = x.info
		}
		if rest := m.Data[size:]; len(rest) >= sizeInet6 {
			e.From = get((*sockaddr)(unsafe.Pointer(&rest[0]))).Addr()
		} else if len(rest) >= sizeInet4 {
			var sa sockaddr
			copy((*[sizeInet4]byte)(unsafe.Pointer(&sa))[:], rest)
			e.From = get(&sa).Addr()
		}
		return e, true
	}
	return e, false
}
