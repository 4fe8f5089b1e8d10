package turn

import (
	"net"
	"net/netip"

	"github.com/runnel-media/runnel/internal/udp"
)

func wrapForTest(pc net.PacketConn) *udp.Conn { return udp.Wrap(pc) }

func packetOf(b []byte, from netip.AddrPort) *udp.Packet { return &udp.Packet{Data: b, Addr: from} }
