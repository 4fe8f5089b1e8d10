// Package srtp secures the RTP packets that one stream sends to many viewers
// (RFC 3711, RFC 7714). Each viewer has keys of its own, so this is what is left
// to do per packet and viewer, and the reason for the package: github.com/pion/srtp,
// whose profiles and key material it takes, costs several times as much with
// AES_CM_128_HMAC_SHA1_80. What arrives, and RTCP, is pion's.
package srtp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/pion/srtp/v3"
)

// Overhead is the most that Seal adds to a packet.
const Overhead = 16

// A Sealer encrypts and authenticates the packets of one session. It is used by
// one goroutine.
type Sealer struct {
	salt [16]byte

	aead cipher.AEAD // nil: AES_CM with HMAC-SHA1

	block cipher.Block
	mac   hash.Hash

	scratch [sha1.Size]byte
	iv      [aes.BlockSize]byte
}

// Labels of the key derivation (RFC 3711 Section 4.3.2).
const (
	labelKey  = 0
	labelAuth = 1
	labelSalt = 2
)

const (
	lenAuthKey = 20
	lenTag     = 10 // HMAC_SHA1_80
	lenSalt    = 14
	lenSaltGCM = 12
)

// NewSealer returns a Sealer for the master key and salt of the sending side.
// The profiles are AEAD_AES_128_GCM, AEAD_AES_256_GCM and
// AES_CM_128_HMAC_SHA1_80.
func NewSealer(profile srtp.ProtectionProfile, key, salt []byte) (*Sealer, error) {
	size, saltSize := 16, lenSalt
	switch profile {
	case srtp.ProtectionProfileAeadAes256Gcm:
		size, saltSize = 32, lenSaltGCM
	case srtp.ProtectionProfileAeadAes128Gcm:
		saltSize = lenSaltGCM
	case srtp.ProtectionProfileAes128CmHmacSha1_80:
	default:
		return nil, fmt.Errorf("srtp: profile %v is not supported", profile)
	}
	if len(key) != size || len(salt) != saltSize {
		return nil, fmt.Errorf("srtp: %d and %d bytes of key and salt for %v", len(key), len(salt), profile)
	}
	master, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s := &Sealer{}
	copy(s.salt[:], derive(master, salt, labelSalt, saltSize))
	if s.block, err = aes.NewCipher(derive(master, salt, labelKey, size)); err != nil {
		return nil, err
	}
	if saltSize == lenSaltGCM {
		s.aead, err = cipher.NewGCM(s.block)
		return s, err
	}
	s.mac = hmac.New(sha1.New, derive(master, salt, labelAuth, lenAuthKey))
	return s, nil
}

// derive returns n bytes of a session key (RFC 3711 Sections 4.3.1 and 4.3.3),
// with a key derivation rate of 0.
func derive(master cipher.Block, salt []byte, label byte, n int) []byte {
	var iv [aes.BlockSize]byte
	copy(iv[:], salt)
	iv[7] ^= label
	out := make([]byte, n)
	cipher.NewCTR(master, iv[:]).XORKeyStream(out, out)
	return out
}

// Seal appends a packet to dst: the header as it is, the payload encrypted, and
// the tag. The header is that of RTP with its extensions, and index the packet's
// sequence number with the count of its rollovers above it. Neither header nor
// payload may lie where dst grows to.
func (s *Sealer) Seal(dst, header, payload []byte, ssrc uint32, index uint64) []byte {
	from := len(dst)
	dst = append(dst, header...)
	if s.aead != nil {
		iv := s.iv[:lenSaltGCM]
		copy(iv, s.salt[:]) // RFC 7714 Section 8.1
		xor32(iv[2:], ssrc)
		xor32(iv[6:], uint32(index>>16))
		iv[10] ^= byte(index >> 8)
		iv[11] ^= byte(index)
		return s.aead.Seal(dst, iv, payload, dst[from:])
	}
	copy(s.iv[:], s.salt[:]) // RFC 3711 Section 4.1.1
	xor32(s.iv[4:], ssrc)
	xor32(s.iv[8:], uint32(index>>16))
	s.iv[12] ^= byte(index >> 8)
	s.iv[13] ^= byte(index)
	body := len(dst)
	dst = append(dst, payload...)
	cipher.NewCTR(s.block, s.iv[:]).XORKeyStream(dst[body:], dst[body:])
	binary.BigEndian.PutUint32(s.scratch[:], uint32(index>>16)) // the rollovers
	s.mac.Reset()
	s.mac.Write(dst[from:])
	s.mac.Write(s.scratch[:4])
	return append(dst, s.mac.Sum(s.scratch[:0])[:lenTag]...)
}

func xor32(b []byte, v uint32) {
	binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)^v)
}
