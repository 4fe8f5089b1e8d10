package stun

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Serve answers what comes through the connections of l, TCP or TLS, until
// Shutdown or Close. It owns l and closes it.
func (s *Server) Serve(l net.Listener) error {
	if err := s.begin(l); err != nil {
		return err
	}
	r := s.Responder
	r.Addrs = [4]netip.AddrPort{} // a connection can't be answered through another
	return s.end(s.accept(&r, l), l)
}

func (s *Server) accept(r *Responder, l net.Listener) error {
	wait := time.Duration(0)
	for {
		c, err := l.Accept()
		if err != nil {
			var ne net.Error
			if errors.Is(err, net.ErrClosed) || !errors.As(err, &ne) || !ne.Temporary() {
				return fmt.Errorf("stun: %w", err)
			}
			wait = min(2*wait+5*time.Millisecond, time.Second) // too many open files, as a rule
			s.log().Warn("stun: accepting", "err", err)
			time.Sleep(wait)
			continue
		}
		wait = 0
		if !s.add(c) {
			c.Close()
			continue
		}
		go func() {
			defer s.running.Done()
			s.serveConn(r, c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
	}
}

// add registers a connection unless there are too many.
func (s *Server) add(c net.Conn) bool {
	most := s.MaxConns
	if most == 0 {
		most = defaultMaxConns
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.conns) >= most {
		return false
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	return true
}

// serveConn answers one connection until its end, its first byte that is not
// STUN, or its deadline.
func (s *Server) serveConn(r *Responder, c net.Conn) {
	idle := s.IdleTimeout
	if idle == 0 {
		idle = defaultIdle
	}
	from := addrPortOf(c.RemoteAddr())
	if !from.IsValid() {
		return // an answer would have no address
	}
	in, out := make([]byte, maxRequest), make([]byte, 0, 256)
	for {
		s.mu.Lock()
		closing := s.closing
		if !closing {
			c.SetDeadline(time.Now().Add(idle)) // under mu: not after Shutdown has set its own
		}
		s.mu.Unlock()
		if closing {
			return
		}
		msg, err := readFrame(c, in)
		if err != nil {
			return
		}
		if out, _ = r.Answer(out[:0], msg, from, Primary); len(out) == 0 {
			return // nothing that belongs here
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// readFrame reads one STUN message from a stream into buf, which bounds it.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:stunwire.HeaderSize]); err != nil {
		return nil, err
	}
	n, _, err := stunwire.FrameSize(buf[:stunwire.HeaderSize])
	if err != nil || n > len(buf) || n < stunwire.HeaderSize || buf[0]&0xC0 != 0 {
		return nil, ErrNotSTUN
	}
	if _, err := io.ReadFull(r, buf[stunwire.HeaderSize:n]); err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// addrPortOf returns the address of a peer, never IPv4-mapped; zero if it has
// none.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	case nil:
	default:
		ap, _ = netip.ParseAddrPort(a.String()) // zero is what there is to say
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
