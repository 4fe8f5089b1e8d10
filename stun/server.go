package stun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/udp"
)

// ErrServerClosed is what Serve, ServePacket and ServeNAT return after
// Shutdown or Close.
var ErrServerClosed = errors.New("stun: server closed")

var (
	errAlternate = errors.New("stun: Responder.Alternate needs a Verifier: only who has proven who he is may be redirected")
	errSockets   = errors.New("stun: NAT behaviour discovery needs two addresses of one family with the same two ports each")
)

// A Server answers Binding requests. Its configuration must not change after
// the first Serve; its methods may be called from many goroutines. The zero
// value is ready.
type Server struct {
	Responder Responder    // what is answered
	Log       *slog.Logger // nil: nothing is logged

	// MaxConns is how many connections may be open at once; more are closed as
	// they come. 0: 1024.
	MaxConns int
	// IdleTimeout is how long a connection may take from one request to the
	// next. 0: a minute.
	IdleTimeout time.Duration

	mu      sync.Mutex // guards the following
	closing bool
	closers map[io.Closer]struct{} // listeners and packet sockets
	conns   map[net.Conn]struct{}
	running sync.WaitGroup // of reading goroutines and Serve calls
}

const (
	defaultMaxConns = 1024
	defaultIdle     = time.Minute
	readBatch       = 32
	maxRequest      = 2048 // bytes; more than the padding of RFC 5780 asks for
)

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// begin registers what a Serve call owns. It closes it if the server is
// closed already, or can't work.
func (s *Server) begin(owned ...io.Closer) error {
	err := s.Responder.wellFormed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		err = ErrServerClosed
	}
	if err != nil {
		for _, c := range owned {
			c.Close()
		}
		return err
	}
	if s.closers == nil {
		s.closers, s.conns = make(map[io.Closer]struct{}), make(map[net.Conn]struct{})
	}
	for _, c := range owned {
		s.closers[c] = struct{}{}
	}
	s.running.Add(1)
	return nil
}

