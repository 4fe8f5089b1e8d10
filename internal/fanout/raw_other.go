//go:build !linux

package fanout

import (
	"iter"
	"syscall"
)

// rawConn returns nil: players are written to by goroutines on this system.
func rawConn(Conn) syscall.RawConn { return nil }

func holdLittle(syscall.RawConn) {}

// rawWriter is for systems where rawConn returns something.
type rawWriter struct{}

func (*rawWriter) write(syscall.RawConn, *[3][]byte) (int, error) {
	panic("unreachable: rawConn returns nil")
}

// peers is likewise.
type peers struct{}

func (*peers) begin()                      {}
func (*peers) add(*Player)                 { panic("unreachable: rawConn returns nil") }
func (*peers) speaking() iter.Seq[*Player] { return func(func(*Player) bool) {} }
