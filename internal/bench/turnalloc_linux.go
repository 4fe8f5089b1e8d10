package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// askersAtATime is how many clients wait for an allocation at a time.
const askersAtATime = 128

// An asker is a client over UDP that wants an allocation, and nothing else. The
// runtime's poller does not know its socket.
type asker struct {
	fd      int
	id      stunwire.TxID
	request []byte // on its way; nil: it has its allocation
	asked   time.Time
}

// askers make the allocations of a bare load.
type askers struct {
	list  []asker
	ep    int
	key   *stunwire.Key
	realm string
	buf   [2048]byte
}

func (s *askers) send(k int) {
	q := &s.list[k]
	q.asked = time.Now()
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(q.fd), uintptr(unsafe.Pointer(&q.request[0])), uintptr(len(q.request))) // what is lost is sent again
}

// ask sends an Allocate, with credentials if there is a nonce.
func (s *askers) ask(k int, nonce []byte) {
	q := &s.list[k]
	_, _ = rand.Read(q.id[:]) // it does not fail
	b := stunwire.Build(q.request[:0], stunwire.NewType(stunwire.Allocate, stunwire.Request), q.id)
	b.Add(stunwire.AttrRequestedTransport, []byte{17, 0, 0, 0})
	if nonce != nil {
		b.AddString(stunwire.AttrUsername, turnUser)
		b.AddString(stunwire.AttrRealm, s.realm)
		b.Add(stunwire.AttrNonce, nonce)
		b.AddIntegrity(s.key)
	}
	q.request = b.Bytes()
	s.send(k)
}

// answer takes what client k has got and reports whether it is its allocation.
func (s *askers) answer(k int) (done bool, err error) {
	q := &s.list[k]
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(&s.buf[0])), uintptr(len(s.buf)))
	var m stunwire.Message
	if errno != 0 || q.request == nil || m.Parse(s.buf[:n]) != nil || m.TxID != q.id {
		return false, nil
	}
	if m.Type.Class() == stunwire.Success {
		q.request = nil
		return true, nil
	}
	if code := errorOf(&m); code != 401 && code != 438 {
		return false, fmt.Errorf("bench: Allocate: error %d", code)
	}
	realm, _ := m.Get(stunwire.AttrRealm)
	nonce, _ := m.Get(stunwire.AttrNonce)
	if s.key == nil || s.realm != string(realm) {
		s.realm = string(realm)
		s.key = stunwire.NewKey(stunwire.LongTermKey(turnUser, s.realm, turnPassword, stunwire.MD5))
	}
	s.ask(k, nonce)
	return false, nil
}

// open makes the sockets. They last as long as the process.
func (s *askers) open(clients int, server netip.AddrPort) (err error) {
	if s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	s.list = make([]asker, clients)
	for k := range s.list {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.list[k].fd = fd
		if err := errors.Join(
			unix.Bind(fd, &unix.SockaddrInet4{Addr: source(k).As4()}),
			unix.Connect(fd, &unix.SockaddrInet4{Addr: server.Addr().As4(), Port: int(server.Port())}),
			unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(k)}),
		); err != nil {
			return fmt.Errorf("bench: allocations: %w", err)
		}
	}
	return nil
}

// allocations makes an allocation for each client, some at a time.
func (g *turnLoad) allocations() (a turnConnected) {
	fail := func(err error) turnConnected {
		a.Error = err.Error()
		return a
	}
	server, err := netip.ParseAddrPort(g.server)
	if err != nil {
		return fail(err)
	}
	var s askers
	if err := s.open(g.clients, server); err != nil {
		return fail(err)
	}
	events := make([]unix.EpollEvent, askersAtATime)
	start := time.Now()
	next := 0
	for ; next < min(askersAtATime, g.clients); next++ {
		s.ask(next, nil)
	}
	for a.Clients < g.clients {
		n, err := unix.EpollWait(s.ep, events, 500)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fail(os.NewSyscallError("epoll_wait", err))
		}
		if n == 0 {
			if time.Since(start) > time.Minute {
				return fail(errors.New("bench: no answer to Allocate"))
			}
			for k := range next {
				if s.list[k].request != nil && time.Since(s.list[k].asked) > 400*time.Millisecond {
					s.send(k)
				}
			}
		}
		for _, e := range events[:max(n, 0)] {
			done, err := s.answer(int(e.Fd))
			if err != nil {
				return fail(err)
			}
			if !done {
				continue
			}
			a.Clients++
			if next < g.clients {
				s.ask(next, nil)
				next++
			}
		}
	}
	a.Took = time.Since(start)
	return a
}
