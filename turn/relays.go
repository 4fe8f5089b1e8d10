package turn

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/runnel-media/runnel/internal/udp"
)

// ErrNoPort is what a RelayAllocator returns when it has no port left. The
// client gets 508.
var ErrNoPort = errors.New("turn: no relay port left")

// ErrNoFamily is what a RelayAllocator returns when it has no address of the
// family that is asked for. The client gets 440.
var ErrNoFamily = errors.New("turn: no relay address of that family")

// A RelayAllocator opens the sockets that allocations relay through. It is
// called in goroutines that may block, many at once.
type RelayAllocator interface {
	OpenRelay(ctx context.Context, r *RelayRequest) (*Relay, error)
}

// A RelayRequest asks for a relay socket.
type RelayRequest struct {
	Network string         // "udp4", "udp6", "tcp4" or "tcp6"
	Even    bool           // an even port
	Port    netip.AddrPort // if it is valid: exactly this one, the odd port beside one that Even gave
	User    string
	Realm   string
	Client  netip.AddrPort
	Server  netip.AddrPort // to which the client has spoken
}

// A Relay is a relay socket. It is given back by closing it.
type Relay struct {
	PacketConn net.PacketConn // of "udp4" and "udp6"

	// Of "tcp4" and "tcp6": Listener takes the connections of peers, Dial
	// makes them from the same address and port.
	Listener net.Listener
	Dial     func(ctx context.Context, peer netip.AddrPort) (net.Conn, error)

	// Public is the relayed address that clients are told; zero: the socket's.
	Public netip.AddrPort
}

// A RelayAddr is an address that relay sockets are opened at.
type RelayAddr struct {
	Listen netip.Addr // of this machine
	Public netip.Addr // what clients are told, behind a 1:1 NAT; zero: Listen
}

// RelayPorts is the RelayAllocator of this machine's own sockets. Ports are
// chosen by a CSPRNG; the addresses of a family take turns. It must not be
// copied or changed once it is in use, and may be shared by Servers.
type RelayPorts struct {
	Addrs    []RelayAddr // nil: the one that the client has spoken to
	Min, Max uint16      // of the ports, both included; 0: 49152 and 65535

	mu    sync.Mutex
	taken map[netip.Addr]*[2]portSet // by Listen; of UDP and of TCP
	turn  uint
}

// An openRelay is what the server keeps of a relay socket.
type openRelay struct {
	conn    *udp.Conn    // UDP
	mark    udp.Mark     // that conn sends with; guarded by the allocation's mu
	ln      net.Listener // TCP
	dial    func(ctx context.Context, peer netip.AddrPort) (net.Conn, error)
	local   netip.AddrPort
	public  netip.AddrPort
	release func() // may be nil
	once    sync.Once
}

// close gives the relay back; any number of times.
func (o *openRelay) close(s *Server) {
	o.once.Do(func() {
		s.own.removeRelay(o.ln != nil, o.local, o.public)
		if o.conn != nil {
			_ = o.conn.Close() // nothing is lost by an error here
		}
		if o.ln != nil {
			_ = o.ln.Close()
		}
		if o.release != nil {
			o.release()
		}
	})
}

// openRelay opens a relay socket by Server.Relays.
func (s *Server) openRelay(ctx context.Context, q *RelayRequest) (*openRelay, error) {
	var o *openRelay
	var err error
	switch allocator := s.Relays.(type) {
	case nil:
		o, err = s.stock.open(ctx, q)
	case *RelayPorts:
		o, err = allocator.open(ctx, q)
	default:
		o, err = openForeign(ctx, allocator, q)
	}
	if err != nil {
		return nil, err
	}
	s.own.addRelay(o.ln != nil, o.local, o.public)
	return o, nil
}

func openForeign(ctx context.Context, allocator RelayAllocator, q *RelayRequest) (*openRelay, error) {
	r, err := allocator.OpenRelay(ctx, q)
	if err != nil {
		return nil, err
	}
	o := &openRelay{ln: r.Listener, dial: r.Dial}
	switch {
	case r.PacketConn != nil:
		o.conn = udp.Wrap(r.PacketConn)
		o.local = o.conn.LocalAddr()
	case r.Listener != nil && r.Dial != nil:
		if o.local, err = netip.ParseAddrPort(r.Listener.Addr().String()); err != nil {
			_ = r.Listener.Close()
			return nil, fmt.Errorf("turn: relay listener: %w", err)
		}
	default:
		return nil, errors.New("turn: the RelayAllocator has returned an empty Relay")
	}
	o.local = canonical(o.local)
	if o.public = canonical(r.Public); !r.Public.IsValid() {
		o.public = o.local
	}
	return o, nil
}

