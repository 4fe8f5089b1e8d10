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
	in  [4 + 16 + 2 + 1]byte
	sum [sha256.Size]byte
}

// A nonce is "obMatJos2" with four characters of feature bits (RFC 8489
// Section 9.2) and then, in base64, the time in seconds and a MAC.
const (
	nonceCookie   = "obMatJos2"
	nonceFeatures = len(nonceCookie) + 4
	nonceMACSize  = 12
	nonceSize     = nonceFeatures + (4+nonceMACSize)*4/3 + 1

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

// append appends a nonce.
func (n *nonces) append(dst []byte, features uint32, client netip.AddrPort, realm string, now time.Time) []byte {
	m := n.macs.Get().(*nonceMAC)
	defer n.macs.Put(m)
	var raw [4 + nonceMACSize]byte
	seconds := uint32(now.Unix())
	binary.BigEndian.PutUint32(raw[:], seconds)
	copy(raw[4:], m.mac(seconds, features, client, realm))
	dst = append(dst, nonceCookie...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte{byte(features >> 16), byte(features >> 8), byte(features)})
	return base64.RawStdEncoding.AppendEncode(dst, raw[:])
}

// check reports whether a nonce was made for client and realm, with the same
// features, less than life ago.
func (n *nonces) check(nonce []byte, features uint32, client netip.AddrPort, realm string, now time.Time, life time.Duration) bool {
	if len(nonce) != nonceSize {
		return false
	}
	var raw [(nonceSize - nonceFeatures) * 6 / 8]byte
	if k, err := base64.RawStdEncoding.Strict().Decode(raw[:], nonce[nonceFeatures:]); err != nil || k != 4+nonceMACSize {
		return false
	}
	m := n.macs.Get().(*nonceMAC)
	defer n.macs.Put(m)
	seconds := binary.BigEndian.Uint32(raw[:])
	if !hmac.Equal(m.mac(seconds, features, client, realm), raw[4:4+nonceMACSize]) {
		return false
	}
	// Clocks of a fleet that shares a secret may differ a little.
	age := time.Duration(int32(uint32(now.Unix())-seconds)) * time.Second
	return age >= -time.Minute && age < life
}

// mac returns a MAC that is valid until the next call.
func (m *nonceMAC) mac(seconds, features uint32, client netip.AddrPort, realm string) []byte {
	m.Reset()
	binary.BigEndian.PutUint32(m.in[:], seconds)
	ip := client.Addr().As16()
	copy(m.in[4:], ip[:])
	binary.BigEndian.PutUint16(m.in[20:], client.Port())
	m.in[22] = byte(features >> 16)
	m.Write(m.in[:])
	for len(realm) > 0 { // a string would be copied to the heap to go through the interface
		k := copy(m.sum[:], realm)
		m.Write(m.sum[:k])
		realm = realm[k:]
	}
	return m.Sum(m.sum[:0])[:nonceMACSize]
}
