package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Binding requests are on the way from bindSockets sockets, bindEach of each.
// A socket is read, and asks again, by one call for all that has come: what
// the load generator does not need is left to the server.
const (
	bindSockets = 16
	bindEach    = 16
)

// A binder is what the load generator asks with.
type binder struct {
	requests [bindEach]stunwire.Builder
	out, in  [bindEach]mmsghdr
	iovs     [2 * bindEach]unix.Iovec
	oobs     [bindEach][32]byte
	bufs     [bindEach][4096]byte
}

func newBinder() *binder {
	b := new(binder)
	for i := range bindEach {
		b.requests[i] = stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{1, 2, 3, byte(i)})
		request := b.requests[i].Bytes()
		b.iovs[i].Base = &request[0]
		b.iovs[i].SetLen(len(request))
		b.iovs[bindEach+i].Base = &b.bufs[i][0]
		b.iovs[bindEach+i].SetLen(len(b.bufs[i]))
		b.out[i].hdr.Iov = &b.iovs[i]
		b.in[i].hdr.Iov = &b.iovs[bindEach+i]
		b.in[i].hdr.Control = &b.oobs[i][0]
		b.out[i].hdr.SetIovlen(1)
		b.in[i].hdr.SetIovlen(1)
	}
	return b
}

// call is recvmmsg or sendmmsg of up to n messages. It does not wait.
func (b *binder) call(trap uintptr, fd int, msgs *[bindEach]mmsghdr, n int) int {
	got, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(msgs)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(got)
}

func (b *binder) ask(fd, n int) { b.call(unix.SYS_SENDMMSG, fd, &b.out, n) }

// answers returns how many answers a socket has, and asks as often again.
func (b *binder) answers(fd int) (n int64) {
	for i := range b.in {
		b.in[i].hdr.SetControllen(len(b.oobs[i]))
	}
	got := b.call(unix.SYS_RECVMMSG, fd, &b.in, bindEach)
	for i := range got {
		data := b.bufs[i][:b.in[i].len]
		size, _ := readOOB(b.oobs[i][:b.in[i].hdr.Controllen])
		if size == 0 {
			size = len(data)
		}
		for answer := range slices.Chunk(data, max(1, size)) {
			if stunwire.Is(answer) {
				n++
			}
		}
	}
	if n > 0 {
		b.ask(fd, int(min(n, bindEach)))
	}
	return n
}

// bindings asks for as many Bindings as the server answers.
func (g *turnLoad) bindings(window time.Duration) (a turnBound, err error) {
	server, err := netip.ParseAddrPort(g.server)
	if err != nil {
		return a, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return a, os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(ep)
	b := newBinder()
	fds := make([]int, bindSockets)
	for k := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return a, os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		fds[k] = fd
		if g.segment {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		}
		if err := errors.Join(
			unix.Bind(fd, &unix.SockaddrInet4{Addr: source(k).As4()}),
			unix.Connect(fd, &unix.SockaddrInet4{Addr: server.Addr().As4(), Port: int(server.Port())}),
			unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}),
		); err != nil {
			return a, fmt.Errorf("bench: bindings: %w", err)
		}
		b.ask(fd, bindEach)
	}
	cpu, err := cpuTime(os.Getpid())
	if err != nil {
		return a, err
	}
	events := make([]unix.EpollEvent, bindSockets)
	for end := time.Now().Add(window); time.Now().Before(end); {
		n, err := unix.EpollWait(ep, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return a, os.NewSyscallError("epoll_wait", err)
		}
		if n == 0 { // lost: ask again
			for _, fd := range fds {
				b.ask(fd, bindEach)
			}
		}
		for _, e := range events[:max(n, 0)] {
			a.Answers += b.answers(int(e.Fd))
		}
	}
	after, err := cpuTime(os.Getpid())
	a.CPU = after - cpu
	return a, err
}
