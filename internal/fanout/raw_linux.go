package fanout

import (
	"io"
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

// rawReader reads from sockets without ever blocking.
type rawReader struct {
	call func(fd uintptr) bool
	buf  [512]byte
	n    int
	err  error
}

// read reads what the peer has said, as far as it fits, and throws it away.
// Silence is no error; io.EOF is that the peer has left.
func (r *rawReader) read(conn syscall.RawConn) (int, error) {
	if r.call == nil {
		r.call = r.readFrom
	}
	r.n, r.err = 0, nil
	if err := conn.Read(r.call); err != nil {
		return 0, err
	}
	return r.n, r.err
}

func (r *rawReader) readFrom(fd uintptr) bool {
	for {
		r.n, r.err = unix.Read(int(fd), r.buf[:])
		if r.err != unix.EINTR {
			break
		}
	}
	switch {
	case r.err == unix.EAGAIN:
		r.n, r.err = 0, nil
	case r.err != nil:
		r.n, r.err = 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", r.err)}
	case r.n == 0:
		r.err = io.EOF
	}
	return true // never wait
}
