package webrtc

import (
	"encoding/binary"
	"time"
)

// An estimate says how much a path carries, from what its far end reports of
// when packets came (draft-holmer-rmcat-transport-wide-cc-extensions-01): a
// queue that builds up, or loss, says that it is less than was sent; else it is
// more.
type estimate struct {
	next uint16 // number of the next packet
	sent [512]sentPacket

	begun   bool
	base    int64 // least delay seen of late, µs; of two clocks, so only differences count
	queue   int64 // delay beyond that, smoothed, µs
	last    int64 // when the newest packet came, by the far clock, µs
	from    int64 // of the interval that is counted
	bytes   int64 // that came in it
	came    int
	lost    int
	bitrate float64
}

// A sentPacket is one that the far end has not told of yet.
type sentPacket struct {
	at     int64 // µs; 0: none
	size   uint16
	number uint16
}

const (
	// queueLimit is how much delay beyond the least means that a queue builds
	// up: more than jitter makes on most paths.
	queueLimit = 50_000
	// rateEvery is over how long what comes is counted, µs.
	rateEvery = 500_000
	// baseLeak is by how much a second the least delay is forgotten, µs: the
	// clocks differ, and paths change.
	baseLeak = 1000
)

// number returns that of a packet of size bytes that is sent now.
func (e *estimate) number(size int, now time.Time) uint16 {
	n := e.next
	e.next++
	e.sent[n%uint16(len(e.sent))] = sentPacket{at: now.UnixMicro(), size: uint16(min(size, 1<<16-1)), number: n}
	return n
}

// take forgets a packet and returns it.
func (e *estimate) take(number uint16) (p sentPacket, ok bool) {
	slot := &e.sent[number%uint16(len(e.sent))]
	if slot.at == 0 || slot.number != number {
		return p, false
	}
	p = *slot
	slot.at = 0
	return p, true
}

// feedback takes what the far end says, an RTCP packet (Section 3.1 of the
// draft). Nothing is allocated, whatever it says.
func (e *estimate) feedback(b []byte) {
	if len(b) < 20 {
		return
	}
	number, count := binary.BigEndian.Uint16(b[12:]), int(binary.BigEndian.Uint16(b[14:]))
	at := int64(int32(binary.BigEndian.Uint32(b[16:])&^0xff)>>8) * 64_000
	if count > len(e.sent) {
		return // of more than is remembered
	}
	chunks := b[20:]
	// The deltas stand behind the chunks, which say how many of these there are.
	deltas := chunks
	for left := count; left > 0; {
		if len(deltas) < 2 {
			return
		}
		left -= symbols(binary.BigEndian.Uint16(deltas))
		deltas = deltas[2:]
	}
	for left := count; left > 0; chunks = chunks[2:] {
		chunk := binary.BigEndian.Uint16(chunks)
		for i := range min(symbols(chunk), left) {
			var size int
			switch symbol(chunk, i) {
			case 1:
				size = 1
			case 2:
				size = 2
			}
			if len(deltas) < size {
				return
			}
			switch size {
			case 1:
				at += int64(deltas[0]) * 250
			case 2:
				at += int64(int16(binary.BigEndian.Uint16(deltas))) * 250
			}
			deltas = deltas[size:]
			if p, ok := e.take(number); ok {
				e.packet(p, at, size > 0)
			}
			number++
		}
		left -= symbols(chunk)
	}
	if e.last-e.from >= rateEvery {
		e.update()
	}
}

// symbols returns how many packets a chunk is about.
func symbols(chunk uint16) int {
	switch {
	case chunk>>15 == 0:
		return max(int(chunk&0x1fff), 1) // a run; an empty one would never end
	case chunk>>14&1 == 0:
		return 14
	}
	return 7
}

// symbol returns what a chunk says of its packet i.
func symbol(chunk uint16, i int) uint16 {
	switch {
	case chunk>>15 == 0:
		return chunk >> 13 & 3
	case chunk>>14&1 == 0:
		return chunk >> (13 - i) & 1
	}
	return chunk >> (12 - 2*i) & 3
}

// packet counts one that came at a time of the far clock, or that did not.
func (e *estimate) packet(p sentPacket, at int64, came bool) {
	if !came {
		e.lost++
		return
	}
	delay := at - p.at
	if !e.begun {
		e.begun, e.base, e.from, e.last = true, delay, at, at
	}
	e.base += max(at-e.last, 0) * baseLeak / 1_000_000
	e.base = min(e.base, delay)
	e.queue += (delay - e.base - e.queue) / 8
	e.last = max(e.last, at)
	e.bytes += int64(p.size)
	e.came++
}

// update draws the conclusion of an interval.
func (e *estimate) update() {
	rate := float64(e.bytes) * 8e6 / float64(e.last-e.from)
	loss := float64(e.lost) / float64(max(e.lost+e.came, 1))
	switch {
	case e.bitrate == 0:
		e.bitrate = rate
	case e.queue > queueLimit:
		e.bitrate = 0.85 * rate
	case loss > 0.1:
		e.bitrate = min(e.bitrate, rate) * (1 - loss/2)
	default: // what has not been tried can't be known
		e.bitrate = max(e.bitrate, min(e.bitrate*1.08, 2*rate))
	}
	e.from, e.bytes, e.came, e.lost = e.last, 0, 0, 0
}
