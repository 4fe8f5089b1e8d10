package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

const (
	maxSegments = 64    // of a run: what every kernel with UDP_SEGMENT takes
	maxRun      = 65000 // bytes of a run, less than a UDP datagram can have
	maxMessages = 32    // of a call: it is not interrupted
	sendControl = 80    // bytes of control messages: segment size, TOS, TTL
)

// batchState is what sendmmsg is called with.
type batchState struct {
	msgs     []mmsghdr
	iovs     []unix.Iovec
	names    []sockaddr
	controls [][sendControl]byte
	counts   []int // datagrams of each message
}

// flushSys sends the queue in messages that are runs of datagrams.
func (c *Conn) flushSys(b *Batch) (dropped int, err error) {
	s := &c.sys
	if !s.acquire() {
		return len(b.queue), net.ErrClosed
	}
	defer s.release()
	if len(b.queue) == 1 {
		if errno := s.sendOne(&b.queue[0]); errno != 0 {
			return 1, os.NewSyscallError("sendmsg", errno)
		}
		return 0, nil
	}
	if b.msgs == nil {
		b.msgs = make([]mmsghdr, maxMessages)
		b.names = make([]sockaddr, maxMessages)
		b.controls = make([][sendControl]byte, maxMessages)
		b.counts = make([]int, maxMessages)
	}
	for next := 0; next < len(b.queue); {
		var first int
		first, next = next, b.fill(s, next)
		n, e := b.send(s, first)
		dropped += n
		if err == nil {
			err = e
		}
	}
	clear(b.iovs)
	return dropped, err
}

// fill makes messages of the queue from index i on and returns the index of
// what did not fit in. The last message has a count, those after it 0.
func (b *Batch) fill(s *sysConn, i int) int {
	// Messages point into iovs: it must not move once one does.
	if need := min(2*(len(b.queue)-i), 2*maxSegments*maxMessages); cap(b.iovs) < need {
		b.iovs = make([]unix.Iovec, 0, need)
	}
	b.iovs = b.iovs[:0]
	segments := s.segments.Load()
	m := 0
	for ; m < maxMessages && i < len(b.queue); m++ {
		d := &b.queue[i]
		size := len(d.head) + len(d.data)
		total, n, start := 0, 0, len(b.iovs)
		for {
			e := &b.queue[i]
			b.push(start, e.head)
			b.push(start, e.data)
			k := len(e.head) + len(e.data)
			total += k
			n++
			i++
			if i == len(b.queue) || !segments || k < size || size == 0 || n == maxSegments {
				break
			}
			f := &b.queue[i]
			if k = len(f.head) + len(f.data); k > size || k == 0 || total+k > maxRun || f.to != d.to || f.mark != d.mark {
				break
			}
		}
		b.counts[m] = n
		h := &b.msgs[m].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[m]))
		h.Namelen = s.put(&b.names[m], d.to)
		h.Iov = nil
		h.SetIovlen(len(b.iovs) - start)
		if len(b.iovs) > start {
			h.Iov = &b.iovs[start]
		}
		control := 0
		if n > 1 {
			control = putControl(b.controls[m][:], 0, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2, uint32(size))
		}
		if d.mark != (Mark{}) {
			control = putMark(b.controls[m][:], control, d.mark, d.to.Addr())
		}
		h.Control = nil
		if control > 0 {
			h.Control = &b.controls[m][0]
		}
		h.SetControllen(control)
	}
	for ; m < maxMessages && b.counts[m] != 0; m++ {
		b.counts[m] = 0
	}
	return i
}

// push adds bytes to the message whose pieces begin at start.
func (b *Batch) push(start int, p []byte) {
	if len(p) == 0 {
		return
	}
	if k := len(b.iovs) - 1; k >= start {
		if last := &b.iovs[k]; uintptr(unsafe.Pointer(last.Base))+uintptr(last.Len) == uintptr(unsafe.Pointer(&p[0])) {
			last.SetLen(int(last.Len) + len(p))
			return
		}
	}
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	b.iovs = append(b.iovs, v)
}

