// Package stun is Session Traversal Utilities for NAT (RFC 8489, and RFC 5389
// for older peers): what is my address, what does the NAT before me do, and
// several protocols on one UDP socket.
//
//   - [Server] answers Binding requests, and those of NAT behaviour discovery
//     (RFC 5780) where it has two addresses.
//   - [Client] asks; [Discover] finds out in one call how a NAT maps and
//     filters.
//   - [Mux] deals out one UDP socket to STUN, TURN, DTLS, media and the
//     sessions of ICE (RFC 7983).
//   - [Verifier] and [Credentials] are the two ends of the credential
//     mechanisms of RFC 8489: SHA-256, hashed user names and the protection
//     against bidding them down. Servers of RFC 5389 and clients of it work
//     with both.
//   - [Responder] is the answer to one Binding request without a socket, for
//     servers that read their sockets by themselves, such as package turn.
//
// # Messages
//
// A [Message] is one of github.com/pion/stun/v2, whose attributes can be added
// and read. Decode it with [Decode], never with its own methods: pion keeps
// attributes behind MESSAGE-INTEGRITY, which anybody on the path can have
// added. pion's client and its Dial functions must not be used; they link a
// DTLS with a known flaw.
//
// # Security
//
// The answers of a Server go where requests say that they come from, so they
// are kept small; see [Responder]. Nothing is kept for a client that has not
// proved who it is. What peers send is bounded before it is kept. Secrets are
// compared in constant time and never logged.
package stun
