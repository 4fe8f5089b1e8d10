//go:build unix

package turn

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// shareTCP lets a relay listen for, and dial, connections at one port (RFC
// 6062 Section 5.2).
func shareTCP(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		)
	}); e != nil {
		return e
	}
	return err
}

// sharePort lets several UDP sockets have one address.
func sharePort(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); e != nil {
		return e
	}
	return err
}

// portTaken reports whether a port can't be had though another may.
func portTaken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EACCES)
}
