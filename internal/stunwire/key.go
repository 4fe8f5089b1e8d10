package stunwire

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"strconv"
	"sync"
)

// A Key is a secret made ready for MESSAGE-INTEGRITY (HMAC-SHA-1) and
// MESSAGE-INTEGRITY-SHA256: the states of a hash after its first block are kept
// once it is used, which halves the work and leaves nothing to allocate. It is
// safe for concurrent use; it takes about 300 bytes, or half a kilobyte where
// both are used.
type Key struct {
	secret       []byte
	sha1, sha256 states
}

// states are the encoded states of a hash that has read the inner and the
// outer padded secret (RFC 2104).
type states struct {
	once         sync.Once
	inner, outer []byte
}

// NewKey makes a Key: of the password for short-term credentials, of
// [LongTermKey] for long-term ones, of the session key for ACCESS-TOKEN.
func NewKey(secret []byte) *Key { return &Key{secret: bytes.Clone(secret)} }

// make fills in s, which it does once.
func (s *states) make(h *hasher, f hash.Hash, secret []byte) {
	s.once.Do(func() {
		defer clear(h.block[:])
		if len(secret) > f.BlockSize() {
			f.Reset()
			f.Write(secret)
			secret = f.Sum(nil)
		}
		list := make([]byte, 0, 2*(f.Size()+76)) // what SHA-1 and SHA-256 take
		padded := func(x byte) []byte {
			block := h.block[:f.BlockSize()]
			clear(block[copy(block, secret):])
			for i := range block {
				block[i] ^= x
			}
			f.Reset()
			f.Write(block)
			from := len(list)
			var err error
			if list, err = f.(encoding.BinaryAppender).AppendBinary(list); err != nil {
				panic("stunwire: " + err.Error()) // the standard library's hashes never fail
			}
			return list[from:len(list):len(list)]
		}
		s.inner, s.outer = padded(0x36), padded(0x5C)
	})
}

// An hasher is what one computation needs: the hashes and the bytes that pass
// through their interfaces, which would be allocated otherwise.
type hasher struct {
	sha1, sha256 hash.Hash
	head         [HeaderSize]byte
	sum          [sha256.Size]byte
	block        [sha256.BlockSize]byte
}

// hashers holds nothing that outlives a call.
var hashers = sync.Pool{New: func() any { return &hasher{sha1: sha1.New(), sha256: sha256.New()} }}

// mac computes the HMAC of a message whose integrity attribute begins at
// raw[at:] and ends at end: of all before it, the length in the header
// counting up to end (RFC 8489 Section 14.5). The sum is valid until the
// hasher goes back.
func (h *hasher) mac(f hash.Hash, s *states, secret, raw []byte, at, end int) []byte {
	s.make(h, f, secret)
	copy(h.head[:], raw)
	binary.BigEndian.PutUint16(h.head[2:], uint16(end-HeaderSize))
	u := f.(encoding.BinaryUnmarshaler)
	if u.UnmarshalBinary(s.inner) != nil {
		panic("stunwire: the hash does not know its own state")
	}
	f.Write(h.head[:])
	f.Write(raw[HeaderSize:at])
	sum := f.Sum(h.sum[:0])
	if u.UnmarshalBinary(s.outer) != nil {
		panic("stunwire: the hash does not know its own state")
	}
	f.Write(sum)
	return f.Sum(h.sum[:0])
}

// CheckIntegrity says whether the message has a MESSAGE-INTEGRITY that was
// made with k. It takes the same time wherever they differ.
func (m *Message) CheckIntegrity(k *Key) bool {
	v, ok := m.special(m.integrity)
	if !ok || len(v) != sha1.Size {
		return false
	}
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	return hmac.Equal(v, h.mac(h.sha1, &k.sha1, k.secret, m.Raw, m.integrity, m.integrity+attrHeader+len(v)))
}

// CheckIntegritySHA256 does the same for MESSAGE-INTEGRITY-SHA256. One that
// the sender cut, to 16 bytes at least, is right if those bytes are (RFC 8489
// Section 14.6).
func (m *Message) CheckIntegritySHA256(k *Key) bool {
	v, ok := m.special(m.integrity2)
	if !ok || len(v) < 16 || len(v) > sha256.Size || len(v)&3 != 0 {
		return false
	}
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	sum := h.mac(h.sha256, &k.sha256, k.secret, m.Raw, m.integrity2, m.integrity2+attrHeader+len(v))
	return hmac.Equal(v, sum[:len(v)])
}

// An Algorithm is a password algorithm (RFC 8489 Section 18.5).
type Algorithm uint16

// The registered algorithms. Neither has parameters.
const (
	MD5    Algorithm = 1
	SHA256 Algorithm = 2
)

// String is the algorithm's name.
func (a Algorithm) String() string {
	switch a {
	case MD5:
		return "MD5"
	case SHA256:
		return "SHA-256"
	}
	return "algorithm " + strconv.Itoa(int(a))
}

// LongTermKey is the key of long-term credentials (RFC 8489 Sections 9.2.2,
// 18.5.1): the hash of user:realm:password. The realm and the password are
// to be prepared with OpaqueString before. It is nil for an algorithm that is
// not known.
func LongTermKey(user, realm, password string, alg Algorithm) []byte {
	text := user + ":" + realm + ":" + password
	switch alg {
	case MD5:
		sum := md5.Sum([]byte(text))
		return sum[:]
	case SHA256:
		sum := sha256.Sum256([]byte(text))
		return sum[:]
	}
	return nil
}

// UserHash is the value of USERHASH (RFC 8489 Section 14.4). The user and the
// realm are to be prepared with OpaqueString before.
func UserHash(user, realm string) [sha256.Size]byte {
	return sha256.Sum256([]byte(user + ":" + realm))
}
