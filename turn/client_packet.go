package turn

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A PacketConn is a UDP allocation on a TURN server. ReadFrom and WriteTo speak
// with peers from the relayed address: the first WriteTo to a peer waits until
// the server has permitted it, and from then on a channel is bound in the
// background, over which data goes with four bytes of overhead. Allocation,
// permissions and channels are refreshed by the PacketConn itself. Only peers
// that were permitted, by WriteTo or Permit, can be heard.
//
// All methods may be used by many goroutines at once. What arrives while
// nobody reads is kept up to a bound, then dropped, as a socket does.
type PacketConn struct {
	client *Client
	icmp   func(peer netip.Addr, kind, code uint8, data uint32)

	relayed  []netip.AddrPort
	mapped   netip.AddrPort
	reserved []byte

	queue         chan *clientPacket
	done          chan struct{} // closed by the end
	stop          context.CancelFunc
	background    context.Context // ends with the PacketConn
	readDeadline  clientDeadline
	writeDeadline clientDeadline

	session atomic.Pointer[clientSession]
	asked   time.Duration // the lifetime that was asked for; 0: none
	moving  sync.Mutex    // held by Move

	mu       sync.RWMutex
	peers    map[netip.AddrPort]*clientPeer
	channels map[uint16]*clientPeer
	next     uint16 // channel number to be given out
	permits  map[netip.Addr]*clientPermit
	ticket   []byte // MOBILITY-TICKET
	err      error  // once done is closed
}

var _ net.PacketConn = (*PacketConn)(nil)

// A clientPacket waits to be read.
type clientPacket struct {
	from netip.AddrPort
	data []byte
}

var clientPackets = sync.Pool{New: func() any { return &clientPacket{data: make([]byte, 0, 1500)} }}

// maxClientQueue is how many packets wait for a reader.
const maxClientQueue = 512

func newPacketConn(c *Client, o *AllocateOptions) *PacketConn {
	p := &PacketConn{
		client:   c,
		icmp:     o.ICMP,
		asked:    o.Lifetime,
		queue:    make(chan *clientPacket, maxClientQueue),
		done:     make(chan struct{}),
		peers:    make(map[netip.AddrPort]*clientPeer),
		channels: make(map[uint16]*clientPeer),
		permits:  make(map[netip.Addr]*clientPermit),
		next:     clientMinChannel,
	}
	p.background, p.stop = context.WithCancel(context.Background())
	return p
}

func (p *PacketConn) handlers() clientHandlers {
	return clientHandlers{data: p.deliver, channel: p.deliverChannel, icmp: p.icmp}
}

// start takes over the session of a successful Allocate.
func (p *PacketConn) start(s *clientSession, r *clientReply) (err error) {
	life, err := r.lifetime()
	if err != nil {
		return err
	}
	if p.relayed, p.mapped, err = r.relayed(); err != nil {
		return err
	}
	if v, ok := r.Get(stunwire.AttrReservationToken); ok {
		p.reserved = append([]byte(nil), v...)
	}
	if v, ok := r.Get(stunwire.AttrMobilityTicket); ok {
		p.ticket = append([]byte(nil), v...)
	}
	p.session.Store(s)
	go p.watch(s)
	go p.keep(life)
	return nil
}

// watch ends the PacketConn when the session ends that it uses.
func (p *PacketConn) watch(s *clientSession) {
	select {
	case <-p.done:
	case <-s.done:
		if p.session.Load() == s { // else it has moved on
			p.end(s.cause())
		}
	}
}

// end closes the PacketConn for a reason. It reports whether it did.
func (p *PacketConn) end(err error) bool {
	p.mu.Lock()
	select {
	case <-p.done:
		p.mu.Unlock()
		return false
	default:
	}
	p.err = err
	close(p.done)
	p.mu.Unlock()
	p.stop()
	p.session.Load().close(err)
	return true
}

// Close gives the allocation back and closes the PacketConn. It waits a moment
// for the server's answer.
func (p *PacketConn) Close() error {
	select {
	case <-p.done:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(p.background, clientGoodbye)
	defer cancel()
	_, _ = p.session.Load().do(ctx, stunwire.Refresh, func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrLifetime, 0) })
	p.end(errClientClosed)
	return nil
}

// clientGoodbye is how long Close waits for the server.
const clientGoodbye = 2 * time.Second

// failed returns the error of a PacketConn that has ended.
func (p *PacketConn) failed() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.err == nil || errors.Is(p.err, net.ErrClosed) {
		return errClientClosed
	}
	if errors.Is(p.err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return p.err
}

// LocalAddr returns the relayed address, a *net.UDPAddr: where peers send to.
func (p *PacketConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.relayed[0]) }

// Relayed returns the relayed addresses: one, or two of a dual allocation.
func (p *PacketConn) Relayed() []netip.AddrPort { return append([]netip.AddrPort(nil), p.relayed...) }

