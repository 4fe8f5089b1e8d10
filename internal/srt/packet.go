package srt

import (
	"encoding/binary"
	"errors"
)

var be = binary.BigEndian

const (
	headerSize = 16
	// maxPacket is the largest SRT packet that is read or written: an Ethernet
	// frame less the headers of IPv4 and UDP.
	maxPacket = 1500 - 28
	// maxPayload is the largest payload of a data packet.
	maxPayload = maxPacket - headerSize
	// livePayload is what live mode sends at once: seven MPEG-TS packets.
	livePayload = 7 * 188
)

// errPacket is returned for bytes that are no SRT packet, or not the one that
// its header says.
var errPacket = errors.New("srt: malformed packet")

// Types of control packets (draft, table 1).
const (
	typeHandshake uint16 = 0x0000
	typeKeepalive uint16 = 0x0001
	typeACK       uint16 = 0x0002
	typeNAK       uint16 = 0x0003
	typeCongested uint16 = 0x0004
	typeShutdown  uint16 = 0x0005
	typeACKACK    uint16 = 0x0006
	typeDropReq   uint16 = 0x0007
	typePeerError uint16 = 0x0008
	typeUser      uint16 = 0x7fff // its subtype is that of a handshake extension
)

// A header is that of any packet.
type header struct {
	control bool
	typ     uint16 // control
	sub     uint16 // control: of typeUser
	info    uint32 // control: what it means depends on the type

	seq   seq    // data
	msg   uint32 // data: message number, 26 bits
	flags uint8  // data: position, order, key and retransmission, as on the wire

	time uint32 // µs since the sender's start
	dest uint32 // socket id; 0: a handshake's begin
}

// Flags of a data packet.
const (
	flagSolo       = 0xc0 // the packet is a whole message
	flagOrder      = 0x20 // messages are to be delivered in order
	flagKeys       = 0x18
	flagRetransmit = 0x04

	maxMessage = 1<<26 - 1
)

// A keySlot says which of two keys a packet is encrypted with.
type keySlot uint8

const (
	keyNone keySlot = 0
	keyEven keySlot = 1
	keyOdd  keySlot = 2
	keyBoth keySlot = 3 // of a key material message
)

func (h *header) key() keySlot { return keySlot(h.flags & flagKeys >> 3) }

// parseHeader reads the header of a packet and returns what follows.
func parseHeader(b []byte) (h header, body []byte, err error) {
	if len(b) < headerSize {
		return h, nil, errPacket
	}
	first, second := be.Uint32(b), be.Uint32(b[4:])
	h.time, h.dest = be.Uint32(b[8:]), be.Uint32(b[12:])
	if first>>31 != 0 {
		h.control = true
		h.typ, h.sub, h.info = uint16(first>>16)&0x7fff, uint16(first), second
	} else {
		h.seq = seq(first)
		h.flags, h.msg = uint8(second>>24)&^3, second&maxMessage
	}
	return h, b[headerSize:], nil
}

// put writes the header to b, which has room for it.
func (h *header) put(b []byte) {
	if h.control {
		be.PutUint32(b, 1<<31|uint32(h.typ)<<16|uint32(h.sub))
		be.PutUint32(b[4:], h.info)
	} else {
		be.PutUint32(b, uint32(h.seq))
		be.PutUint32(b[4:], uint32(h.flags)<<24|h.msg)
	}
	be.PutUint32(b[8:], h.time)
	be.PutUint32(b[12:], h.dest)
}

// destination returns the socket id that a datagram is for, false if it is too
// short for one.
func destination(b []byte) (uint32, bool) {
	if len(b) < headerSize {
		return 0, false
	}
	return be.Uint32(b[12:]), true
}
