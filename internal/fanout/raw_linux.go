package fanout

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes a socket takes before it has sent the others. What
// waits in the kernel cannot be skipped, so it is to be little: a tenth of a
// second at 20 Mbit/s.
const unsent = 256 << 10

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
	_ = rc.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	})
	return rc
}

// rawWriter writes to sockets without ever blocking.
type rawWriter struct {
	call  func(fd uintptr) bool // made once, so that a write allocates nothing
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
	err := conn.Write(w.call)
	w.parts = [3][]byte{}
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}

func (w *rawWriter) writeTo(fd uintptr) bool {
	k := 0
	for _, b := range w.parts {
		if len(b) > 0 {
			w.parts[k] = b
			k++
		}
	}
	for {
		if k == 1 {
			w.n, w.err = unix.Write(int(fd), w.parts[0])
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
	return true // never wait
}