// end closes what a Serve call owns and returns what the call returns.
func (s *Server) end(err error, owned ...io.Closer) error {
	for _, c := range owned {
		c.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range owned {
		delete(s.closers, c)
	}
	s.running.Done()
	if s.closing {
		return ErrServerClosed
	}
	return err
}

// ServePacket answers what comes through pc, until Shutdown or Close. It owns
// pc and closes it. It may be called for several sockets: one for each address
// of a host that has several, since the system chooses which of them an answer
// comes from if the socket's is unspecified. NAT behaviour discovery is off in
// it, see ServeNAT.
func (s *Server) ServePacket(pc net.PacketConn) error {
	c := udp.Wrap(pc)
	if err := s.begin(c); err != nil {
		return err
	}
	r := s.Responder
	r.Addrs = [4]netip.AddrPort{}
	return s.end(s.read(&r, [4]*udp.Conn{c}, Primary), c)
}

// ServeNAT answers NAT behaviour discovery (RFC 5780), and everything else,
// through four sockets in the order of Socket, such as ListenNAT opens, until
// Shutdown or Close. It owns them. The addresses that clients are told are
// those of Responder.Addrs; left zero, those of the sockets.
func (s *Server) ServeNAT(sockets [4]net.PacketConn) error {
	var conns [4]*udp.Conn
	var owned []io.Closer
	r := s.Responder
	for i, pc := range sockets {
		if pc == nil {
			for _, c := range owned {
				c.Close()
			}
			return errSockets
		}
		conns[i] = udp.Wrap(pc)
		owned = append(owned, conns[i])
		if !s.Responder.Addrs[i].IsValid() {
			r.Addrs[i] = conns[i].LocalAddr()
		}
	}
	if err := s.begin(owned...); err != nil {
		return err
	}
	if !fourAddrs(r.Addrs) {
		return s.end(errSockets, owned...)
	}
	ended := make(chan error, len(conns))
	for i := range conns {
		go func() { ended <- s.read(&r, conns, Socket(i)) }()
	}
	err := <-ended
	for _, c := range owned {
		c.Close() // one is of no use without the others
	}
	for range len(conns) - 1 {
		<-ended
	}
	return s.end(err, owned...)
}

// fourAddrs says whether the addresses are two with two ports each.
func fourAddrs(a [4]netip.AddrPort) bool {
	for _, ap := range a {
		if !ap.IsValid() || ap.Addr().IsUnspecified() || ap.Addr().Is4() != a[0].Addr().Is4() {
			return false
		}
	}
	return a[Primary].Addr() == a[AlternatePort].Addr() && a[AlternateAddress].Addr() == a[Alternate].Addr() &&
		a[Primary].Port() == a[AlternateAddress].Port() && a[AlternatePort].Port() == a[Alternate].Port() &&
		a[Primary].Addr() != a[Alternate].Addr() && a[Primary].Port() != a[Alternate].Port()
}

// ListenNAT opens the four UDP sockets of ServeNAT: both addresses with both
// ports. The port of alternate may be 0: one is chosen.
func ListenNAT(ctx context.Context, primary, alternate netip.AddrPort) (sockets [4]net.PacketConn, err error) {
	defer func() {
		if err != nil {
			for _, pc := range sockets {
				if pc != nil {
					pc.Close()
				}
			}
			sockets = [4]net.PacketConn{}
		}
	}()
	network := "udp4"
	if primary.Addr().Unmap().Is6() {
		network = "udp6"
	}
	open := func(i Socket, ip netip.Addr, port *uint16) {
		if err != nil {
			return
		}
		var pc net.PacketConn
		if pc, err = new(net.ListenConfig).ListenPacket(ctx, network, netip.AddrPortFrom(ip, *port).String()); err != nil {
			err = fmt.Errorf("stun: %w", err)
			return
		}
		sockets[i] = pc
		*port = pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	first, second := primary.Port(), alternate.Port()
	open(Primary, primary.Addr(), &first)
	open(AlternatePort, primary.Addr(), &second)
	open(AlternateAddress, alternate.Addr(), &first)
	open(Alternate, alternate.Addr(), &second)
	return sockets, err
}

// read answers what comes through one of the sockets until it is closed.
func (s *Server) read(r *Responder, conns [4]*udp.Conn, through Socket) error {
	packets := make([]udp.Packet, readBatch)
	room := make([]byte, readBatch*maxRequest)
	var answers []byte
	var batches [4]udp.Batch
	failed := 0
	for {
		for i := range packets {
			packets[i] = udp.Packet{Data: room[i*maxRequest : (i+1)*maxRequest : (i+1)*maxRequest]}
		}
		n, err := conns[through].ReadBatch(packets)
		switch {
		case err == nil:
			failed = 0
		case errors.Is(err, net.ErrClosed), failed == 16:
			return fmt.Errorf("stun: %w", err)
		default: // Windows reports here that what was sent did not arrive
			failed++
			s.log().Warn("stun: reading", "err", err)
			time.Sleep(time.Duration(failed) * time.Millisecond)
			continue
		}
		answers = answers[:0]
		for i := range packets[:n] {
			for d := range packets[i].Datagrams() {
				start := len(answers)
				var a Answer
				if answers, a = r.Answer(answers, d, packets[i].Addr, through); len(answers) > start {
					batches[a.From].Add(a.To, udp.Mark{}, nil, answers[start:])
				}
			}
		}
		for i := range batches {
			if batches[i].Len() == 0 {
				continue
			}
			if _, err := batches[i].Flush(conns[i]); err != nil && !errors.Is(err, net.ErrClosed) {
				s.log().Debug("stun: sending", "err", err)
			}
		}
	}
}

// Shutdown stops accepting and reading. What has been asked is answered, then
// the connections are closed; those that are left when ctx ends are cut off
// and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop(func(c net.Conn) { c.SetReadDeadline(time.Unix(1, 0)) }) // wakes who waits for a request
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.Close()
		return ctx.Err()
	}
}

// Close ends everything at once and waits for the Serve calls.
func (s *Server) Close() error {
	s.stop(func(c net.Conn) { c.Close() })
	s.running.Wait()
	return nil
}

func (s *Server) stop(each func(net.Conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for c := range s.closers {
		c.Close()
	}
	for c := range s.conns {
		each(c)
	}
}
