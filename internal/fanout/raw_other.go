//go:build !linux

package fanout

import "syscall"

// rawConn returns nil: players are written to by goroutines on this system.
func rawConn(Conn) syscall.RawConn { return nil }

func holdLittle(syscall.RawConn) {}

// rawWriter is for systems where rawConn returns something.
type rawWriter struct{}

func (*rawWriter) write(syscall.RawConn, *[3][]byte) (int, error) {
	panic("unreachable: rawConn returns nil")
}

// rawReader is likewise.
type rawReader struct{}

func (*rawReader) read(syscall.RawConn) (int, error) {
	panic("unreachable: rawConn returns nil")
}
