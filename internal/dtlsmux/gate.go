package dtlsmux

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"net/netip"
	"time"
)

const (
	handshakeHeaderLen = 1 + 3 + 2 + 3 + 3
	msgClientHello     = 1
	msgHelloVerify     = 3
	msgFinished        = 20

	// cookieLen is how long pion/dtls's own cookies are, whose place ours take.
	cookieLen  = 20
	cookieSlot = 30 * time.Second
	cookieLife = 3 // slots
)

// A clientHello lies in the record that it came with.
type clientHello struct {
	seq    uint16 // of the message
	body   []byte
	random []byte
	cookie []byte
	before []byte // of body, what precedes the cookie's length
	after  []byte // of body, what follows the cookie, extensions included
	suites []byte
	core   int // how much of after is cipher suites and compression methods
}

// parseClientHello reads a ClientHello that is alone in a record and not in
// fragments (RFC 6347 Section 4.2.2, RFC 5246 Section 7.4.1.2).
func parseClientHello(b []byte) (h clientHello, ok bool) {
	if len(b) < handshakeHeaderLen || b[0] != msgClientHello {
		return h, false
	}
	n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	h.seq = binary.BigEndian.Uint16(b[4:])
	whole := b[6] == 0 && b[7] == 0 && b[8] == 0 && b[9] == b[1] && b[10] == b[2] && b[11] == b[3]
	h.body = b[handshakeHeaderLen:]
	if !whole || n != len(h.body) {
		return h, false
	}
	at := 2 + 32
	if len(h.body) < at+1 {
		return h, false
	}
	h.random = h.body[2:34]
	at += 1 + int(h.body[at]) // session id
	if h.body[34] > 32 || len(h.body) < at+1 {
		return h, false
	}
	h.before = h.body[:at]
	c := int(h.body[at])
	if len(h.body) < at+1+c {
		return h, false
	}
	h.cookie = h.body[at+1 : at+1+c]
	h.after = h.body[at+1+c:]
	if len(h.after) < 2 {
		return h, false
	}
	s := int(binary.BigEndian.Uint16(h.after))
	if s == 0 || s%2 != 0 || len(h.after) < 2+s+1 {
		return h, false
	}
	h.suites = h.after[2 : 2+s]
	h.core = 2 + s + 1 + int(h.after[2+s])
	return h, len(h.after) >= h.core
}

// offers reports whether the client offers one of the cipher suites.
func (h *clientHello) offers(ids ...uint16) bool {
	for i := 0; i+1 < len(h.suites); i += 2 {
		for _, id := range ids {
			if binary.BigEndian.Uint16(h.suites[i:]) == id {
				return true
			}
		}
	}
	return false
}

// appendFirst appends the record of the ClientHello that a client must have
// sent before this one: without the cookie, message and record number 0.
func (h *clientHello) appendFirst(dst []byte) []byte {
	n := len(h.before) + 1 + len(h.after)
	dst = append(dst, typeHandshake)
	dst = binary.BigEndian.AppendUint16(dst, version12)
	dst = binary.BigEndian.AppendUint64(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(handshakeHeaderLen+n))
	dst = append(dst, msgClientHello, byte(n>>16), byte(n>>8), byte(n), 0, 0, 0, 0, 0, byte(n>>16), byte(n>>8), byte(n))
	dst = append(dst, h.before...)
	dst = append(dst, 0)
	return append(dst, h.after...)
}

// A gate makes and checks cookies. It is for one goroutine.
type gate struct {
	mac hash.Hash // keyed, reset before each use
	sum [sha256.Size]byte
	buf [10 + 16 + 2]byte
	out []byte
}

func newGate() *gate {
	key := make([]byte, 32)
	rand.Read(key)
	return &gate{mac: hmac.New(sha256.New, key)}
}

// cookie is bound to the client's address, to what its ClientHello asks for
// but the extensions, and to a time.
func (g *gate) cookie(h *clientHello, from netip.AddrPort, slot int64) [cookieLen]byte {
	b := g.buf[:0]
	b = binary.BigEndian.AppendUint64(b, uint64(slot))
	ip := from.Addr().As16()
	b = append(b, ip[:]...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	g.mac.Reset()
	g.mac.Write(b)
	g.mac.Write(h.before)
	g.mac.Write(h.after[:h.core])
	var c [cookieLen]byte
	c[0] = byte(slot)
	copy(c[1:], g.mac.Sum(g.sum[:0]))
	return c
}

// check reports whether a ClientHello brings a cookie that this gate gave to
// its sender within the last one to one and a half minutes.
func (g *gate) check(h *clientHello, from netip.AddrPort, now time.Time) bool {
	if len(h.cookie) != cookieLen {
		return false
	}
	slot := now.UnixNano() / int64(cookieSlot)
	age := int64(byte(slot) - h.cookie[0])
	if age >= cookieLife {
		return false
	}
	want := g.cookie(h, from, slot-age)
	return subtle.ConstantTimeCompare(want[:], h.cookie) == 1
}

// tooOld reports whether the client speaks no DTLS 1.2: versions count down.
func (h *clientHello) tooOld() bool {
	return binary.BigEndian.Uint16(h.body) > version12
}

// refuseVersion returns the answer to a client that is too old: a fatal alert,
// protocol_version, good until the next call.
func (g *gate) refuseVersion(r *record) []byte {
	b := append(g.out[:0], typeAlert)
	b = binary.BigEndian.AppendUint16(b, version10)
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint16(b, 2)
	g.out = append(b, 2, 70)
	return g.out
}

// helloVerify returns the answer to a ClientHello: a HelloVerifyRequest in a
// record with the number of the one that asked (RFC 6347 Section 4.2.1). It is
// shorter than what it answers and good until the next call.
func (g *gate) helloVerify(r *record, h *clientHello, from netip.AddrPort, now time.Time) []byte {
	c := g.cookie(h, from, now.UnixNano()/int64(cookieSlot))
	const n = 2 + 1 + cookieLen
	b := append(g.out[:0], typeHandshake)
	b = binary.BigEndian.AppendUint16(b, version10)
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint16(b, handshakeHeaderLen+n)
	b = append(b, msgHelloVerify, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, n)
	b = binary.BigEndian.AppendUint16(b, version10)
	b = append(b, cookieLen)
	b = append(b, c[:]...)
	g.out = b
	return b
}