// send sends the messages that fill has made of the queue from first on.
func (b *Batch) send(s *sysConn, first int) (dropped int, err error) {
	n := 0
	for n < maxMessages && b.counts[n] > 0 {
		n++
	}
	retried := false
	for at := 0; at < n; {
		if b.msgs[at].hdr.Namelen == 0 {
			dropped, err = dropped+b.counts[at], firstOf(err, unix.EAFNOSUPPORT)
			first, at = first+b.counts[at], at+1
			continue
		}
		sent, errno := sendmmsg(s.fd, b.msgs[at:n])
		if errno == 0 && sent > 0 {
			for ; sent > 0; sent-- {
				first, at = first+b.counts[at], at+1
			}
			retried = false
			continue
		}
		switch {
		case !retried && canRetry(errno):
			retried = true
			continue
		case b.counts[at] > 1 && (errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE):
			// EIO: a device without checksum offload. EINVAL, EMSGSIZE: the
			// datagrams are larger than the path's MTU.
			if errno == unix.EIO {
				s.segments.Store(false)
			}
			for _, d := range b.queue[first : first+b.counts[at]] {
				if errno := s.sendOne(&d); errno != 0 {
					dropped, err = dropped+1, firstOf(err, errno)
				}
			}
		default:
			dropped, err = dropped+b.counts[at], firstOf(err, errno)
		}
		first, at = first+b.counts[at], at+1
		retried = false
	}
	return dropped, err
}

func firstOf(err error, errno syscall.Errno) error {
	if err != nil {
		return err
	}
	return os.NewSyscallError("sendmmsg", errno)
}

// sendOne sends a datagram on its own.
func (s *sysConn) sendOne(d *datagram) syscall.Errno {
	errno := s.trySend(d)
	if errno != 0 && canRetry(errno) {
		errno = s.trySend(d)
	}
	return errno
}

// trySend uses sendto where that will do: it costs a tenth less than sendmsg
// and sendmmsg.
func (s *sysConn) trySend(d *datagram) syscall.Errno {
	var name sockaddr
	size := s.put(&name, d.to)
	if size == 0 {
		return unix.EAFNOSUPPORT
	}
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	if (len(d.head) == 0 || len(d.data) == 0) && d.mark == (Mark{}) {
		p := d.data
		if len(p) == 0 {
			p = d.head
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			flags, uintptr(unsafe.Pointer(&name)), uintptr(size))
		return errno
	}
	var (
		control [sendControl]byte
		iovs    [2]unix.Iovec
		h       unix.Msghdr
		n       int
	)
	for _, p := range [...][]byte{d.head, d.data} {
		if len(p) > 0 {
			iovs[n].Base = &p[0]
			iovs[n].SetLen(len(p))
			n++
		}
	}
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&name)), size
	h.Iov = &iovs[0]
	h.SetIovlen(n)
	if d.mark != (Mark{}) {
		h.SetControllen(putMark(control[:], 0, d.mark, d.to.Addr()))
		h.Control = &control[0]
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&h)), flags)
	return errno
}

func (c *Conn) writeSys(p []byte, to netip.AddrPort) error {
	s := &c.sys
	if !s.acquire() {
		return net.ErrClosed
	}
	defer s.release()
	if errno := s.sendOne(&datagram{to: to, data: p}); errno != 0 {
		return &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("sendmsg", errno)}
	}
	return nil
}

// sendmmsg does not tell the scheduler: the call never waits, and is over
// before another thread could have taken its place.
func sendmmsg(fd int, msgs []mmsghdr) (int, syscall.Errno) {
	if len(msgs) == 1 {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return 1, errno
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// putControl writes a control message with a value of size bytes at b[at:] and
// returns where it ends.
func putControl(b []byte, at, level, typ, size int, value uint32) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[at]))
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.CmsgLen(size))
	v := b[at+unix.CmsgLen(0):]
	if size == 2 {
		binary.NativeEndian.PutUint16(v, uint16(value))
	} else {
		binary.NativeEndian.PutUint32(v, value)
	}
	return at + unix.CmsgSpace(size)
}

func putMark(b []byte, at int, m Mark, to netip.Addr) int {
	v4 := to.Is4() || to.Is4In6()
	if m.TOS != 0 {
		if v4 {
			at = putControl(b, at, unix.IPPROTO_IP, unix.IP_TOS, 4, uint32(m.TOS))
		} else {
			at = putControl(b, at, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4, uint32(m.TOS))
		}
	}
	if m.TTL != 0 {
		if v4 {
			at = putControl(b, at, unix.IPPROTO_IP, unix.IP_TTL, 4, uint32(m.TTL))
		} else {
			at = putControl(b, at, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4, uint32(m.TTL))
		}
	}
	return at
}

// canRetry says that an error of a send is not about the datagram: the kernel
// reports the fate of an earlier one, once.
func canRetry(errno syscall.Errno) bool {
	switch errno {
	case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT, unix.EPROTO, unix.EHOSTDOWN, unix.EMSGSIZE:
		return true
	}
	return false
}
