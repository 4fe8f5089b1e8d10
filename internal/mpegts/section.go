package mpegts

import "encoding/binary"

// Tables (2.4.4.4, table 2-31).
const (
	tablePAT = 0
	tablePMT = 2
)

// maxSection bounds a section of the PAT or a PMT (2.4.4.6, 2.4.4.9).
const maxSection = 3 + 1021

// sectionSize is what a section has beside its body: eight bytes of header and
// four of CRC.
const sectionSize = 8 + 4

// appendSection appends the packets of a PAT or PMT that is one section. The
// continuity counters are 0.
func appendSection(dst []byte, pid uint16, table byte, id uint16, version byte, body []byte) []byte {
	size := sectionSize + len(body)
	s := make([]byte, 0, size)
	s = append(s,
		table, 0xb0|byte((size-3)>>8), byte(size-3),
		byte(id>>8), byte(id),
		0xc1|version<<1&0x3e, // current
		0, 0)                 // section 0 of 0
	s = append(s, body...)
	return appendPackets(dst, pid, binary.BigEndian.AppendUint32(s, crc32(s)))
}

// appendPackets appends the packets of a section, with continuity counters 0.
func appendPackets(dst []byte, pid uint16, section []byte) []byte {
	dst = append(dst, syncByte, 0x40|byte(pid>>8), byte(pid), 0x10, 0) // with pointer_field
	for room := bodySize - 1; ; room = bodySize {
		n := min(len(section), room)
		dst = append(dst, section[:n]...)
		section = section[n:]
		for ; n < room; n++ {
			dst = append(dst, 0xff)
		}
		if len(section) == 0 {
			return dst
		}
		dst = append(dst, syncByte, byte(pid>>8), byte(pid), 0x10)
	}
}

// crc32 is the CRC of annex A: that of hash/crc32 with neither its bits
// reflected nor its result inverted.
func crc32(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c) << 24
		for range 8 {
			carry := crc & (1 << 31)
			crc <<= 1
			if carry != 0 {
				crc ^= 0x04c11db7
			}
		}
	}
	return crc
}

// patBody returns the body of a PAT with one programme.
func patBody(number, pid uint16) []byte {
	return []byte{byte(number >> 8), byte(number), 0xe0 | byte(pid>>8), byte(pid)}
}
