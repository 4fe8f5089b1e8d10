package fanout

import (
	"iter"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawConn returns the socket of conn, nil if it is no plain one.
func rawConn(conn Conn) syscall.RawConn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

// unsent is how many bytes a socket takes before it has sent the others. What
// waits in the kernel cannot be skipped, so it is to be little: a tenth of a
// second at 20 Mbit/s.
const unsent = 256 << 10

func holdLittle(conn syscall.RawConn) {
	_ = conn.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	})
}

// rawWriter writes to sockets without ever blocking.
type rawWriter struct {
	call  func(fd uintptr) // made once, so that a write allocates nothing
	parts [3][]byte
	n     int
	err   error
}

// write writes as much of bufs, which are not all empty, as the socket takes
// now. A full socket is no error.
func (w *rawWriter) write(conn syscall.RawConn, bufs *[3][]byte) (int, error) {
	if w.call == nil {
		w.call = w.writeTo
	}
	w.parts, w.n, w.err = *bufs, 0, nil
	// Control and not Write: that readies the poller for waiting, which costs
	// and is not wanted.
	err := conn.Control(w.call)
	w.parts = [3][]byte{}
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}

func (w *rawWriter) writeTo(fd uintptr) {
	k := 0
	for _, b := range w.parts {
		if len(b) > 0 {
			w.parts[k] = b
			k++
		}
	}
	for {
		if k == 1 {
			w.n, w.err = send(fd, w.parts[0])
		} else {
			w.n, w.err = unix.Writev(int(fd), w.parts[:k])
		}
		if w.err != unix.EINTR {
			break
		}
	}
	w.n = max(w.n, 0)
	switch w.err {
	case unix.EAGAIN:
		w.err = nil
	case nil:
	default:
		w.err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", w.err)}
	}
}

// send is send(2) without telling the scheduler: the call never waits, and is
// over before another thread could have taken its place.
func send(fd uintptr, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// peers are those of a shard that it listens to. One system call tells which of
// them have said something: reading from each would cost as much as a send.
type peers struct {
	call    func(fd uintptr) // made once, so that nothing is allocated
	fd      int
	fds     []unix.PollFd
	players []*Player // of fds
}

func (s *peers) begin() {
	s.fds, s.players = s.fds[:0], s.players[:0]
	if s.call == nil {
		s.call = func(fd uintptr) { s.fd = int(fd) }
	}
}

func (s *peers) add(p *Player) {
	// Should it be closed, and the number be another's, before poll looks at
	// it, a player is told for nothing, or the next time.
	s.fd = -1
	_ = p.raw.Control(s.call)
	s.fds = append(s.fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN | unix.POLLRDHUP})
	s.players = append(s.players, p)
}

// speaking yields those players that were added whose connections have
// something to be read, or an end, or are closed already.
func (s *peers) speaking() iter.Seq[*Player] {
	return func(yield func(*Player) bool) {
		defer clear(s.players)
		if _, err := unix.Poll(s.fds, 0); err != nil {
			return // the next time
		}
		for i, p := range s.players {
			if f := s.fds[i]; (f.Fd < 0 || f.Revents != 0) && !yield(p) {
				return
			}
		}
	}
}
