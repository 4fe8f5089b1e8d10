package rtp

import "github.com/runnel-media/runnel/internal/av1"

// AV1 packs and unpacks AV1 (RTP Payload Format For AV1, version 1.0.0).
type AV1 struct {
	out      []byte
	fragment []byte // of an OBU, without a size field
	open     bool   // fragment goes on in the next payload
	obus     int
	key      bool
}

// Bits of the aggregation header.
const (
	av1Z = 0x80 // the first element goes on from the payload before
	av1Y = 0x40 // the last goes on in the next
	av1N = 0x08 // a coded video sequence begins
)

const (
	av1HasSize = 2
	maxOBUs    = 256
	typeTiles  = 8 // tile list
	typePad    = 15
)

// Pack appends the payloads of a temporal unit.
func (a *AV1) Pack(dst [][]byte, frame []byte, key bool, limit int) [][]byte {
	var bodies [][]byte // alternating: header without size, payload
	total := 0
	for {
		o, rest, ok := av1.Next(frame)
		if !ok {
			break
		}
		frame = rest
		switch o.Type {
		case av1.TypeTemporalDelimiter, typeTiles, typePad:
			continue
		}
		head := []byte{o.Raw[0] &^ av1HasSize}
		if o.Raw[0]&4 != 0 {
			head = append(head, o.Raw[1])
		}
		bodies = append(bodies, head, o.Payload)
		total += len(head) + len(o.Payload)
	}
	if total == 0 {
		return dst
	}
	const overhead = 1 + 3 // aggregation header, and the length of an element
	room := parts(total+len(bodies)*3/2, limit-overhead) + overhead
	buf := make([]byte, 0, total+(total/(room-overhead)+2+len(bodies))*(overhead+3))
	begin := byte(0)
	if key {
		begin = av1N
	}
	from := len(buf)
	buf = append(buf, begin)
	for i := 0; i < len(bodies); i += 2 {
		head, body := bodies[i], bodies[i+1]
		for {
			left := len(head) + len(body)
			space := room - (len(buf) - from) - 2 // the length of an element has two bytes at most
			if space < 8 && space < left {
				dst = append(dst, buf[from:len(buf):len(buf)])
				from = len(buf)
				buf = append(buf, 0)
				continue
			}
			n := min(left, space, 1<<14-1)
			buf = av1.AppendLEB128(buf, uint64(n))
			buf = append(buf, head...)
			n -= len(head)
			buf = append(buf, body[:n]...)
			if head, body = nil, body[n:]; len(body) == 0 {
				break
			}
			buf[from] |= av1Y
			dst = append(dst, buf[from:len(buf):len(buf)])
			from = len(buf)
			buf = append(buf, av1Z)
		}
	}
	return append(dst, buf[from:len(buf):len(buf)])
}

// Push takes the next payload of a temporal unit.
func (a *AV1) Push(p []byte) bool {
	if len(p) < 2 || p[0]&av1Z != 0 != a.open {
		return false
	}
	head, count := p[0], int(p[0]>>4&3)
	if a.obus == 0 && !a.open {
		a.key = head&av1N != 0
	}
	p = p[1:]
	for i := 1; len(p) > 0; i++ {
		element := p
		if last := count != 0 && i == count; last {
			p = nil
		} else {
			size, n := av1.LEB128(p)
			if n == 0 || size > uint64(len(p)-n) {
				return false
			}
			element, p = p[n:n+int(size)], p[n+int(size):]
		}
		if len(a.out)+len(a.fragment)+len(element) > maxFrame {
			return false
		}
		a.fragment = append(a.fragment, element...)
		if a.open = len(p) == 0 && head&av1Y != 0; !a.open && !a.finish() {
			return false
		}
	}
	return true
}

// finish moves a whole OBU to the unit.
func (a *AV1) finish() bool {
	b := a.fragment
	a.fragment = a.fragment[:0]
	if len(b) == 0 {
		return true
	}
	o, rest, ok := av1.Next(b)
	if !ok || len(rest) > 0 || a.obus >= maxOBUs {
		return false
	}
	switch o.Type {
	case av1.TypeTemporalDelimiter, typeTiles, typePad:
		return true
	}
	a.obus++
	if o.Sized {
		a.out = append(a.out, o.Raw...)
		return true
	}
	a.out = append(a.out, b[0]|av1HasSize)
	a.out = append(a.out, b[1:len(b)-len(o.Payload)]...)
	a.out = append(av1.AppendLEB128(a.out, uint64(len(o.Payload))), o.Payload...)
	return true
}

// Begins reports whether the payload does not go on with an OBU.
func (a *AV1) Begins(p []byte) bool { return len(p) > 1 && p[0]&av1Z == 0 }

// Pull returns the temporal unit.
func (a *AV1) Pull() (frame []byte, key, ok bool) {
	frame, key, ok = a.out, a.key, !a.open && a.obus > 0
	*a = AV1{out: make([]byte, 0, min(len(frame), 64<<10)), fragment: a.fragment[:0]}
	return frame, key, ok
}
