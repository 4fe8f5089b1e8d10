// Package stunwire reads and writes STUN messages and TURN's ChannelData
// without allocating: what a server does for every packet.
//
// A [Message] is a view of the bytes that it was parsed from; a [Builder]
// appends to a slice that the caller owns; a [Key] keeps the HMAC states of
// one secret ready. Nothing here blocks, keeps what it was given beyond what
// is said, or knows about sockets.
//
// What stands behind MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 is not
// protected by it and is never seen (RFC 8489 Sections 14.5 and 14.6).
package stunwire

import "errors"

// Errors of parsing and building.
var (
	ErrNotSTUN    = errors.New("stunwire: not a STUN message")
	ErrAttribute  = errors.New("stunwire: malformed attribute")
	ErrAttributes = errors.New("stunwire: too many attributes")
	ErrTooLong    = errors.New("stunwire: message too long")
	ErrFrame      = errors.New("stunwire: neither STUN nor ChannelData")
)

// HeaderSize is how many bytes stand before the first attribute.
const HeaderSize = 20

// Cookie is the magic cookie of RFC 8489 Section 5.
const Cookie = 0x2112A442

const (
	cookieHigh    = Cookie >> 16
	attrHeader    = 4
	maxBody       = 0xFFFC // the largest multiple of 4 that the header can say
	maxAttributes = 256    // in one message; no known one has more than about 20
)

// padded rounds n up to the 4-byte boundary that attributes and the frames of
// a stream end on.
func padded(n int) int { return (n + 3) &^ 3 }
