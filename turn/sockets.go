package turn

import (
	"context"
	"net"
)

// ListenPackets opens n UDP sockets at one address, for n calls of ServePacket:
// the system gives each client to one of them. n is 1 where the system can't
// (anything but Linux); below 1 it is half the number of processors that Go uses.
func ListenPackets(ctx context.Context, network, address string, n int) ([]net.PacketConn, error) {
	n = socketCount(n)
	lc := net.ListenConfig{}
	if n > 1 {
		lc.Control = sharePort
	}
	var list []net.PacketConn
	for range n {
		pc, err := lc.ListenPacket(ctx, network, address)
		if err != nil {
			for _, pc := range list {
				_ = pc.Close()
			}
			return nil, err
		}
		list = append(list, pc)
		address = pc.LocalAddr().String() // port 0 is the same for all
	}
	return list, nil
}