// Mapped returns the client's own address as the server saw it when the
// allocation was made: a server-reflexive candidate for ICE.
func (p *PacketConn) Mapped() netip.AddrPort { return p.mapped }

// ReservationToken returns what AllocateOptions.ReservationToken of another
// allocation takes to get the port next to this one's. nil: there is none.
func (p *PacketConn) ReservationToken() []byte { return append([]byte(nil), p.reserved...) }

// ReadFrom reads a packet of a permitted peer. The address is a *net.UDPAddr.
func (p *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromAddrPort is ReadFrom without an allocation of memory.
func (p *PacketConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	if p.readDeadline.passed() {
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	}
	select {
	case q := <-p.queue:
		return q.take(b)
	default:
	}
	select {
	case q := <-p.queue:
		return q.take(b)
	case <-p.readDeadline.wait():
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	case <-p.done:
		return 0, netip.AddrPort{}, p.failed()
	}
}

func (q *clientPacket) take(b []byte) (int, netip.AddrPort, error) {
	n, from := copy(b, q.data), q.from
	q.free()
	return n, from, nil
}

// free gives a packet back for another one, unless it is of a size that is
// rare.
func (q *clientPacket) free() {
	if cap(q.data) <= 4096 {
		clientPackets.Put(q)
	}
}

// deliver queues a packet.
func (p *PacketConn) deliver(from netip.AddrPort, b []byte) {
	q := clientPackets.Get().(*clientPacket)
	q.from, q.data = from, append(q.data[:0], b...)
	select {
	case p.queue <- q:
	default:
		q.free()
	}
}

func (p *PacketConn) deliverChannel(number uint16, b []byte) {
	p.mu.RLock()
	peer := p.channels[number]
	p.mu.RUnlock()
	if peer != nil {
		if !peer.used.Load() {
			peer.used.Store(true)
		}
		p.deliver(peer.addr, b)
	}
}

// WriteTo sends a packet to a peer, whose address is a *net.UDPAddr or has an
// IP address and a port as its String. It blocks while the server is asked to
// permit a new peer, at most until the write deadline, and on TCP and TLS while
// the server takes nothing.
func (p *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	var at netip.AddrPort
	if u, ok := to.(*net.UDPAddr); ok {
		at = u.AddrPort()
	} else {
		var err error
		if at, err = netip.ParseAddrPort(to.String()); err != nil {
			return 0, err
		}
	}
	return p.WriteToAddrPort(b, at)
}

// maxClientData is what fits into a UDP packet.
const maxClientData = 65507

var errTooLong = errors.New("turn: packet too long")

// WriteToAddrPort is WriteTo without an allocation of memory.
func (p *PacketConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if len(b) > maxClientData {
		return 0, errTooLong
	}
	select {
	case <-p.done:
		return 0, p.failed()
	default:
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	p.mu.RLock()
	peer := p.peers[to]
	p.mu.RUnlock()
	if peer == nil || !peer.ready.Load() {
		var err error
		if peer, err = p.introduce(to); err != nil {
			return 0, err
		}
	}
	if !peer.used.Load() {
		peer.used.Store(true)
	}
	s := p.session.Load()
	out := clientPackets.Get().(*clientPacket)
	defer out.free()
	if peer.bound.Load() {
		out.data = stunwire.AppendChannelHeader(out.data[:0], peer.channel, len(b))
		out.data = append(out.data, b...)
		if !s.datagram { // Section 12.5: streams pad
			out.data = append(out.data, make([]byte, -len(b)&3)...)
		}
	} else {
		var id stunwire.TxID
		rand.Read(id[:])
		m := stunwire.Build(out.data[:0], stunwire.NewType(stunwire.Send, stunwire.Indication), id)
		m.AddXORAddr(stunwire.AttrXORPeerAddress, to)
		m.Add(stunwire.AttrData, b)
		out.data = m.Bytes()
		if !peer.asked.Swap(true) {
			defer p.bindLater(peer)
		}
	}
	if err := s.write(out.data); err != nil {
		if s.datagram && !errors.Is(err, net.ErrClosed) {
			return len(b), nil // ICMP errors and full buffers: packets may be lost
		}
		return 0, err
	}
	return len(b), nil
}

// SetDeadline sets both deadlines.
func (p *PacketConn) SetDeadline(t time.Time) error {
	p.readDeadline.set(t)
	p.writeDeadline.set(t)
	return nil
}

// SetReadDeadline bounds ReadFrom; its error is then os.ErrDeadlineExceeded.
func (p *PacketConn) SetReadDeadline(t time.Time) error {
	p.readDeadline.set(t)
	return nil
}

// SetWriteDeadline bounds how long WriteTo waits for a permission.
func (p *PacketConn) SetWriteDeadline(t time.Time) error {
	p.writeDeadline.set(t)
	return nil
}
