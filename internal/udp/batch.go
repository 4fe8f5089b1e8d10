package udp

import "net/netip"

// A Batch collects datagrams that one Conn is to send. Datagrams that follow
// each other to one address with one size, of which the last may be smaller,
// go to the system as one. The zero value is ready; it keeps its memory for
// the next time.
type Batch struct {
	queue   []datagram
	scratch []byte
	batchState
}

// A datagram is head and data, one after the other.
type datagram struct {
	to         netip.AddrPort
	head, data []byte
	mark       Mark
}

// Add appends the datagram that consists of head, which may be empty, and
// data. Both are kept, not copied: they must not change until Flush.
func (b *Batch) Add(to netip.AddrPort, mark Mark, head, data []byte) {
	if n := len(head); n > 0 && len(data) > 0 && cap(head) >= n+len(data) && &head[:n+1][n] == &data[0] {
		// Packet.Front: one piece costs the system less than two.
		head, data = nil, head[:n+len(data)]
	}
	b.queue = append(b.queue, datagram{to, head, data, mark})
}

// Len returns how many datagrams have been added since the last Flush.
func (b *Batch) Len() int { return len(b.queue) }

// Scratch returns n bytes to build a head in. They are good until Flush.
func (b *Batch) Scratch(n int) []byte {
	if cap(b.scratch)-len(b.scratch) < n {
		// What has been given out stays alive by the datagrams that use it.
		b.scratch = make([]byte, 0, max(2*cap(b.scratch), n, 1024))
	}
	k := len(b.scratch)
	b.scratch = b.scratch[:k+n]
	return b.scratch[k : k+n : k+n]
}

// Flush sends what has been added over c, in its order, and forgets it. It
// does not wait where the system has no room: what cannot be sent at once is
// lost, as on a network. It returns how many datagrams were not sent, and the
// first reason.
func (b *Batch) Flush(c *Conn) (dropped int, err error) {
	if len(b.queue) > 0 {
		dropped, err = c.flush(b)
		clear(b.queue)
		b.queue = b.queue[:0]
	}
	b.scratch = b.scratch[:0]
	return dropped, err
}
