package turn

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"net/netip"
	"sync"
	"time"
)

// nonces makes nonces that carry their own proof: nothing is kept for a client
// that has not authenticated. One is good for the address and the realm that
// it was made for, so that who forges an address, or picks another realm, has
// none.
type nonces struct {
	macs sync.Pool // of *nonceMAC, keyed
}

type nonceMAC struct {
	hash.Hash
	in  [nonceTime + 16 + 2 + 1]byte
	sum [sha256.Size]byte
}

// A nonce is "obMatJos2" with four characters of feature bits (RFC 8489
// Section 9.2) and then, in base64, the time in milliseconds, of which 40 bits
// come round in 34 years, and a MAC.
const (
	nonceCookie   = "obMatJos2"
	nonceFeatures = len(nonceCookie) + 4
	nonceTime     = 5
	nonceMACSize  = 12
	nonceSize     = nonceFeatures + ((nonceTime+nonceMACSize)*8+5)/6

	featureAlgorithms = 1 << 23 // PASSWORD-ALGORITHMS is understood
	featureAnonymity  = 1 << 22 // USERHASH is
)

func (n *nonces) init(secret []byte) {
	if secret == nil {
		secret = make([]byte, 32)
		rand.Read(secret)
	}
	n.macs.New = func() any { return &nonceMAC{Hash: hmac.New(sha256.New, secret)} }
}

// append appends a nonce that was made at a time, in milliseconds of the wall
// clock.
func (n *nonces) append(dst []byte, features uint32, client netip.AddrPort, realm string, made int64) []byte {
	m := n.macs.Get().(*nonceMAC)
	defer n.macs.Put(m)
	var raw [nonceTime + nonceMACSize]byte
	copy(raw[nonceTime:], m.mac(made, features, client, realm))
	copy(raw[:], m.in[:nonceTime])
	dst = append(dst, nonceCookie...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte{byte(features >> 16), byte(features >> 8), byte(features)})
	return base64.RawStdEncoding.AppendEncode(dst, raw[:])
}

// check reports whether a nonce was made for client and realm, with the same
// features, less than life ago, and when that was.
func (n *nonces) check(nonce []byte, features uint32, client netip.AddrPort, realm string, now time.Time, life time.Duration) (made int64, ok bool) {
	if len(nonce) != nonceSize {
		return 0, false
	}
	var raw [(nonceSize - nonceFeatures) * 6 / 8]byte
	if k, err := base64.RawStdEncoding.Strict().Decode(raw[:], nonce[nonceFeatures:]); err != nil || k != nonceTime+nonceMACSize {
		return 0, false
	}
	m := n.macs.Get().(*nonceMAC)
	defer n.macs.Put(m)
	const unused = 64 - 8*nonceTime
	age := now.UnixMilli() - int64(binary.BigEndian.Uint64(raw[:8])>>unused) // but for the bits that a nonce lacks
	age = age << unused >> unused
	made = now.UnixMilli() - age
	if !hmac.Equal(m.mac(made, features, client, realm), raw[nonceTime:nonceTime+nonceMACSize]) {
		return 0, false
	}
	// Clocks of a fleet that shares a secret may differ a little.
	return made, age >= -time.Minute.Milliseconds() && age < life.Milliseconds()
}

// mac returns a MAC that is valid until the next call.
func (m *nonceMAC) mac(made int64, features uint32, client netip.AddrPort, realm string) []byte {
	m.Reset()
	binary.BigEndian.PutUint64(m.in[:], uint64(made)<<(64-8*nonceTime))
	ip := client.Addr().As16()
	copy(m.in[nonceTime:], ip[:])
	binary.BigEndian.PutUint16(m.in[nonceTime+16:], client.Port())
	m.in[nonceTime+18] = byte(features >> 16)
	m.Write(m.in[:])
	for len(realm) > 0 { // a string would be copied to the heap to go through the interface
		k := copy(m.sum[:], realm)
		m.Write(m.sum[:k])
		realm = realm[k:]
	}
	return m.Sum(m.sum[:0])[:nonceMACSize]
}
