package rawtcp

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Conn is a TCP connection. It is used like a *net.TCPConn.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn

	reading sync.Mutex // guards in
	in      transfer
	writing sync.Mutex // guards out
	out     transfer
}

// A transfer is a read or a write that is going on. Its functions are made
// once: for each call they would be allocated.
type transfer struct {
	b    []byte
	n    int
	err  syscall.Errno
	wait func(fd uintptr) bool // until something, or all, is done
	try  func(fd uintptr)      // what can be done now
	free int
	ask  func(fd uintptr) // how much is free
}

// Wrap returns a *Conn if c is a *net.TCPConn, else c. The Conn stands for c,
// which is not to be read and written to itself.
func Wrap(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	w := &Conn{TCPConn: t, raw: raw}
	w.in.wait = w.in.read
	w.out.wait = w.out.writeAll
	w.out.try = w.out.write
	w.out.ask = func(fd uintptr) { w.out.free = room(fd) }
	return w
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.TCPConn }

func (t *transfer) read(fd uintptr) bool {
	t.n, t.err = call(unix.SYS_RECVFROM, fd, t.b)
	return t.err != unix.EAGAIN && t.err != unix.EINTR
}

func (t *transfer) write(fd uintptr) {
	var n int
	n, t.err = call(unix.SYS_SENDTO, fd, t.b[t.n:])
	t.n += n
}

func (t *transfer) writeAll(fd uintptr) bool {
	for t.n < len(t.b) && t.err == 0 {
		t.write(fd)
		if t.err == unix.EINTR {
			t.err = 0
		}
	}
	if t.err == unix.EAGAIN {
		t.err = 0
		return false
	}
	return true
}

// call is recv or send of some of b, which is not empty.
func call(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// failure returns the error of a transfer: err is the poller's, closed or timed
// out.
func (c *Conn) failure(op string, err error, errno syscall.Errno) error {
	if err == nil && errno == 0 {
		return nil
	}
	if err == nil {
		err = os.NewSyscallError(op, errno)
	}
	if o, ok := err.(*net.OpError); ok { // not to be wrapped twice
		err = o.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Read reads at least one byte, or reports why not.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	t := &c.in
	t.b, t.n, t.err = b, 0, 0
	err := c.raw.Read(t.wait)
	t.b = nil
	if err = c.failure("read", err, t.err); err != nil {
		return 0, err
	}
	if t.n == 0 {
		return 0, io.EOF
	}
	return t.n, nil
}

// Write writes all of b, or reports why not.
func (c *Conn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	t := &c.out
	t.b, t.n, t.err = b, 0, 0
	err := c.raw.Write(t.wait)
	t.b = nil
	return t.n, c.failure("write", err, t.err)
}

// TryWrite writes what the socket takes at once: nothing too, if it is full or
// a Write is going on.
func (c *Conn) TryWrite(b []byte) (int, error) {
	if len(b) == 0 || !c.writing.TryLock() {
		return 0, nil
	}
	defer c.writing.Unlock()
	t := &c.out
	t.b, t.n, t.err = b, 0, 0
	err := c.raw.Control(t.try)
	t.b = nil
	if t.err == unix.EAGAIN || t.err == unix.EINTR {
		t.err = 0
	}
	return t.n, c.failure("write", err, t.err)
}

// Takes reports whether the socket takes n bytes without waiting. It may be
// false for less than it takes, and is while a Write is going on; it is never
// true for more, unless somebody else writes.
func (c *Conn) Takes(n int) bool {
	if !c.writing.TryLock() {
		return false
	}
	defer c.writing.Unlock()
	// The kernel counts what its buffers take, up to twice what is in them.
	return c.raw.Control(c.out.ask) == nil && c.out.free >= 2*n+4096
}

// room returns how much memory the socket may still take for what it sends.
func room(fd uintptr) int {
	const ( // of linux/sock_diag.h
		sndbuf  = 3
		queued  = 5
		meminfo = 9
	)
	var info [meminfo]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < (queued+1)*4 {
		return 0
	}
	return int(info[sndbuf]) - int(info[queued])
}
