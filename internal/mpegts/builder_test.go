package mpegts_test

import (
	"encoding/binary"

	"github.com/runnel-media/runnel/internal/mpegts"
)

// A builder makes transport streams that the Muxer would not.
type builder struct {
	ts       []byte
	counters map[uint16]byte
	length   bool // state the length of PES packets
}

// packetize cuts a payload into packets; flags go into the adaptation field of
// the first.
func (b *builder) packetize(pid uint16, payload []byte, flags byte) {
	if b.counters == nil {
		b.counters = map[uint16]byte{}
	}
	for start := byte(0x40); ; start = 0 {
		p := []byte{0x47, start | byte(pid>>8), byte(pid), 0x10 | b.counters[pid]}
		b.counters[pid] = (b.counters[pid] + 1) & 15
		field := 0
		if flags != 0 {
			field = 2
		}
		if n := mpegts.PacketSize - 4 - len(payload); n > field {
			field = n
		}
		if field > 0 {
			p[3] |= 0x20
			p = append(p, byte(field-1))
			if field > 1 {
				p = append(p, flags)
				for i := 2; i < field; i++ {
					p = append(p, 0xff)
				}
			}
		}
		n := mpegts.PacketSize - len(p)
		b.ts = append(append(b.ts, p...), payload[:n]...)
		if payload, flags = payload[n:], 0; len(payload) == 0 {
			return
		}
	}
}

// section adds a section with its header and CRC.
func (b *builder) section(pid uint16, table byte, id uint16, current bool, body []byte) {
	s := []byte{table, 0xb0, 0, byte(id >> 8), byte(id), 0xc0, 0, 0}
	if current {
		s[5] |= 1
	}
	s = append(s, body...)
	binary.BigEndian.PutUint16(s[1:], uint16(0xb000+len(s)+4-3))
	s = binary.BigEndian.AppendUint32(s, checksum(s))
	b.packetize(pid, append([]byte{0}, s...), 0)
}

// pat names programmes: number, PID, number, PID, …
func (b *builder) pat(programmes ...uint16) {
	var body []byte
	for _, v := range programmes {
		body = binary.BigEndian.AppendUint16(body, v)
	}
	b.section(0, 0, 1, true, body)
}

// An es is a stream in a PMT.
type es struct {
	typ  byte
	pid  uint16
	info string
}

func (b *builder) pmt(pid, number uint16, streams ...es) {
	clock := uint16(0x1fff)
	if len(streams) > 0 {
		clock = streams[0].pid
	}
	b.section(pid, 2, number, true, pmtBody(clock, streams...))
}

func pmtBody(clock uint16, streams ...es) []byte {
	body := []byte{byte(clock >> 8), byte(clock), 0, 0}
	for _, s := range streams {
		body = append(body, s.typ, byte(s.pid>>8), byte(s.pid), byte(len(s.info)>>8), byte(len(s.info)))
		body = append(body, s.info...)
	}
	return body
}

// tables adds those of one programme.
func (b *builder) tables(streams ...es) {
	b.pat(1, 0x1000)
	b.pmt(0x1000, 1, streams...)
}

// pes adds a PES packet; a dts below 0 means none, and one above 0 that it is
// not the pts.
func (b *builder) pes(pid uint16, pts, dts int64, data string) {
	b.flagged(pid, 0, pts, dts, data)
}

// flagged is pes with flags in the adaptation field.
func (b *builder) flagged(pid uint16, flags byte, pts, dts int64, data string) {
	h := []byte{0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0}
	stamp := func(prefix byte, t int64) {
		h = append(h, prefix|byte(t>>29)&0xe|1, byte(t>>22), byte(t>>14)|1, byte(t>>7), byte(t<<1)|1)
	}
	switch {
	case pts < 0:
	case dts < 0:
		h[7], h[8] = 0x80, 5
		stamp(0x20, pts)
	default:
		h[7], h[8] = 0xc0, 10
		stamp(0x30, pts)
		stamp(0x10, dts)
	}
	h = append(h, data...)
	if b.length {
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)-6))
	}
	b.packetize(pid, h, flags)
}
