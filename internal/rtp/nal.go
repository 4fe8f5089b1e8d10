package rtp

import (
	"encoding/binary"

	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
)

// H264 packs and unpacks H.264 (RFC 6184, packetization mode 1).
type H264 struct {
	// Sets are the parameter sets, which go before each key frame that has
	// none of its own.
	Sets [][]byte
	nals
}

// H265 packs and unpacks H.265 (RFC 7798), without decoding order numbers.
type H265 struct {
	Sets [][]byte // VPS, SPS, PPS, as those of H264
	nals
}

// Types of NAL units that only RTP knows.
const (
	stapA      = 24 // RFC 6184 Section 5.2
	fuA        = 28
	apH265     = 48 // RFC 7798 Section 4.4
	fuH265     = 49
	maxUnits   = 512 // in one frame
	lenSTAP    = 2
	lenFUH264  = 2 // indicator, header
	lenFUH265  = 3 // payload header, FU header
	fuStart    = 0x80
	fuEnd      = 0x40
	headerH265 = 2
)

// Pack appends the payloads of an access unit.
func (h *H264) Pack(dst [][]byte, frame []byte, key bool, limit int) [][]byte {
	units := h.split(frame, key, h.Sets, func(u []byte) (skip, set bool) {
		switch h264.Type(u) {
		case h264.TypeSPS, h264.TypePPS:
			return false, true
		case h264.TypeAUD, 12: // 12: filler
			return true, false
		}
		return false, false
	})
	return packUnits(dst, units, limit, 1, aggregateH264, fragmentH264)
}

// Pack appends the payloads of an access unit.
func (h *H265) Pack(dst [][]byte, frame []byte, key bool, limit int) [][]byte {
	units := h.split(frame, key, h.Sets, func(u []byte) (skip, set bool) {
		if len(u) < headerH265 {
			return true, false
		}
		switch h265.Type(u) {
		case h265.TypeVPS, h265.TypeSPS, h265.TypePPS:
			return false, true
		case 35, 38: // access unit delimiter, filler
			return true, false
		}
		return false, false
	})
	return packUnits(dst, units, limit, headerH265, aggregateH265, fragmentH265)
}

// nals is what both share: the frame that is put together.
type nals struct {
	out   []byte
	open  int // where the length of the unit in fragments stands; 0: none
	units int
	key   bool
	list  [][]byte // scratch of split
}

// split returns the units of a frame that are sent, with the sets before those
// of a key frame that has none.
func (n *nals) split(frame []byte, key bool, sets [][]byte, sort func([]byte) (skip, set bool)) [][]byte {
	n.list = n.list[:0]
	own := false
	for u := range nal.Units(frame) {
		skip, set := sort(u)
		own = own || set
		if !skip && len(n.list) < maxUnits {
			n.list = append(n.list, u)
		}
	}
	if key && !own && len(n.list) > 0 {
		n.list = append(n.list, sets...)
		copy(n.list[len(sets):], n.list)
		copy(n.list, sets)
	}
	return n.list
}

// packUnits packs units of which small ones share a payload and big ones take
// several.
func packUnits(dst [][]byte, units [][]byte, limit, header int,
	aggregate func(dst []byte, units [][]byte) []byte,
	fragment func(dst, unit, part []byte, flags byte) []byte,
) [][]byte {
	total := 0
	for _, u := range units {
		total += len(u) + lenSTAP + header + (len(u)/(limit-lenFUH265)+1)*lenFUH265
	}
	buf := make([]byte, 0, total)
	add := func(from int) { dst = append(dst, buf[from:len(buf):len(buf)]) }
	for len(units) > 0 {
		from := len(buf)
		k, size := 0, header
		for k < len(units) && size+lenSTAP+len(units[k]) <= limit {
			size += lenSTAP + len(units[k])
			k++
		}
		switch {
		case k > 1:
			buf = aggregate(buf, units[:k])
			add(from)
			units = units[k:]
			continue
		case len(units[0]) <= limit:
			buf = append(buf, units[0]...)
			add(from)
		default:
			u := units[0]
			body := u[header:]
			size := parts(len(body), limit-header-1)
			for flags := byte(fuStart); len(body) > 0; flags = 0 {
				n := min(size, len(body))
				if n == len(body) {
					flags |= fuEnd
				}
				buf = fragment(buf, u, body[:n], flags)
				add(from)
				body, from = body[n:], len(buf)
			}
		}
		units = units[1:]
	}
	return dst
}

func aggregateH264(dst []byte, units [][]byte) []byte {
	var importance byte
	for _, u := range units {
		importance = max(importance, u[0]&0x60)
	}
	return appendSized(append(dst, importance|stapA), units)
}

func fragmentH264(dst, unit, part []byte, flags byte) []byte {
	return append(append(dst, unit[0]&0xe0|fuA, flags|unit[0]&0x1f), part...)
}

