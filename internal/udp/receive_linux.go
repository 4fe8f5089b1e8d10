package udp

import (
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const receiveControl = 128 // bytes of control messages: segment size, TOS, TTL

// A receiver is what recvmmsg is called with.
type receiver struct {
	msgs     []mmsghdr
	iovs     []unix.Iovec
	names    []sockaddr
	controls [][receiveControl]byte
}

func newReceiver(n int) *receiver {
	r := &receiver{
		msgs: make([]mmsghdr, n), iovs: make([]unix.Iovec, n),
		names: make([]sockaddr, n), controls: make([][receiveControl]byte, n),
	}
	for i := range r.msgs {
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = &r.controls[i][0]
	}
	return r
}

// buffer sets where message i is to be read to.
func (r *receiver) buffer(i int, b []byte) {
	r.iovs[i].Base = &b[0]
	r.iovs[i].SetLen(len(b))
}

// receive reads into the first n buffers and returns how many messages came.
func (r *receiver) receive(fd, n int) (int, syscall.Errno) {
	for i := range n {
		h := &r.msgs[i].hdr
		h.Namelen = sizeInet6
		h.SetControllen(receiveControl)
	}
	if n == 1 { // less to do for the kernel
		m := &r.msgs[0]
		size, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT)
		if errno != 0 {
			return 0, errno
		}
		m.len = uint32(size)
		return 1, 0
	}
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), 0
}

// packet returns message i, whose buffer was b. It is false for what is to be
// dropped: no address, or more than the buffer took.
func (r *receiver) packet(i int, b []byte) (p Packet, ok bool) {
	m := &r.msgs[i]
	if m.hdr.Namelen == 0 || m.hdr.Flags&unix.MSG_TRUNC != 0 {
		return p, false
	}
	p.Data = b[:m.len:m.len]
	p.Addr = get(&r.names[i])
	if n := int(m.hdr.Controllen); n > 0 {
		p.readControl(r.controls[i][:n])
	}
	if p.Segment >= len(p.Data) {
		p.Segment = 0
	}
	return p, p.Addr.IsValid()
}

// readControl reads control messages, which the kernel has written.
func (p *Packet) readControl(b []byte) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			return
		}
		v := b[unix.CmsgLen(0):size]
		switch {
		case len(v) == 0:
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(v) >= 4:
			p.Segment = int(binary.NativeEndian.Uint32(v))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS:
			p.Mark.TOS = v[0]
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(v) >= 4:
			p.Mark.TTL = uint8(binary.NativeEndian.Uint32(v))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(v) >= 4:
			p.Mark.TOS = uint8(binary.NativeEndian.Uint32(v))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(v) >= 4:
			p.Mark.TTL = uint8(binary.NativeEndian.Uint32(v))
		}
		b = b[min(len(b), unix.CmsgSpace(len(v))):]
	}
}

// readSys is ReadBatch: it waits in the runtime's poller, with a descriptor of
// its own for the socket.
func (c *Conn) readSys(ps []Packet) (int, error) {
	s := &c.sys
	if !s.acquire() {
		return 0, net.ErrClosed
	}
	defer s.release()
	if s.waiter.Load() == nil {
		fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return 0, os.NewSyscallError("fcntl", err)
		}
		s.waiter.Store(os.NewFile(uintptr(fd), "udp"))
		if s.closed.Load() {
			s.waiter.Load().Close()
		}
		s.rx = newReceiver(maxMessages)
	}
	n := min(len(ps), maxMessages)
	for i := range n {
		s.rx.buffer(i, ps[i].Data[:cap(ps[i].Data)])
	}
	rc, err := s.waiter.Load().SyscallConn()
	if err != nil {
		return 0, err
	}
	for {
		var got int
		var errno syscall.Errno
		err := rc.Read(func(uintptr) bool {
			got, errno = s.rx.receive(s.fd, n)
			return errno != unix.EAGAIN
		})
		switch {
		case s.closed.Load():
			return 0, net.ErrClosed
		case err != nil:
			return 0, err
		case errno == unix.EBADF || errno == unix.ENOTSOCK || errno == unix.EINVAL || errno == unix.EFAULT || errno == unix.ENOMEM:
			return 0, &net.OpError{Op: "read", Net: "udp", Err: os.NewSyscallError("recvmmsg", errno)}
		case errno != 0: // the fate of what was sent
			s.drainErrors(nil)
			continue
		}
		if k := s.rx.keep(ps, got); k > 0 {
			return k, nil
		}
	}
}

// keep puts the messages that are good into ps, in whose Data they are, and
// returns how many there are.
func (r *receiver) keep(ps []Packet, got int) int {
	k := 0
	for i := range got {
		b := ps[i].Data
		p, ok := r.packet(i, b[:cap(b)])
		if !ok {
			continue
		}
		spare := ps[k].Data
		ps[k] = p
		if k != i {
			ps[i].Data = spare[:cap(spare)] // no two of ps share a buffer
		}
		k++
	}
	return k
}
