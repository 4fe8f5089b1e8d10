package stunwire

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"
)

// Is says whether b looks like one whole STUN message: the first two bits are
// zero, the magic cookie is in its place, and the length is a multiple of 4
// and what follows the header (RFC 8489 Section 6). The attributes are not
// looked at.
func Is(b []byte) bool {
	return len(b) >= HeaderSize && b[0]&0xC0 == 0 &&
		binary.BigEndian.Uint32(b[4:]) == Cookie &&
		len(b)&3 == 0 && int(binary.BigEndian.Uint16(b[2:])) == len(b)-HeaderSize
}

// A Message is a view of one STUN message. The zero value is ready for
// [Message.Parse], which may be called again and again. It is not safe for
// concurrent use while it is parsed; its other methods only read.
type Message struct {
	Raw  []byte // what was parsed; everything that Get returns lies in it
	Type Type
	TxID TxID

	// Offsets into Raw. 0: not there.
	end         int // of the attributes that may be seen, without the three below
	integrity   int
	integrity2  int // MESSAGE-INTEGRITY-SHA256
	fingerprint int
}

// Parse looks at the header and walks the attributes. b is aliased until the
// next Parse and must not be changed meanwhile. After an error the message is
// empty.
func (m *Message) Parse(b []byte) error {
	*m = Message{}
	if !Is(b) {
		return ErrNotSTUN
	}
	var integrity, integrity2, fingerprint, end int
	n := 0
	for at := HeaderSize; at < len(b); n++ {
		if len(b)-at < attrHeader {
			return ErrAttribute
		}
		size := int(binary.BigEndian.Uint16(b[at+2:]))
		next := at + attrHeader + padded(size)
		if next > len(b) {
			return ErrAttribute
		}
		if n == maxAttributes {
			return ErrAttributes
		}
		switch a := Attr(binary.BigEndian.Uint16(b[at:])); {
		case fingerprint != 0: // nothing counts after it
		case a == AttrFingerprint:
			fingerprint = at
		case integrity2 != 0:
		case a == AttrMessageIntegritySHA256:
			integrity2 = at
		case integrity != 0:
		case a == AttrMessageIntegrity:
			integrity = at
		default:
			end = next
		}
		at = next
	}
	*m = Message{
		Raw: b, Type: Type(binary.BigEndian.Uint16(b)), TxID: TxID(b[8:20]),
		end: end, integrity: integrity, integrity2: integrity2, fingerprint: fingerprint,
	}
	return nil
}

// at returns the attribute whose header stands there.
func (m *Message) at(at int) (a Attr, value []byte) {
	size := int(binary.BigEndian.Uint16(m.Raw[at+2:]))
	from := at + attrHeader
	return Attr(binary.BigEndian.Uint16(m.Raw[at:])), m.Raw[from : from+size : from+size]
}

// Get returns the value of the first attribute of that type that may be seen.
// The value aliases Raw.
func (m *Message) Get(a Attr) (value []byte, ok bool) {
	switch a {
	case AttrMessageIntegrity:
		return m.special(m.integrity)
	case AttrMessageIntegritySHA256:
		return m.special(m.integrity2)
	case AttrFingerprint:
		return m.special(m.fingerprint)
	}
	for at := HeaderSize; at < m.end; {
		size := int(binary.BigEndian.Uint16(m.Raw[at+2:]))
		from := at + attrHeader
		if Attr(binary.BigEndian.Uint16(m.Raw[at:])) == a {
			return m.Raw[from : from+size : from+size], true
		}
		at = from + padded(size)
	}
	return nil, false
}

func (m *Message) special(at int) ([]byte, bool) {
	if at == 0 {
		return nil, false
	}
	_, v := m.at(at)
	return v, true
}

// Has says whether the message has an attribute of that type.
func (m *Message) Has(a Attr) bool {
	_, ok := m.Get(a)
	return ok
}

// Each is an iter.Seq2 of the attributes that may be seen, in their order,
// those of integrity and the fingerprint included.
func (m *Message) Each(yield func(Attr, []byte) bool) {
	for at := HeaderSize; at < m.end; {
		a, v := m.at(at)
		if !yield(a, v) {
			return
		}
		at += attrHeader + padded(len(v))
	}
	for _, at := range [...]int{m.integrity, m.integrity2, m.fingerprint} {
		if at == 0 {
			continue
		}
		if !yield(m.at(at)) {
			return
		}
	}
}

