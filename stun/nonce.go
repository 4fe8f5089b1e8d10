package stun

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Features are the security features that a nonce announces, so that nobody
// between can take them away unseen (RFC 8489 Sections 9.2.1 and 18.1). Bit 0
// of the RFC is the most significant of the 24.
type Features uint32

// The features that there are.
const (
	PasswordAlgorithms Features = 1 << 23 // PASSWORD-ALGORITHMS goes with the nonce
	UsernameAnonymity  Features = 1 << 22 // USERHASH is wanted instead of USERNAME
)

const (
	nonceCookie = "obMatJos2"
	cookieSize  = len(nonceCookie) + 4
	maxText     = 763 // bytes of a REALM, NONCE or SOFTWARE that are taken
	maxUser     = 513 // bytes of a USERNAME
)

// Cookie is the 13 characters that a nonce begins with.
func (f Features) Cookie() string {
	return nonceCookie + base64.StdEncoding.EncodeToString([]byte{byte(f >> 16), byte(f >> 8), byte(f)})
}

// NonceFeatures reads the cookie of a nonce. ok is false if it has none: the
// server knows RFC 5389 only.
func NonceFeatures(nonce string) (f Features, ok bool) {
	if len(nonce) < cookieSize || !strings.HasPrefix(nonce, nonceCookie) {
		return 0, false
	}
	b, err := base64.StdEncoding.DecodeString(nonce[len(nonceCookie):cookieSize])
	if err != nil || len(b) != 3 {
		return 0, false
	}
	return Features(b[0])<<16 | Features(b[1])<<8 | Features(b[2]), true
}

// appendAlgorithms appends the value of PASSWORD-ALGORITHMS, or of
// PASSWORD-ALGORITHM for one of them.
func appendAlgorithms(dst []byte, list ...Algorithm) []byte {
	for _, a := range list {
		dst = binary.BigEndian.AppendUint32(dst, uint32(a)<<16) // no parameters
	}
	return dst
}

var errAlgorithms = errors.New("stun: malformed PASSWORD-ALGORITHMS")

// parseAlgorithms reads such a value. Of the algorithms those with parameters
// are left out: none that is known has any.
func parseAlgorithms(v []byte) (list []Algorithm, err error) {
	for len(v) > 0 {
		if len(v) < 4 {
			return nil, errAlgorithms
		}
		a, n := Algorithm(binary.BigEndian.Uint16(v)), int(binary.BigEndian.Uint16(v[2:]))
		next := 4 + (n+3)&^3
		// The padding of the last may be the attribute's own.
		if 4+n > len(v) {
			return nil, errAlgorithms
		}
		if n == 0 && !slices.Contains(list, a) && len(list) < 16 {
			list = append(list, a)
		}
		v = v[min(next, len(v)):]
	}
	return list, nil
}

// A nonce is the cookie, the time, and a MAC of both and the client's address,
// base64: nothing is kept for a client that has not proved anything.
const (
	nonceMAC  = 15
	nonceSize = cookieSize + (6+nonceMAC)*4/3
)

// nonces is what a nonce depends on beside the client and the time.
type nonces struct {
	secret     []byte
	features   Features
	algorithms []byte // as they are offered
	life       time.Duration
}

func (n *nonces) append(dst []byte, from netip.AddrPort, now time.Time) []byte {
	var raw [6 + nonceMAC]byte
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		raw[i] = byte(ms >> (8 * (5 - i)))
	}
	copy(raw[6:], n.mac(from, raw[:6]))
	dst = append(dst, n.features.Cookie()...)
	return base64.RawURLEncoding.AppendEncode(dst, raw[:])
}

func (n *nonces) mac(from netip.AddrPort, stamp []byte) []byte {
	h := hmac.New(sha256.New, n.secret)
	h.Write(stamp)
	ip := from.Addr().Unmap().As16()
	h.Write(ip[:])
	h.Write(binary.BigEndian.AppendUint16(nil, from.Port()))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(n.features)))
	h.Write(n.algorithms)
	return h.Sum(nil)[:nonceMAC]
}

// valid says whether append made the nonce for that address, not too long ago.
func (n *nonces) valid(nonce []byte, from netip.AddrPort, now time.Time) bool {
	if len(nonce) != nonceSize || string(nonce[:cookieSize]) != n.features.Cookie() {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(string(nonce[cookieSize:]))
	if err != nil || len(raw) != 6+nonceMAC || !hmac.Equal(raw[6:], n.mac(from, raw[:6])) {
		return false
	}
	var ms int64
	for _, b := range raw[:6] {
		ms = ms<<8 | int64(b)
	}
	age := now.Sub(time.UnixMilli(ms))
	return age >= -time.Minute && age <= n.life
}

// text returns a text attribute if it is there and not too long.
func text(m *stunwire.Message, a stunwire.Attr, max int) (string, bool) {
	v, ok := m.Get(a)
	if !ok || len(v) > max {
		return "", false
	}
	return string(v), true
}
