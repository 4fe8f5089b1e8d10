package natsregistry_test

import (
	"context"
	"fmt"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/natsregistry"
)

// Two servers with one NATS node between them, inside this process.
func Example() {
	node := &natsregistry.Embedded{}
	if err := node.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	conn, err := node.Connect()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	ctx := context.Background()
	registry := &natsregistry.Registry{Conn: conn}
	for _, id := range []string{"a", "b"} { // relay.Relay does that
		if err := registry.Announce(ctx, relay.Server{ID: id, URL: "runnel://" + id + ".example"}); err != nil {
			fmt.Println(err)
		}
		fmt.Println(id, registry.Claim(ctx, id, "live/cam"))
	}
	for c := range registry.Watch(ctx) {
		if c.Stream != "" {
			fmt.Println(c.Owner, "has", c.Stream)
			break
		}
	}
	// Output:
	// a <nil>
	// b relay: another server has the stream: stream: stream already has a publisher
	// a has live/cam
}
