// Package srt is an engine for SRT (draft-sharabayko-srt) in live mode: what
// libsrt 1.4 and 1.5 speak, over one UDP socket for all connections.
//
// An [Endpoint] owns the socket. It sorts datagrams by socket id, answers
// handshakes, and has one timer for everybody: a connection costs neither a
// goroutine nor a ticker. A [Conn] is one connection. Who receives gives it a
// sink, which is called as payloads come due; who sends calls Push, which keeps
// the bytes, without a copy, until the peer has them.
//
// # What is inside
//
//	packet.go, control.go, handshake.go, km.go   the wire: bytes to values and back
//	core.go, send.go, pace.go, receive.go,       one connection, without socket or clock
//	ack.go, timing.go, rotation.go
//	crypto.go, fec*.go                           encryption, packet filter
//	endpoint.go, wheel.go, listen.go, dial.go,   socket, timers, handshakes
//	conn.go
//	streamid.go, reject.go                       access control
//
// The core is driven by (time, packet in) and gives (packets out), so that an
// hour of drift and any pattern of loss are tested in simulated time.
//
// # What is not
//
// Handshake version 4 has no stream id, so nobody could say what to play: a
// conclusion of version 4 is refused as SRT_REJ_VERSION. AES-GCM, rendezvous,
// socket groups, and file and buffer mode are not spoken; a peer that asks for
// them is refused in SRT's own words.
package srt
