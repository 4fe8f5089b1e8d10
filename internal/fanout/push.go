package fanout

import (
	"net"
	"syscall"
)

// A Pusher is a Conn that takes bytes without blocking and without a copy: what
// its transport does with them, such as to cut them into packets and to send
// those again that are lost, is done meanwhile and later. A log calls Push in
// place of Write.
type Pusher interface {
	// Push takes bufs, one after the other, of which some may be empty, and
	// returns how many bytes it had room for. It may keep them, for they do
	// not change.
	Push(bufs *[3][]byte) (int, error)
}

// pushed stands for the socket of a Pusher, which has none.
type pushed struct{ Pusher }

func (pushed) Control(func(uintptr)) error    { return nil }
func (pushed) Read(func(uintptr) bool) error  { return net.ErrClosed }
func (pushed) Write(func(uintptr) bool) error { return net.ErrClosed }

// direct returns what conn is written to without blocking, nil if it is to be
// written to by a goroutine.
func direct(conn Conn) syscall.RawConn {
	if q, ok := conn.(Pusher); ok {
		return pushed{q}
	}
	return rawConn(conn)
}

// put writes without blocking. It is called with s.mu held.
func (s *shard) put(conn syscall.RawConn, bufs *[3][]byte) (int, error) {
	q, ok := conn.(pushed)
	if !ok {
		return s.out.write(conn, bufs)
	}
	s.pushing = *bufs // or bufs would be on the heap, for every connection
	n, err := q.Push(&s.pushing)
	s.pushing = [3][]byte{}
	return n, err
}
