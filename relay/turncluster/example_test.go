package turncluster_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/turncluster"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/turn"
)

func Example() {
	server := &turn.Server{Realm: "example.org", Auth: &turnauth.Users{}, NonceSecret: []byte("16 bytes, at all of them")}
	members := &relay.Relay{
		Hub:      &stream.Hub{},
		Registry: &relay.MemoryRegistry{}, // or one that several machines share
		TURN:     []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478")},
		Load:     turncluster.Load(server, 20_000),
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // for this example it is over at once
	_ = members.Run(ctx)
	err := (&turncluster.Spread{Server: server, Relay: members}).Run(ctx)
	fmt.Println(err, len(server.CurrentPolicy().Alternates))
	// Output: <nil> 0
}
