package turn_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/turn"
)

// A client sends from an address of the server's to a peer, and gets its
// answer.
func ExampleClient() {
	users := &turnauth.Users{}
	if err := users.Put(turnauth.User{Name: "alice", Password: "secret"}); err != nil {
		log.Fatal(err)
	}
	srv := &turn.Server{Realm: "example.org", Auth: users}
	srv.SetPolicy(&turn.Policy{Peers: turn.PeerPolicy{AllowLoopback: true}}) // for this example
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = srv.ServePacket(pc) }() // until Close
	defer srv.Close()
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer peer.Close()

	c := &turn.Client{Server: pc.LocalAddr().String(), Username: "alice", Password: "secret"}
	relay, err := c.Allocate(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer relay.Close()
	if _, err := relay.WriteTo([]byte("hello"), peer.LocalAddr()); err != nil {
		log.Fatal(err)
	}

	b := make([]byte, 1500)
	n, from, err := peer.ReadFrom(b)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(b[:n]), from.String() == relay.LocalAddr().String())
	if _, err := peer.WriteTo([]byte("hello yourself"), from); err != nil {
		log.Fatal(err)
	}
	n, _, err = relay.ReadFrom(b)
	fmt.Println(string(b[:n]), err)
	// Output:
	// hello true
	// hello yourself <nil>
}
