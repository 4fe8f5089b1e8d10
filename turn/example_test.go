package turn_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/turn"
)

// A server for one user, on this machine alone.
func ExampleServer() {
	local := netip.MustParseAddr("127.0.0.1")
	s := &turn.Server{
		Realm: "example.org",
		Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.User != "ada" || !r.Proof(auth.Secret{Plain: "lovelace"}) {
				return nil, auth.ErrDenied
			}
			return &auth.Grant{User: r.User}, nil
		}),
		Relays: &turn.RelayPorts{Addrs: []turn.RelayAddr{{Listen: local}}},
	}
	s.SetPolicy(&turn.Policy{UserQuota: 10, Peers: turn.PeerPolicy{AllowLoopback: true}})

	// One socket for each core; TCP clients come by a listener of their own.
	sockets, err := turn.ListenPackets(context.Background(), "udp", "127.0.0.1:0", 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, pc := range sockets {
		go func() { _ = s.ServePacket(pc) }() // turn.ErrServerClosed in the end
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = s.Serve(ln) }()

	c := &turn.Client{Server: sockets[0].LocalAddr().String(), Username: "ada", Password: "lovelace"}
	relayed, err := c.Allocate(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for a := range s.Allocations() {
		fmt.Println(a.Info().User, "relays through", a.Info().Relayed[0].Addr())
	}
	_ = relayed.Close()
	fmt.Println(s.Shutdown(context.Background()))
	// Output:
	// ada relays through 127.0.0.1
	// <nil>
}
