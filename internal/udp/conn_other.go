//go:build !linux

package udp

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

type (
	sysConn    struct{}
	batchState struct{}
)

// Listen opens a socket. The network is "udp", "udp4" or "udp6"; "udp"
// with the address [::] takes IPv4 too.
func Listen(network string, addr netip.AddrPort, o Options) (*Conn, error) {
	if o.ReusePort {
		return nil, errors.New("udp: no SO_REUSEPORT on this system")
	}
	if ip := addr.Addr().Unmap(); network == "udp" && ip.Is6() && !ip.IsUnspecified() {
		network = "udp6"
	}
	pc, err := new(net.ListenConfig).ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	return WrapOptions(pc, o), nil
}

// Wrap makes a Conn of a net.PacketConn and takes it over: close the Conn.
func Wrap(pc net.PacketConn) *Conn { return WrapOptions(pc, Options{}) }

// WrapOptions is Wrap with what the socket is to be able to. ReusePort is of
// no effect: the socket is bound.
func WrapOptions(pc net.PacketConn, o Options) *Conn {
	if u, ok := pc.(*net.UDPConn); ok {
		if o.ReadBuffer > 0 {
			_ = u.SetReadBuffer(o.ReadBuffer) // the system's default will do
		}
		if o.WriteBuffer > 0 {
			_ = u.SetWriteBuffer(o.WriteBuffer)
		}
	}
	return &Conn{pc: pc, local: addrPort(pc.LocalAddr())}
}

// SetDontFragment asks for datagrams to be refused instead of fragmented.
func (c *Conn) SetDontFragment(on bool) error { return errors.ErrUnsupported }

// ReadBuffer returns how much the system keeps for the socket until it is read;
// 0 if it does not tell.
func (c *Conn) ReadBuffer() int { return 0 }

// SetMark changes the socket's default for what is sent from now on without a
// Mark of its own.
func (c *Conn) SetMark(Mark) error { return errors.ErrUnsupported }

func (c *Conn) writeSys([]byte, netip.AddrPort) error { return net.ErrClosed }
func (c *Conn) flushSys(*Batch) (int, error)          { return 0, net.ErrClosed }
func (c *Conn) readSys([]Packet) (int, error)         { return 0, net.ErrClosed }
func (c *Conn) closeSys() error                       { return net.ErrClosed }