// OpenRelay implements RelayAllocator.
func (p *RelayPorts) OpenRelay(ctx context.Context, q *RelayRequest) (*Relay, error) {
	o, err := p.open(ctx, q)
	if err != nil {
		return nil, err
	}
	if o.ln != nil {
		return &Relay{Listener: &releasingListener{o.ln, o.release}, Dial: o.dial, Public: o.public}, nil
	}
	at := o.conn.LocalAddr()
	_ = o.conn.Close() // it was but a probe: what is handed out has to be a net.PacketConn
	pc, err := new(net.ListenConfig).ListenPacket(ctx, q.Network, at.String())
	if err != nil {
		o.release()
		return nil, err
	}
	return &Relay{PacketConn: &releasingPacketConn{pc, o.release}, Public: o.public}, nil
}

// A releasingListener gives its port back when it is closed.
type releasingListener struct {
	net.Listener
	release func()
}

// Close closes the listener.
func (l *releasingListener) Close() error {
	defer l.release()
	return l.Listener.Close()
}

type releasingPacketConn struct {
	net.PacketConn
	release func()
}

// Close closes the socket.
func (c *releasingPacketConn) Close() error {
	defer c.release()
	return c.PacketConn.Close()
}

// tries is how many ports are drawn by lot before all are gone through.
const tries = 16

// open opens a socket at a port that is free.
func (p *RelayPorts) open(ctx context.Context, q *RelayRequest) (*openRelay, error) {
	v6 := q.Network == "udp6" || q.Network == "tcp6"
	addr, ok := p.pick(q, v6)
	if !ok {
		return nil, ErrNoFamily
	}
	set := p.set(addr.Listen, q.Network)
	lo, hi := p.Min, p.Max
	if lo == 0 {
		lo = 49152
	}
	if hi == 0 {
		hi = 65535
	}
	if hi < lo {
		return nil, fmt.Errorf("turn: relay ports from %d to %d", lo, hi)
	}
	try := func(port uint16) (*openRelay, error) {
		if !set.take(port) {
			return nil, nil
		}
		o, err := listenRelay(ctx, q.Network, netip.AddrPortFrom(addr.Listen, port))
		if err != nil {
			set.free(port)
			return nil, err
		}
		o.public = netip.AddrPortFrom(addr.Public, port)
		o.release = func() { set.free(port) }
		return o, nil
	}
	if port := q.Port.Port(); q.Port.IsValid() {
		if port < lo || port > hi {
			return nil, ErrNoPort
		}
		o, err := try(port)
		if o == nil && err == nil {
			err = ErrNoPort
		}
		return o, err
	}
	n := uint32(hi-lo) + 1
	start := random(n)
	for i := range tries + n {
		k := start
		if i < tries {
			k = random(n)
		} else {
			k = (start + i) % n
		}
		port := uint16(uint32(lo) + k)
		if q.Even && port&1 != 0 {
			continue
		}
		// A port that another program has is not an error, but what keeps
		// failing at every port ends with the last.
		if o, err := try(port); o != nil {
			return o, nil
		} else if err != nil && !portTaken(err) {
			return nil, err
		}
	}
	return nil, ErrNoPort
}

// random returns a number below n that nobody can foretell.
func random(n uint32) uint32 {
	var b [8]byte
	rand.Read(b[:])
	return uint32(binary.LittleEndian.Uint64(b[:]) % uint64(n))
}

// pick chooses the address for a request.
func (p *RelayPorts) pick(q *RelayRequest, v6 bool) (RelayAddr, bool) {
	addrs := p.Addrs
	if len(addrs) == 0 {
		addrs = []RelayAddr{{Listen: q.Server.Addr()}}
	}
	var fit []RelayAddr
	for _, a := range addrs {
		a.Listen = a.Listen.Unmap()
		if a.Public = a.Public.Unmap(); !a.Public.IsValid() {
			a.Public = a.Listen
		}
		switch {
		case a.Listen.Is6() != v6 || !a.Listen.IsValid() || a.Public.IsUnspecified():
		case q.Port.IsValid() && q.Port.Addr() != a.Listen:
		default:
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return RelayAddr{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	return fit[p.turn%uint(len(fit))], true
}

func (p *RelayPorts) set(ip netip.Addr, network string) *portSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := p.taken[ip]
	if sets == nil {
		if p.taken == nil {
			p.taken = make(map[netip.Addr]*[2]portSet)
		}
		sets = new([2]portSet)
		p.taken[ip] = sets
	}
	if network == "tcp4" || network == "tcp6" {
		return &sets[1]
	}
	return &sets[0]
}

// listenRelay opens a relay socket of this machine.
func listenRelay(ctx context.Context, network string, at netip.AddrPort) (*openRelay, error) {
	if network == "tcp4" || network == "tcp6" {
		lc := net.ListenConfig{Control: shareTCP}
		ln, err := lc.Listen(ctx, network, at.String())
		if err != nil {
			return nil, err
		}
		o := &openRelay{ln: ln, local: at}
		o.dial = func(ctx context.Context, peer netip.AddrPort) (net.Conn, error) {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(at), Control: shareTCP}
			return d.DialContext(ctx, network, peer.String())
		}
		return o, nil
	}
	conn, err := udp.Listen(network, at, udp.Options{GRO: true, Marks: true, ICMP: true})
	if err != nil {
		return nil, err
	}
	return &openRelay{conn: conn, local: at}, nil
}
