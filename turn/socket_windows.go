package turn

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// shareTCP lets a relay listen for, and dial, connections at one port (RFC
// 6062 Section 5.2).
func shareTCP(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_REUSEADDR, 1)
	}); e != nil {
		return e
	}
	return err
}

// sharePort is not possible: one socket has to do.
func sharePort(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }

// portTaken reports whether a port can't be had though another may.
func portTaken(err error) bool {
	return errors.Is(err, windows.WSAEADDRINUSE) || errors.Is(err, windows.WSAEACCES)
}
