package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysConn is a socket that the runtime's poller does not know of: it would
// look at each packet for a goroutine that waits, and there is none.
type sysConn struct {
	fd     int
	family int          // AF_INET, AF_INET6
	dual   bool         // AF_INET6, and IPv4 as mapped addresses
	users  atomic.Int32 // calls that use fd, and one until Close: at 0 it is closed
	closed atomic.Bool
	loop   atomic.Pointer[Loop] // that reads it
	slot   uint32               // its place there; guarded by the loop's mu

	segments atomic.Bool // UDP_SEGMENT works
	icmp     bool
	waiter   atomic.Pointer[os.File] // of ReadBatch
	rx       *receiver               // of ReadBatch
}

// acquire keeps fd open until release.
func (s *sysConn) acquire() bool {
	for {
		n := s.users.Load()
		if n == 0 || s.closed.Load() {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *sysConn) release() {
	if s.users.Add(-1) == 0 {
		_ = unix.Close(s.fd) // of a UDP socket: nothing to be lost
	}
}

func (c *Conn) closeSys() error {
	s := &c.sys
	if s.closed.Swap(true) {
		return nil
	}
	if l := s.loop.Load(); l != nil {
		l.remove(c)
	}
	if f := s.waiter.Load(); f != nil {
		_ = f.Close() // wakes ReadBatch
	}
	s.release()
	return nil
}

// Listen opens a socket. The network is "udp", "udp4" or "udp6"; "udp" with
// the address [::] takes IPv4 too.
func Listen(network string, addr netip.AddrPort, o Options) (*Conn, error) {
	fail := func(err error) (*Conn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.UDPAddrFromAddrPort(addr), Err: err}
	}
	ip := addr.Addr().Unmap()
	family, dual := unix.AF_INET, false
	switch {
	case network != "udp" && network != "udp4" && network != "udp6":
		return fail(net.UnknownNetworkError(network))
	case network == "udp6" && ip.Is4(), network == "udp4" && ip.Is6():
		return fail(&net.AddrError{Err: "address family not of the network", Addr: addr.String()})
	case network == "udp6", ip.Is6():
		family, dual = unix.AF_INET6, network == "udp" && ip.IsUnspecified()
	}
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			ip = netip.IPv6Unspecified()
		}
	}
	// Nothing here waits: the scheduler need not be told.
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if errno != 0 {
		return fail(os.NewSyscallError("socket", errno))
	}
	fd := int(n)
	if family == unix.AF_INET6 {
		only := 1
		if dual {
			only = 0
		}
		if err := setsockopt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			unix.Close(fd)
			return fail(os.NewSyscallError("setsockopt", err))
		}
	}
	if o.ReusePort {
		if err := setsockopt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			unix.Close(fd)
			return fail(os.NewSyscallError("setsockopt", err))
		}
	}
	c := &Conn{local: netip.AddrPortFrom(ip, addr.Port())}
	c.sys.fd, c.sys.family, c.sys.dual = fd, family, dual
	var name sockaddr
	size := c.sys.put(&name, c.local)
	if _, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(size)); errno != 0 {
		unix.Close(fd)
		return fail(os.NewSyscallError("bind", errno))
	}
	if addr.Port() == 0 { // the system has chosen one
		if err := c.look(); err != nil {
			unix.Close(fd)
			return fail(err)
		}
	}
	c.begin(o)
	return c, nil
}

// setsockopt does not tell the scheduler: the call never waits.
func setsockopt(fd, level, name, value int) error {
	v := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// newSysConn makes a Conn of a socket that is bound.
func newSysConn(fd int, o Options) (*Conn, error) {
	c := &Conn{}
	c.sys.fd = fd
	if err := c.look(); err != nil {
		return nil, err
	}
	c.begin(o)
	return c, nil
}

// look asks the system where the socket is bound.
func (c *Conn) look() error {
	s := &c.sys
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		s.family = unix.AF_INET
		c.local = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		s.family = unix.AF_INET6
		c.local = netip.AddrPortFrom(inZone(netip.AddrFrom16(sa.Addr), sa.ZoneId), uint16(sa.Port))
		only, err := unix.GetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		s.dual = err == nil && only == 0
	default:
		return errors.New("udp: not an IP socket")
	}
	return nil
}

