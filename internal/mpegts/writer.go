package mpegts

import "encoding/binary"

// Flags of an adaptation field (2.4.3.5).
const (
	flagDiscontinuity = 0x80
	flagRandomAccess  = 0x40
	flagPCR           = 0x10
)

// unitStart is payload_unit_start_indicator in a packet's header.
const unitStart = 1 << 22

// A writer cuts a PES packet into transport packets.
type writer struct {
	out     []byte // what is still to be filled: whole packets but for the first
	head    uint32 // of every packet: sync byte, PID, payload
	counter byte   // of the next packet
	left    int    // bytes of the PES packet that are still to come
	room    int    // of them, those that the packet at hand takes
}

// first begins the first packet, whose adaptation field has field bytes: 0, 2
// for the flags, 8 with a PCR.
func (w *writer) first(field int, flags byte, pcr int64) {
	if w.left > 0 {
		w.head |= unitStart
	}
	out := w.out[headerSize:]
	w.begin(field)
	w.head &^= unitStart
	if field > 0 {
		out[1] = flags
	}
	if field == 8 {
		base, extension := pcr/300&clockMask, pcr%300
		binary.BigEndian.PutUint32(out[2:], uint32(base>>1))
		out[6] = byte(base<<7) | 0x7e | byte(extension>>8)
		out[7] = byte(extension)
	}
}

// begin begins a packet with room for an adaptation field of field bytes, and
// stuffing behind it if what is left does not fill the packet.
func (w *writer) begin(field int) {
	w.room = min(w.left, bodySize-field)
	head := w.head | uint32(w.counter)
	w.counter = (w.counter + 1) & 15
	n := bodySize - w.room // of the field with its stuffing
	if n > 0 {
		head |= 0x20
	}
	binary.BigEndian.PutUint32(w.out, head)
	w.out = w.out[headerSize:]
	if n > 0 {
		w.out[0] = byte(n - 1)
	}
	if n > 1 {
		w.out[1] = 0
	}
	for i := max(field, 2); i < n; i++ {
		w.out[i] = 0xff
	}
	w.out = w.out[n:]
}

// write writes bytes of the PES packet.
func (w *writer) write(p []byte) {
	for len(p) > 0 {
		if w.room == 0 {
			if len(p) >= bodySize {
				p = w.bulk(p)
				continue
			}
			w.begin(0)
		}
		n := copy(w.out[:w.room], p)
		w.out, p = w.out[n:], p[n:]
		w.room -= n
		w.left -= n
	}
}

// bulk writes the packets that p, of at least bodySize bytes, fills, and
// returns the rest.
func (w *writer) bulk(p []byte) []byte {
	out, head, counter := w.out, w.head, w.counter
	n := 0
	for len(p)-n >= bodySize && len(out) >= PacketSize {
		binary.BigEndian.PutUint32(out, head|uint32(counter))
		*(*[bodySize]byte)(out[headerSize:]) = *(*[bodySize]byte)(p[n:])
		out = out[PacketSize:]
		counter = (counter + 1) & 15
		n += bodySize
	}
	w.out, w.counter = out, counter
	w.left -= n
	return p[n:]
}
