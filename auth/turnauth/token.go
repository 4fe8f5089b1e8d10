package turnauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The sizes of an access token (RFC 7635 Section 6.2).
const (
	tokenNonce  = 12
	tokenTag    = 16
	maxMACKey   = 64 // HMAC-SHA512's; Section 4.1.1 asks for 20 with SHA-1
	tokenBefore = 2 + tokenNonce
	tokenSealed = 2 + 8 + 4 + tokenTag // without the key
	maxToken    = tokenBefore + tokenSealed + maxMACKey
)

// errToken is what Open says of everything that it does not open: its text
// may reach a log, and which check failed helps a forger.
var errToken = errors.New("turnauth: not an access token of this key")

// An OAuthKey is what the authorization server and the TURN server share (RFC
// 7635 Section 4.1). One authorization server may have several.
type OAuthKey struct {
	ID string // kid: what clients send as USERNAME
	// Secret is the input keying material. Its first 32 bytes are the key, or
	// the first 16 for A128GCM; what follows is of no use, as with coturn.
	Secret []byte
	// Algorithm is "A256GCM" or "A128GCM"; "" is the first.
	Algorithm string
	// Issued and Lifetime bound the use of the key. A Lifetime of zero has no
	// bound.
	Issued   time.Time
	Lifetime time.Duration
	// Realm that sessions with the key count to; "" is the server's.
	Realm string
}

// A Token is what an access token holds.
type Token struct {
	MACKey   []byte // the key of MESSAGE-INTEGRITY, 1 to 64 bytes
	Issued   time.Time
	Lifetime time.Duration // whole seconds, above zero
}

func (k *OAuthKey) aead() (cipher.AEAD, error) {
	size := 0
	switch strings.ReplaceAll(strings.ToUpper(strings.TrimSpace(k.Algorithm)), "_", "-") {
	case "A256GCM", "":
		size = 32
	case "A128GCM":
		size = 16
	default:
		return nil, fmt.Errorf("turnauth: key %q: %q is neither A128GCM nor A256GCM", k.ID, k.Algorithm)
	}
	if len(k.Secret) < size {
		return nil, fmt.Errorf("turnauth: key %q: has %d bytes and needs %d", k.ID, len(k.Secret), size)
	}
	block, err := aes.NewCipher(k.Secret[:size])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Check says what is wrong with the key itself.
func (k *OAuthKey) Check() error {
	if !storable(k.ID, 128) || len(k.Realm) > maxRealm {
		return errors.New("turnauth: a key's id has 1 to 128 bytes, its realm at most 127")
	}
	_, err := k.aead()
	return err
}

// Seal makes the access token that the authorization server gives to a client,
// as it stands in ACCESS-TOKEN: for the TURN server of that name, which is
// what it sends in THIRD-PARTY-AUTHORIZATION.
func (k *OAuthKey) Seal(t *Token, serverName string) ([]byte, error) {
	seconds := int64(t.Lifetime / time.Second)
	if len(t.MACKey) < 1 || len(t.MACKey) > maxMACKey || seconds < 1 || seconds > 1<<32-1 || t.Issued.Unix() < 0 {
		return nil, fmt.Errorf("turnauth: a token has a key of 1 to %d bytes, a lifetime of whole seconds and a time", maxMACKey)
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, maxToken), tokenNonce)
	nonce := b[2:tokenBefore]
	rand.Read(nonce) // never fails
	b = b[:tokenBefore]

	var plain []byte
	plain = binary.BigEndian.AppendUint16(plain, uint16(len(t.MACKey)))
	plain = append(plain, t.MACKey...)
	fraction := uint64(t.Issued.Nanosecond()) * 64000 / uint64(time.Second)
	plain = binary.BigEndian.AppendUint64(plain, uint64(t.Issued.Unix())<<16|fraction)
	plain = binary.BigEndian.AppendUint32(plain, uint32(seconds))
	return aead.Seal(b, nonce, plain, []byte(serverName)), nil
}

// Open reads an access token. It does not look at the clock: see Token.Valid.
func (k *OAuthKey) Open(token []byte, serverName string) (*Token, error) {
	// Every size is known before anything is opened or copied.
	if len(token) <= tokenBefore+tokenSealed || len(token) > maxToken ||
		binary.BigEndian.Uint16(token) != tokenNonce {
		return nil, errToken
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, token[2:tokenBefore], token[tokenBefore:], []byte(serverName))
	if err != nil {
		return nil, errToken
	}
	size := int(binary.BigEndian.Uint16(plain))
	if size < 1 || len(plain) != 2+size+8+4 {
		return nil, errToken
	}
	at := binary.BigEndian.Uint64(plain[2+size:])
	return &Token{
		MACKey:   plain[2 : 2+size],
		Issued:   time.Unix(int64(at>>16), int64(at&0xffff)*int64(time.Second)/64000),
		Lifetime: time.Duration(binary.BigEndian.Uint32(plain[2+size+8:])) * time.Second,
	}, nil
}

// skew is by how much the clocks of authorization server and TURN server may
// differ (Delta of RFC 7635 Section 9).
const skew = 5 * time.Second

// Expires is when a session with the token ends.
func (t *Token) Expires() time.Time { return t.Issued.Add(t.Lifetime + skew) }

// Valid reports whether the token holds at a time: it was issued neither
// longer ago than its lifetime nor as far in the future.
func (t *Token) Valid(now time.Time) bool {
	return t.Lifetime > 0 && now.Sub(t.Issued).Abs() < t.Lifetime+skew
}

// DecodeOAuthKey makes a key of what databases hold: base64, seconds since
// 1970, seconds. What can't be read makes a key that Check refuses.
func DecodeOAuthKey(id, secret string, issued, lifetime int64, algorithm, realm string) *OAuthKey {
	k := &OAuthKey{ID: id, Algorithm: strings.TrimSpace(algorithm), Realm: realm}
	k.Lifetime = time.Duration(max(0, min(lifetime, 1<<31))) * time.Second
	if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(secret)); err == nil {
		k.Secret = b
	}
	if issued > 0 {
		k.Issued = time.Unix(issued, 0)
	}
	return k
}

// Encode is what DecodeOAuthKey reads. The error is that of Check.
func (k *OAuthKey) Encode() (secret string, issued, lifetime int64, err error) {
	if !k.Issued.IsZero() {
		issued = k.Issued.Unix()
	}
	return base64.StdEncoding.EncodeToString(k.Secret), issued, int64(k.Lifetime / time.Second), k.Check()
}
