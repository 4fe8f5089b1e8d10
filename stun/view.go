package stun

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A PacketView is a net.PacketConn over a part of a Mux's packets, for code
// that knows nothing else, at the price of a copy and a change of goroutines a
// packet. What is not read in time is dropped, as a socket does.
type PacketView struct {
	mux     *Mux
	session *Session // nil: of a kind of packets
	packets chan packet
	closed  chan struct{}
	once    sync.Once
	read    deadline
	write   deadline
	dropped atomic.Uint64
}

type packet struct {
	data *[]byte // from packetPool
	from netip.AddrPort
}

// viewQueue is how many packets wait to be read; at most 1500 bytes each as a
// rule.
const viewQueue = 256

// packetPool holds nothing that outlives a packet.
var packetPool = sync.Pool{New: func() any { b := make([]byte, 0, 1500); return &b }}

var _ net.PacketConn = (*PacketView)(nil)

// View returns a net.PacketConn and the handler that fills it, for the Mux's
// fields: v, h := m.View(); m.DTLS = h. Closing it does not close the Mux.
func (m *Mux) View() (*PacketView, Handler) {
	v := &PacketView{mux: m, packets: make(chan packet, viewQueue), closed: make(chan struct{})}
	return v, v.handle
}

// Listen adds a session that is a net.PacketConn, such as foreign ICE agents
// want it: it takes the addresses that it is told to send to, unless another
// session has them. Closing it closes the session.
func (m *Mux) Listen(ufrag string) (*PacketView, error) {
	v, h := m.View()
	s := &Session{mux: m, ufrag: ufrag, handle: h, view: v}
	v.session = s
	if err := s.add(); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *PacketView) handle(ps []Packet) {
	for _, p := range ps {
		b := packetPool.Get().(*[]byte)
		*b = append((*b)[:0], p.Data...)
		select {
		case v.packets <- packet{b, p.From}:
		default:
			packetPool.Put(b)
			v.dropped.Add(1)
		}
	}
}

// Dropped is how many packets were not read in time.
func (v *PacketView) Dropped() uint64 { return v.dropped.Load() }

// ReadFrom reads a packet. What does not fit into b is lost.
func (v *PacketView) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := v.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromAddrPort is ReadFrom without the net.Addr.
func (v *PacketView) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	late := v.read.wait()
	select {
	case <-v.closed: // even if something is left
		return 0, netip.AddrPort{}, v.wrap("read", net.ErrClosed)
	case <-late:
		return 0, netip.AddrPort{}, v.wrap("read", os.ErrDeadlineExceeded)
	default:
	}
	select {
	case p := <-v.packets:
		n := copy(b, *p.data)
		packetPool.Put(p.data)
		return n, p.from, nil
	case <-v.closed:
		return 0, netip.AddrPort{}, v.wrap("read", net.ErrClosed)
	case <-late:
		return 0, netip.AddrPort{}, v.wrap("read", os.ErrDeadlineExceeded)
	}
}

// WriteTo sends a packet.
func (v *PacketView) WriteTo(b []byte, to net.Addr) (int, error) {
	return v.WriteToAddrPort(b, addrPortOf(to))
}

// WriteToAddrPort is WriteTo without the net.Addr.
func (v *PacketView) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-v.closed:
		return 0, v.wrap("write", net.ErrClosed)
	case <-v.write.wait():
		return 0, v.wrap("write", os.ErrDeadlineExceeded)
	default:
	}
	if v.session != nil {
		v.session.Take(to) // what another session has stays its own: answers to this one get lost
	}
	if err := v.mux.WriteTo(b, to); err != nil {
		return 0, v.wrap("write", err)
	}
	return len(b), nil
}

func (v *PacketView) wrap(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: v.LocalAddr(), Err: err}
}

// LocalAddr returns the address of the Mux.
func (v *PacketView) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(v.mux.LocalAddr()) }

// SetDeadline sets both deadlines.
func (v *PacketView) SetDeadline(t time.Time) error {
	v.read.set(t)
	v.write.set(t)
	return nil
}

// SetReadDeadline ends reads that wait, at t.
func (v *PacketView) SetReadDeadline(t time.Time) error {
	v.read.set(t)
	return nil
}

// SetWriteDeadline makes writes fail from t on. They never wait.
func (v *PacketView) SetWriteDeadline(t time.Time) error {
	v.write.set(t)
	return nil
}

// Close ends the view, and its session if it has one.
func (v *PacketView) Close() error {
	if v.session != nil {
		return v.session.Close()
	}
	v.shut()
	return nil
}

func (v *PacketView) shut() {
	v.once.Do(func() {
		close(v.closed)
		v.read.set(time.Time{}) // stops the timers
		v.write.set(time.Time{})
	})
}

// A deadline is a point in time that can be waited for and moved. The zero
// value is never reached.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	ch    chan struct{} // closed when it is reached; nil: nobody waits yet
	done  bool          // ch is closed
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}

func (d *deadline) channel() chan struct{} {
	if d.ch == nil {
		d.ch = make(chan struct{})
	}
	return d.ch
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.done {
		d.ch, d.done = nil, false
	}
	if t.IsZero() {
		return
	}
	ch := d.channel()
	left := time.Until(t)
	if left <= 0 {
		close(ch)
		d.done = true
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // else it was moved meanwhile
			close(ch)
			d.done = true
		}
	})
	d.timer = timer
}
