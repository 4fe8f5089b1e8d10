package stunwire

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// A Builder appends one message to a slice. Every Add writes one attribute,
// with its padding zeroed, and keeps the length in the header right. Add
// integrity after everything else, and the fingerprint last.
type Builder struct {
	buf   []byte
	start int // of the message in buf
	err   error
}

// Build begins a message of that type at the end of dst. It allocates only
// where dst lacks room.
func Build(dst []byte, t Type, id TxID) Builder {
	head := [HeaderSize]byte{byte(t >> 8), byte(t), 0, 0, Cookie >> 24, Cookie >> 16 & 0xFF, Cookie >> 8 & 0xFF, Cookie & 0xFF}
	copy(head[8:], id[:])
	return Builder{buf: append(dst, head[:]...), start: len(dst)}
}

// Bytes returns dst with the message behind it. After an error, it returns
// dst as it was.
func (b *Builder) Bytes() []byte {
	if b.err != nil {
		return b.buf[:b.start]
	}
	return b.buf
}

// Err is ErrTooLong if an attribute did not fit into a message any more, or
// ErrAttribute if an address was not valid.
func (b *Builder) Err() error { return b.err }

// Len is how many bytes the message has so far.
func (b *Builder) Len() int { return len(b.buf) - b.start }

// attr appends the header of an attribute of n bytes, which the caller
// appends next, followed by pad(n), and says whether there is room.
func (b *Builder) attr(a Attr, n int) bool {
	body := len(b.buf) - b.start - HeaderSize + attrHeader + padded(n)
	if b.err == nil && body > maxBody {
		b.err = ErrTooLong
	}
	if b.err != nil {
		return false
	}
	binary.BigEndian.PutUint16(b.buf[b.start+2:], uint16(body))
	b.buf = append(b.buf, byte(a>>8), byte(a), byte(n>>8), byte(n))
	return true
}

func (b *Builder) pad(n int) {
	for ; n&3 != 0; n++ {
		b.buf = append(b.buf, 0)
	}
}

// Add adds an attribute as it is.
func (b *Builder) Add(a Attr, v []byte) {
	if b.attr(a, len(v)) {
		b.buf = append(b.buf, v...)
		b.pad(len(v))
	}
}

// AddString is Add of a text.
func (b *Builder) AddString(a Attr, v string) {
	if b.attr(a, len(v)) {
		b.buf = append(b.buf, v...)
		b.pad(len(v))
	}
}

// AddUint32 adds an attribute of four bytes.
func (b *Builder) AddUint32(a Attr, v uint32) {
	if b.attr(a, 4) {
		b.buf = binary.BigEndian.AppendUint32(b.buf, v)
	}
}

// AddAddr adds a plain address attribute, such as OTHER-ADDRESS. An
// IPv4-mapped address is written as the IPv4 address that it is.
func (b *Builder) AddAddr(a Attr, ap netip.AddrPort) { b.addr(a, ap, 0) }

// AddXORAddr adds an XOR-…-ADDRESS attribute. It is like AddAddr otherwise.
func (b *Builder) AddXORAddr(a Attr, ap netip.AddrPort) { b.addr(a, ap, 0xFF) }

func (b *Builder) addr(a Attr, ap netip.AddrPort, mask byte) {
	ip, port := ap.Addr().Unmap(), ap.Port()
	if !ip.IsValid() {
		if b.err == nil {
			b.err = ErrAttribute
		}
		return
	}
	if mask != 0 {
		port ^= cookieHigh
	}
	key := b.buf[b.start+4 : b.start+HeaderSize] // the cookie and the transaction id
	if ip.Is4() {
		if b.attr(a, 8) {
			v := ip.As4()
			for i := range v {
				v[i] ^= key[i] & mask
			}
			b.buf = append(b.buf, 0, FamilyIPv4, byte(port>>8), byte(port), v[0], v[1], v[2], v[3])
		}
		return
	}
	if b.attr(a, 20) {
		v := ip.As16()
		for i := range v {
			v[i] ^= key[i] & mask
		}
		b.buf = append(append(b.buf, 0, FamilyIPv6, byte(port>>8), byte(port)), v[:]...)
	}
}

// maxReason is what RFC 8489 Section 14.8 allows a reason phrase, in bytes.
const maxReason = 509

// AddError adds ERROR-CODE. The code is 300 to 699; the reason may be empty
// and is cut after 509 bytes.
func (b *Builder) AddError(code int, reason string) {
	reason = reason[:min(len(reason), maxReason)]
	if b.attr(AttrErrorCode, 4+len(reason)) {
		b.buf = append(b.buf, 0, 0, byte(code/100), byte(code%100))
		b.buf = append(b.buf, reason...)
		b.pad(len(reason))
	}
}

// AddUnknown adds UNKNOWN-ATTRIBUTES, which goes with a 420.
func (b *Builder) AddUnknown(list []Attr) {
	if !b.attr(AttrUnknownAttributes, 2*len(list)) {
		return
	}
	for _, a := range list {
		b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(a))
	}
	b.pad(2 * len(list))
}

// AddIntegrity adds MESSAGE-INTEGRITY. Only MESSAGE-INTEGRITY-SHA256 and
// FINGERPRINT may follow.
func (b *Builder) AddIntegrity(k *Key) {
	at := len(b.buf) - b.start
	if !b.attr(AttrMessageIntegrity, 20) {
		return
	}
	h := hashers.Get().(*hasher)
	b.buf = append(b.buf, h.mac(h.sha1, &k.sha1, k.secret, b.buf[b.start:], at, at+attrHeader+20)...)
	hashers.Put(h)
}

// AddIntegritySHA256 adds MESSAGE-INTEGRITY-SHA256, uncut. Only FINGERPRINT
// may follow.
func (b *Builder) AddIntegritySHA256(k *Key) {
	at := len(b.buf) - b.start
	if !b.attr(AttrMessageIntegritySHA256, 32) {
		return
	}
	h := hashers.Get().(*hasher)
	b.buf = append(b.buf, h.mac(h.sha256, &k.sha256, k.secret, b.buf[b.start:], at, at+attrHeader+32)...)
	hashers.Put(h)
}

// AddFingerprint adds FINGERPRINT. Nothing may follow.
func (b *Builder) AddFingerprint() {
	at := len(b.buf)
	if b.attr(AttrFingerprint, 4) {
		b.buf = binary.BigEndian.AppendUint32(b.buf, crc32.ChecksumIEEE(b.buf[b.start:at])^fingerprintXOR)
	}
}
