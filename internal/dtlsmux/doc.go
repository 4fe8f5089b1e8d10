// Package dtlsmux is the server side of DTLS 1.2 for one UDP socket that
// somebody else reads and writes.
//
// The handshake is pion/dtls's. Two things around it are ours:
//
// The gate. A ClientHello without a valid cookie is answered by a
// HelloVerifyRequest that is computed from it and a secret, and leaves nothing
// behind (RFC 6347 Section 4.2.1): ten thousand forged ones cost no memory and
// are sent back less than they brought. Only the ClientHello that returns
// the cookie from the same address makes a handshake, of which there are so many
// at a time, in all and of one source.
//
// The records. As soon as a handshake is done its keys are taken over and
// pion's connection, with its goroutines and buffers, is let go. A record is
// then opened in the goroutine that read the datagram, in place, and sealed
// into whatever buffer the caller sends from, so that DTLS costs its AES-GCM
// and a connection a few kilobytes.
//
// Cipher suites: ECDHE with AES-128-GCM first, AES-256-GCM; X25519, P-256, P-384.
// No resumption, no renegotiation, no connection ids. A ClientHello has to come
// in one record, as servers with a stateless gate demand.
package dtlsmux
