package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpLoad sends the bursts and reads the UDP sockets, in one thread that sleeps
// between two looks: a packet of the server's finds nobody to wake up, which on
// a network is not its business either. The kernel notes when a packet came.
type udpLoad struct {
	g       *turnLoad
	peers   []int // sockets
	addrs   []netip.AddrPort
	clients []int // sockets, -1 where a client is not over UDP

	buf  []byte // a burst
	name unix.RawSockaddrInet4
	oob  [24]byte // UDP_SEGMENT
	in   []inbox
	msgs []mmsghdr

	sent atomic.Int64
	late atomic.Int64
}

type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// An inbox is room for one message.
type inbox struct {
	iov  unix.Iovec
	oob  [96]byte
	data [64 << 10]byte
}

func newUDPLoad(g *turnLoad) (*udpLoad, error) {
	u := &udpLoad{g: g, buf: make([]byte, max(1, g.burst)*(g.size+8)), in: make([]inbox, 8)}
	for range g.clients {
		u.clients = append(u.clients, -1)
	}
	u.msgs = make([]mmsghdr, len(u.in))
	for i := range u.in {
		b := &u.in[i]
		b.iov.Base = &b.data[0]
		b.iov.SetLen(len(b.data))
		h := &u.msgs[i].hdr
		h.Iov = &b.iov
		h.SetIovlen(1)
		h.Control = &b.oob[0]
	}
	for range g.peers {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socket", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, os.NewSyscallError("bind", err)
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return nil, os.NewSyscallError("getsockname", err)
		}
		sa4 := sa.(*unix.SockaddrInet4)
		u.peers = append(u.peers, fd)
		u.addrs = append(u.addrs, netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), uint16(sa4.Port)))
		if err := u.prepare(fd); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// prepare sets up a socket for being read by run.
func (u *udpLoad) prepare(fd int) error {
	// Losses are to be the server's.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20)
	}
	if u.g.segment {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
}

func (u *udpLoad) peerAddr(i int) netip.AddrPort { return u.addrs[i] }

// adopt takes over the connected socket of client k.
func (u *udpLoad) adopt(k int, c *net.UDPConn) error {
	f, err := c.File()
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.Close()
	c.Close()
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	u.clients[k] = fd
	return u.prepare(fd)
}

// run sends and reads until the load stops.
func (u *udpLoad) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := u.g
	interval := time.Second / time.Duration(max(1, g.rate))
	next := make([]time.Duration, g.clients)
	for k := range next {
		next[k] = interval * time.Duration(k) / time.Duration(g.clients)
	}
	for start := time.Now(); ; {
		select {
		case <-g.stop:
			return
		default:
		}
		elapsed := time.Since(start)
		epoch := g.epoch.Load()
		for k := range next {
			if next[k] > elapsed {
				continue
			}
			if late := int64(elapsed - next[k]); epoch == 1 && late > u.late.Load() {
				u.late.Store(late)
			}
			next[k] += interval
			if g.dir != "down" {
				u.up(k, epoch)
			}
			if g.dir != "up" {
				u.down(k, epoch)
			}
		}
		for _, fd := range u.peers {
			u.read(fd, 0)
		}
		if g.dir != "up" {
			for _, fd := range u.clients {
				if fd >= 0 {
					u.read(fd, 4)
				}
			}
		}
		nap(g.tick)
	}
}

// nap sleeps without telling the scheduler, which would watch over it.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// up sends a burst of client k.
func (u *udpLoad) up(k int, epoch uint32) {
	now := time.Now().UnixNano()
	if fd := u.clients[k]; fd >= 0 {
		for b := u.buf[:u.g.burst*(4+u.g.size)]; len(b) > 0; {
			var data []byte
			data, b = channelData(b, u.g.size, false)
			putStamp(data, now, epoch)
		}
		u.burst(fd, 4+u.g.size, epoch, nil)
		return
	}
	if u.g.sendStream(u.g.sessions[k], u.buf, now, epoch) == nil && epoch == 1 {
		u.sent.Add(int64(u.g.burst))
	}
}

// down sends a burst to client k.
func (u *udpLoad) down(k int, epoch uint32) {
	now := time.Now().UnixNano()
	for i := range u.g.burst {
		putStamp(u.buf[i*u.g.size:], now, epoch)
	}
	relay := u.g.sessions[k].relay
	u.name = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: relay.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&u.name.Port))[:], relay.Port())
	u.burst(u.peers[k%len(u.peers)], u.g.size, epoch, &u.name)
}

// burst sends what is in u.buf, packets of size bytes.
func (u *udpLoad) burst(fd, size int, epoch uint32, to *unix.RawSockaddrInet4) {
	calls, each := u.g.burst, size
	if u.g.segment {
		calls, each = 1, u.g.burst*size
	}
	for i := range calls {
		var h unix.Msghdr
		iov := unix.Iovec{Base: &u.buf[i*each]}
		iov.SetLen(each)
		h.Iov = &iov
		h.SetIovlen(1)
		if to != nil {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrInet4
		}
		if each > size {
			c := (*unix.Cmsghdr)(unsafe.Pointer(&u.oob[0]))
			c.Level, c.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
			c.SetLen(unix.CmsgLen(2))
			binary.NativeEndian.PutUint16(u.oob[unix.CmsgLen(0):], uint16(size))
			h.Control = &u.oob[0]
			h.SetControllen(unix.CmsgSpace(2))
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT)
		runtime.KeepAlive(&iov)
		if errno == 0 && epoch == 1 {
			u.sent.Add(int64(each / size))
		}
	}
}

// read takes what a socket has. The data of each packet begins after header
// bytes.
func (u *udpLoad) read(fd, header int) {
	for {
		for i := range u.msgs {
			u.msgs[i].hdr.SetControllen(len(u.in[i].oob))
		}
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&u.msgs[0])), uintptr(len(u.msgs)), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			return
		}
		for i := range int(n) {
			b := u.in[i].data[:u.msgs[i].len]
			segment, at := readOOB(u.in[i].oob[:u.msgs[i].hdr.Controllen])
			for len(b) > 0 {
				p := b
				if segment > 0 && segment < len(p) {
					p = p[:segment]
				}
				b = b[len(p):]
				if len(p) > header {
					u.g.meter.packet(p[header:], at)
				}
			}
		}
		if int(n) < len(u.msgs) {
			return
		}
	}
}

// readOOB returns the size of the datagrams in a message, 0 if it is one, and
// when it came.
func readOOB(b []byte) (segment int, at int64) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if int(h.Len) < unix.SizeofCmsghdr || int(h.Len) > len(b) {
			break
		}
		v := b[unix.CmsgLen(0):h.Len]
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(v) >= 4:
			segment = int(binary.NativeEndian.Uint32(v))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(v) >= int(unsafe.Sizeof(unix.Timespec{})):
			at = (*unix.Timespec)(unsafe.Pointer(&v[0])).Nano()
		}
		b = b[min(len(b), unix.CmsgSpace(len(v))):]
	}
	return segment, at
}