// canSegment reports whether the kernel knows UDP_SEGMENT: if it can say which
// one is set.
var canSegment = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return true // else sending finds out
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	return err == nil
})

// begin sets the options of a socket that is bound. Those that the kernel lacks
// are left out.
func (c *Conn) begin(o Options) {
	s := &c.sys
	s.users.Store(1)
	s.segments.Store(canSegment())
	set := func(level, name, value int) bool { return setsockopt(s.fd, level, name, value) == nil }
	if o.GRO {
		set(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	v4, v6 := s.family == unix.AF_INET || s.dual, s.family == unix.AF_INET6
	if o.Marks && v4 {
		set(unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		set(unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	}
	if o.Marks && v6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	}
	if o.ICMP && v4 {
		s.icmp = set(unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	}
	if o.ICMP && v6 {
		s.icmp = set(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1) || s.icmp
	}
	if o.ReadBuffer > 0 && !set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, o.ReadBuffer) {
		set(unix.SOL_SOCKET, unix.SO_RCVBUF, o.ReadBuffer)
	}
	if o.WriteBuffer > 0 && !set(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, o.WriteBuffer) {
		set(unix.SOL_SOCKET, unix.SO_SNDBUF, o.WriteBuffer)
	}
}

// ReadBuffer returns how much the system keeps for the socket until it is read,
// in bytes of its own memory, of which a packet takes more than its length; 0 if
// it does not tell.
func (c *Conn) ReadBuffer() int {
	s := &c.sys
	if c.pc != nil || !s.acquire() {
		return 0
	}
	defer s.release()
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return n
}

// Wrap makes a Conn of a net.PacketConn and takes it over: close the Conn. Of
// a *net.UDPConn only the socket lives on; the UDPConn itself is closed, since
// as long as the runtime's poller knows the socket it wakes up for each packet.
func Wrap(pc net.PacketConn) *Conn { return WrapOptions(pc, Options{}) }

// WrapOptions is Wrap with what the socket is to be able to. ReusePort is of
// no effect: the socket is bound.
func WrapOptions(pc net.PacketConn, o Options) *Conn {
	if u, ok := pc.(*net.UDPConn); ok {
		if fd, err := dup(u); err == nil {
			c, err := newSysConn(fd, o)
			if err == nil {
				_ = u.Close() // the socket lives on in fd
				return c
			}
			unix.Close(fd)
		}
	}
	return &Conn{pc: pc, local: addrPort(pc.LocalAddr())}
}

func dup(u *net.UDPConn) (fd int, err error) {
	rc, err := u.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := rc.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// SetDontFragment asks for datagrams that are too big for the path to be
// refused instead of fragmented.
func (c *Conn) SetDontFragment(on bool) error {
	s := &c.sys
	if c.pc != nil {
		return errors.ErrUnsupported
	}
	if !s.acquire() {
		return net.ErrClosed
	}
	defer s.release()
	var err error
	if s.family == unix.AF_INET || s.dual {
		mode := unix.IP_PMTUDISC_DONT
		if on {
			mode = unix.IP_PMTUDISC_DO
		}
		err = setsockopt(s.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode)
	}
	if s.family == unix.AF_INET6 && err == nil {
		mode := unix.IPV6_PMTUDISC_DONT
		if on {
			mode = unix.IPV6_PMTUDISC_DO
		}
		err = setsockopt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, mode)
	}
	return os.NewSyscallError("setsockopt", err)
}

// SetMark changes the socket's default for what is sent from now on without a
// Mark of its own. It is cheaper than a Mark in each datagram where that
// hardly changes.
func (c *Conn) SetMark(m Mark) error {
	s := &c.sys
	if c.pc != nil {
		return errors.ErrUnsupported
	}
	if !s.acquire() {
		return net.ErrClosed
	}
	defer s.release()
	ttl := int(m.TTL)
	if ttl == 0 {
		ttl = -1 // the system's
	}
	var err error
	set := func(level, name, value int) {
		if err == nil {
			err = setsockopt(s.fd, level, name, value)
		}
	}
	if s.family == unix.AF_INET || s.dual {
		set(unix.IPPROTO_IP, unix.IP_TOS, int(m.TOS))
		set(unix.IPPROTO_IP, unix.IP_TTL, ttl)
	}
	if s.family == unix.AF_INET6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(m.TOS))
		set(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
	}
	return os.NewSyscallError("setsockopt", err)
}
