// Package turn is Traversal Using Relays around NAT: a server and a client.
//
// [Server] relays UDP (RFC 8656, and RFC 5766 clients) and TCP (RFC 6062) for
// clients that come by UDP, TCP, TLS or DTLS, over IPv4 and IPv6. An
// auth.Authorizer says who may; a [Policy], which can be replaced at any time,
// says what. Peers that are not on the public Internet are refused unless the
// policy allows them.
//
// [Client] makes allocations: a net.PacketConn to talk to peers by UDP, or a
// net.Listener to talk to them by TCP.
//
// # How the server works
//
// Each UDP socket has a loop that also reads the relay sockets of its clients,
// so that a packet is received, looked up and sent on by one goroutine, without
// a copy, and runs of packets of one size go out as one. The loops share
// nothing that a packet touches. Clients that come by TCP or TLS have a
// goroutine each that reads, and share a few loops that read their relay
// sockets.
//
// Requests are answered where they are read if the session's key decides about
// them. What needs the Authorizer, a database or a new socket is done in a
// goroutine of its own, of which there is a bounded number. Who has not
// authenticated leaves nothing behind: nonces prove themselves.
package turn
