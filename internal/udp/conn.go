package udp

import (
	"net"
	"net/netip"
	"sync"
)

// Options are what a socket of Listen is to be able to. What the system cannot
// do is left out without an error, but for ReusePort.
type Options struct {
	ReusePort bool // several sockets may have one address; the system shares the senders out by their address
	GRO       bool // take several datagrams of one sender at once
	Marks     bool // fill Packet.Mark
	ICMP      bool // hear the network's reports on what was sent

	ReadBuffer, WriteBuffer int // bytes in the kernel; 0: the system's default
}

// A Conn is a UDP socket or a net.PacketConn that stands for one.
type Conn struct {
	local netip.AddrPort
	pc    net.PacketConn // nil if the system's own calls are used
	sys   sysConn

	write    sync.Mutex // guards join
	join     []byte     // of head and data, for pc
	closePC  sync.Once
	closeErr error
}

// LocalAddr returns the address that the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// addrPort returns a UDP address, never IPv4-mapped; zero if it is none.
func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// WriteTo sends one datagram. It does not wait: a full send buffer is an error.
func (c *Conn) WriteTo(b []byte, to netip.AddrPort) error {
	if c.pc != nil {
		return c.writePC(b, nil, to)
	}
	return c.writeSys(b, to)
}

// WriteSegments sends b as datagrams of segment bytes, of which the last may
// be shorter.
func (c *Conn) WriteSegments(b []byte, segment int, to netip.AddrPort) error {
	var batch Batch
	for segment > 0 && len(b) > segment {
		batch.Add(to, Mark{}, nil, b[:segment])
		b = b[segment:]
	}
	batch.Add(to, Mark{}, nil, b)
	_, err := batch.Flush(c)
	return err
}

func (c *Conn) flush(b *Batch) (dropped int, err error) {
	if c.pc == nil {
		return c.flushSys(b)
	}
	for _, d := range b.queue {
		if e := c.writePC(d.head, d.data, d.to); e != nil {
			dropped++
			if err == nil {
				err = e
			}
		}
	}
	return dropped, err
}

// writePC sends the datagram that is head and data over a net.PacketConn.
func (c *Conn) writePC(head, data []byte, to netip.AddrPort) error {
	if u, ok := c.pc.(*net.UDPConn); ok && len(data) == 0 {
		_, err := u.WriteToUDPAddrPort(head, to)
		return err
	}
	c.write.Lock()
	defer c.write.Unlock()
	b := head
	switch {
	case len(head) == 0:
		b = data
	case len(data) > 0:
		c.join = append(append(c.join[:0], head...), data...)
		b = c.join
	}
	if u, ok := c.pc.(*net.UDPConn); ok {
		_, err := u.WriteToUDPAddrPort(b, to)
		return err
	}
	// The connection may keep the address: give it one of its own.
	_, err := c.pc.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}

// ReadBatch waits for packets and reads at most len(ps) into the Data of ps,
// each of which is to have room for what may come: 64 KB with Options.GRO, for
// a datagram else. It returns how many it has read and sets their Data to what
// was read. The error is net.ErrClosed after Close.
func (c *Conn) ReadBatch(ps []Packet) (int, error) {
	if len(ps) == 0 {
		return 0, nil
	}
	if c.pc == nil {
		return c.readSys(ps)
	}
	p := &ps[0]
	n, from, err := c.pc.ReadFrom(p.Data[:cap(p.Data)])
	if err != nil {
		return 0, err
	}
	*p = Packet{Data: p.Data[:n], Addr: addrPort(from)}
	return 1, nil
}

// Close closes the socket. A Loop forgets it, a ReadBatch returns.
func (c *Conn) Close() error {
	if c.pc == nil {
		return c.closeSys()
	}
	c.closePC.Do(func() { c.closeErr = c.pc.Close() })
	return c.closeErr
}