func aggregateH265(dst []byte, units [][]byte) []byte {
	layer, temporal := byte(63), byte(7)
	for _, u := range units {
		layer, temporal = min(layer, u[0]&1<<5|u[1]>>3), min(temporal, u[1]&7)
	}
	return appendSized(append(dst, apH265<<1|layer>>5, layer<<3|temporal), units)
}

func fragmentH265(dst, unit, part []byte, flags byte) []byte {
	return append(append(dst, unit[0]&0x81|fuH265<<1, unit[1], flags|unit[0]>>1&0x3f), part...)
}

// appendSized appends units, each behind its size.
func appendSized(dst []byte, units [][]byte) []byte {
	for _, u := range units {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(u)))
		dst = append(dst, u...)
	}
	return dst
}

// Push takes the next payload of an access unit.
func (h *H264) Push(p []byte) bool {
	if len(p) == 0 {
		return false
	}
	switch t := h264.Type(p); {
	case t == stapA:
		return h.aggregate(p[1:], kindH264)
	case t == fuA && len(p) > lenFUH264:
		head := [1]byte{p[0]&0xe0 | p[1]&0x1f}
		return h.fragment(p[1], head[:], p[lenFUH264:], kindH264)
	}
	return h.unit(p, kindH264)
}

// kindH264 says what a unit is for a frame; ok is false if it is none of H.264.
func kindH264(u []byte) (key, ok bool) {
	t := h264.Type(u)
	return t == h264.TypeIDR, t > 0 && t < stapA
}

// Push takes the next payload of an access unit.
func (h *H265) Push(p []byte) bool {
	if len(p) <= headerH265 {
		return false
	}
	switch t := h265.Type(p); {
	case t == apH265:
		return h.aggregate(p[headerH265:], kindH265)
	case t == fuH265 && len(p) > lenFUH265:
		head := [headerH265]byte{p[0]&0x81 | p[2]&0x3f<<1, p[1]}
		return h.fragment(p[2], head[:], p[lenFUH265:], kindH265)
	}
	return h.unit(p, kindH265)
}

// kindH265 says what a unit is for a frame; ok is false if it is none of H.265.
func kindH265(u []byte) (key, ok bool) {
	if len(u) < headerH265 {
		return false, false
	}
	t := h265.Type(u)
	return t >= h265.TypeBLAWLP && t <= h265.TypeIRAP23, t < apH265
}

// Begins reports whether the payload is not the middle of a unit.
func (h *H264) Begins(p []byte) bool {
	return len(p) > 0 && (h264.Type(p) != fuA || len(p) > 1 && p[1]&fuStart != 0)
}

// Begins reports whether the payload is not the middle of a unit.
func (h *H265) Begins(p []byte) bool {
	return len(p) > headerH265 && (h265.Type(p) != fuH265 || p[2]&fuStart != 0)
}

// unit takes a whole unit.
func (n *nals) unit(u []byte, kind func([]byte) (key, ok bool)) bool {
	key, ok := kind(u)
	if !ok || n.open > 0 || n.units >= maxUnits || len(n.out)+len(u) > maxFrame {
		return false
	}
	n.units++
	n.key = n.key || key
	n.out = nal.Append(n.out, u)
	return true
}

// aggregate takes units behind their sizes.
func (n *nals) aggregate(p []byte, kind func([]byte) (key, ok bool)) bool {
	for len(p) > 0 {
		if len(p) < lenSTAP {
			return false
		}
		size := int(binary.BigEndian.Uint16(p))
		if size == 0 || size > len(p)-lenSTAP {
			return false
		}
		if !n.unit(p[lenSTAP:lenSTAP+size], kind) {
			return false
		}
		p = p[lenSTAP+size:]
	}
	return true
}

// fragment takes a part of a unit whose header is head.
func (n *nals) fragment(flags byte, head, part []byte, kind func([]byte) (key, ok bool)) bool {
	if flags&fuStart != 0 {
		if !n.unit(head, kind) {
			return false
		}
		n.open = len(n.out) - len(head)
	}
	if n.open == 0 || len(n.out)+len(part) > maxFrame {
		return false
	}
	n.out = append(n.out, part...)
	if flags&fuEnd != 0 {
		binary.BigEndian.PutUint32(n.out[n.open-nal.LengthSize:], uint32(len(n.out)-n.open))
		n.open = 0
	}
	return true
}

// Pull returns the access unit.
func (n *nals) Pull() (frame []byte, key, ok bool) {
	frame, key, ok = n.out, n.key, n.open == 0 && n.units > 0
	// The next is likely to be of this size.
	n.out, n.open, n.units, n.key = make([]byte, 0, min(len(frame), 64<<10)), 0, 0, false
	return frame, key, ok
}
