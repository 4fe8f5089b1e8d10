package stun_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/runnel-media/runnel/stun"
)

// A server on one UDP socket, and a client that asks it for its address.
func Example() {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	var server stun.Server
	go server.ServePacket(pc)
	defer server.Close()

	conn, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	var client stun.Client
	mapped, err := client.Binding(context.Background(), conn)
	fmt.Println(mapped.String() == conn.LocalAddr().String(), err)
	// Output: true <nil>
}

// A server that asks for a name and a password. What the password is never
// goes over the wire.
func ExampleVerifier() {
	passwords := map[string]string{"alice": "wonderland"}
	server := stun.Server{Responder: stun.Responder{Verifier: &stun.Verifier{
		Realm:       "example.org",
		NonceSecret: []byte("of crypto/rand, as a rule"),
		Key: func(c stun.Claim) ([]byte, bool) {
			password, ok := passwords[c.User]
			if !ok {
				return nil, false
			}
			key, err := stun.LongTermKey(c.User, c.Realm, password, c.Algorithm)
			return key, err == nil
		},
	}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(l)
	defer server.Close()

	for _, password := range []string{"wonderland", "looking-glass"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			panic(err)
		}
		client := stun.Client{Credentials: &stun.Credentials{Username: "alice", Password: password}}
		_, err = client.Binding(context.Background(), conn)
		fmt.Println(err)
		conn.Close()
	}
	// Output:
	// <nil>
	// stun: error 401
}

// One UDP socket for a STUN server and the media of a session. The session's
// handler checks who it is before it takes the address.
func ExampleMux() {
	var mux stun.Mux
	var responder stun.Responder
	mux.STUN = func(ps []stun.Packet) {
		for _, p := range ps {
			if answer := responder.Append(nil, p.Data, p.From); len(answer) > 0 {
				mux.WriteTo(answer, p.From)
			}
		}
	}
	checks := stun.Responder{Verifier: &stun.Verifier{Key: func(c stun.Claim) ([]byte, bool) {
		return []byte("ice-password"), c.User == "fragment:peer"
	}}}
	media := make(chan string, 1)
	var session *stun.Session
	session, err := mux.Session("fragment", func(ps []stun.Packet) {
		for _, p := range ps {
			if p.Data[0] >= 128 {
				media <- string(p.Data[1:])
				continue
			}
			answer, what := checks.Answer(nil, p.Data, p.From, stun.Primary)
			mux.WriteTo(answer, what.To)
			if what.Code == 0 {
				session.Take(p.From)
			}
		}
	})
	if err != nil {
		panic(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	address := pc.LocalAddr().String()
	go mux.Serve(pc)
	defer mux.Close()

	conn, err := net.Dial("udp", address)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	var client stun.Client
	_, err = client.Binding(context.Background(), conn) // no fragment: the server's
	fmt.Println(err)

	peer := stun.Client{Credentials: &stun.Credentials{Username: "fragment:peer", Password: "ice-password", ShortTerm: true}}
	_, err = peer.Binding(context.Background(), conn)
	fmt.Println(err)
	conn.Write([]byte("\x80hello"))
	fmt.Println(<-media)
	// Output:
	// <nil>
	// <nil>
	// hello
}

// What kind of NAT is between here and a server, which needs two addresses.
// Here it is on the same host, so there is none.
func ExampleDiscover() {
	sockets, err := stun.ListenNAT(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.2:0"))
	if err != nil {
		fmt.Println(err)
		return
	}
	at := sockets[stun.Primary].LocalAddr().(*net.UDPAddr).AddrPort()
	var server stun.Server
	go server.ServeNAT(sockets)
	defer server.Close()

	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer pc.Close()
	nat, err := stun.Discover(context.Background(), pc, at, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("mapping:", nat.Mapping)
	fmt.Println("filtering:", nat.Filtering)
	fmt.Println("translated:", nat.Translated)
}
