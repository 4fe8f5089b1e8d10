package fanout

import "syscall"

func setReadBuffer(c syscall.RawConn, size int) (err error) {
	if e := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size)
	}); e != nil {
		return e
	}
	return err
}