// AppendVisible appends a copy of the message that has only the attributes
// that may be seen. Their bytes are the same, padding included, so MESSAGE-INTEGRITY
// stays right; MESSAGE-INTEGRITY-SHA256 and FINGERPRINT do where nothing was
// left out before them.
func (m *Message) AppendVisible(dst []byte) []byte {
	if m.Raw == nil {
		return dst
	}
	start := len(dst)
	dst = append(dst, m.Raw[:max(m.end, HeaderSize)]...)
	for _, at := range [...]int{m.integrity, m.integrity2, m.fingerprint} {
		if at != 0 {
			_, v := m.at(at)
			dst = append(dst, m.Raw[at:at+attrHeader+padded(len(v))]...)
		}
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start-HeaderSize))
	return dst
}

// Unknown appends to dst the comprehension-required attributes that known
// does not know, each once: what a 420 lists. MESSAGE-INTEGRITY and
// MESSAGE-INTEGRITY-SHA256 are not asked about.
func (m *Message) Unknown(dst []Attr, known func(Attr) bool) []Attr {
	for at := HeaderSize; at < m.end; {
		a := Attr(binary.BigEndian.Uint16(m.Raw[at:]))
		if a.Required() && !known(a) && !slices.Contains(dst, a) {
			dst = append(dst, a)
		}
		at += attrHeader + padded(int(binary.BigEndian.Uint16(m.Raw[at+2:])))
	}
	return dst
}

// Uint32 returns the value of an attribute of four bytes.
func (m *Message) Uint32(a Attr) (v uint32, ok bool) {
	b, ok := m.Get(a)
	if !ok || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

const fingerprintXOR = 0x5354554E

// Fingerprint says whether the message has FINGERPRINT and whether it is
// right. One that is not the last attribute, as RFC 8489 Section 14.7 demands,
// is wrong.
func (m *Message) Fingerprint() (present, valid bool) {
	if m.fingerprint == 0 {
		return false, false
	}
	_, v := m.at(m.fingerprint)
	if len(v) != 4 || m.fingerprint+attrHeader+4 != len(m.Raw) {
		return true, false
	}
	return true, binary.BigEndian.Uint32(v) == crc32.ChecksumIEEE(m.Raw[:m.fingerprint])^fingerprintXOR
}

// ErrorCode decodes the value of an ERROR-CODE attribute. The reason aliases
// value.
func ErrorCode(value []byte) (code int, reason []byte, ok bool) {
	if len(value) < 4 {
		return 0, nil, false
	}
	class, number := int(value[2]&7), int(value[3])
	if class < 3 || class > 6 || number > 99 {
		return 0, nil, false
	}
	return class*100 + number, value[4:], true
}

// The families of an address attribute.
const (
	FamilyIPv4 = 1
	FamilyIPv6 = 2
)

// Addr decodes the value of a plain address attribute, MAPPED-ADDRESS and the
// like. The address is as the peer wrote it: an IPv4-mapped one stays so, and
// Unmap is the caller's before any check.
func (m *Message) Addr(value []byte) (netip.AddrPort, error) {
	return m.addr(value, 0)
}

// XORAddr decodes the value of an XOR-…-ADDRESS attribute of this message. It
// is like Addr otherwise.
func (m *Message) XORAddr(value []byte) (netip.AddrPort, error) {
	return m.addr(value, 0xFF)
}

// addr decodes an address; mask is 0xFF where it is XORed with the cookie and
// the transaction id.
func (m *Message) addr(v []byte, mask byte) (netip.AddrPort, error) {
	if len(v) < 4 {
		return netip.AddrPort{}, ErrAttribute
	}
	var key [16]byte
	binary.BigEndian.PutUint32(key[:], Cookie)
	copy(key[4:], m.TxID[:])
	port := binary.BigEndian.Uint16(v[2:])
	if mask != 0 {
		port ^= cookieHigh
	}
	switch {
	case v[1] == FamilyIPv4 && len(v) == 8:
		var ip [4]byte
		for i := range ip {
			ip[i] = v[4+i] ^ key[i]&mask
		}
		return netip.AddrPortFrom(netip.AddrFrom4(ip), port), nil
	case v[1] == FamilyIPv6 && len(v) == 20:
		var ip [16]byte
		for i := range ip {
			ip[i] = v[4+i] ^ key[i]&mask
		}
		return netip.AddrPortFrom(netip.AddrFrom16(ip), port), nil
	}
	return netip.AddrPort{}, ErrAttribute
}
