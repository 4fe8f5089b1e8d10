package srt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"errors"
)

const (
	// Bounds of a passphrase, in bytes (libsrt).
	minPassphrase = 10
	maxPassphrase = 79

	kdfRounds = 2048

	// A key is used for refreshAfter packets. The next one is announced
	// announceAhead before, and the last one forgotten as long after.
	refreshAfter  = 1 << 24
	announceAhead = 4000
)

var (
	errPassphrase = errors.New("srt: a passphrase has 10 to 79 bytes")
	errUnwrap     = errors.New("srt: wrong key")
)

// kek derives the key that wraps keys (draft 6.1.4).
func kek(passphrase string, salt *[16]byte, keyLen int) (cipher.Block, error) {
	if len(passphrase) < minPassphrase || len(passphrase) > maxPassphrase {
		return nil, errPassphrase
	}
	key, err := pbkdf2.Key(sha1.New, passphrase, salt[8:], kdfRounds, keyLen)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}

var wrapIV = [8]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}

// wrap wraps keys (RFC 3394 2.2.1).
func wrap(b cipher.Block, keys []byte) []byte {
	out := make([]byte, 8+len(keys))
	copy(out[8:], keys)
	var block [16]byte
	copy(block[:8], wrapIV[:])
	n := len(keys) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(block[8:], out[8*i:8*i+8])
			b.Encrypt(block[:], block[:])
			block[7] ^= byte(n*j + i) // at most 48
			copy(out[8*i:], block[8:])
		}
	}
	copy(out, block[:8])
	return out
}

// unwrap is the reverse of wrap, which fails if the key is another.
func unwrap(b cipher.Block, wrapped []byte) ([]byte, error) {
	n := len(wrapped)/8 - 1
	if n < 2 || len(wrapped)%8 != 0 || n > 8 {
		return nil, errUnwrap
	}
	out := append([]byte(nil), wrapped...)
	var block [16]byte
	copy(block[:8], out[:8])
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			block[7] ^= byte(n*j + i)
			copy(block[8:], out[8*i:8*i+8])
			b.Decrypt(block[:], block[:])
			copy(out[8*i:], block[8:])
		}
	}
	if subtle.ConstantTimeCompare(block[:8], wrapIV[:]) != 1 {
		return nil, errUnwrap
	}
	return out[8:], nil
}

// A keyring is what one direction of a connection is encrypted with.
type keyring struct {
	salt   [16]byte
	keyLen int
	kek    cipher.Block
	keys   [3][]byte       // by keySlot; nil: unknown
	blocks [3]cipher.Block // of keys
}

// newKeyring makes one with a fresh even key.
func newKeyring(passphrase string, keyLen int) (*keyring, error) {
	r := &keyring{keyLen: keyLen}
	_, _ = rand.Read(r.salt[:]) // never fails
	var err error
	if r.kek, err = kek(passphrase, &r.salt, keyLen); err != nil {
		return nil, err
	}
	return r, r.renew(keyEven)
}

// openKeyring opens what a peer has wrapped. It derives a key, which takes a
// millisecond. The error is errUnwrap if the passphrase is another.
func openKeyring(passphrase string, m *keyMaterial) (*keyring, error) {
	r := &keyring{salt: m.salt, keyLen: m.keyLen}
	var err error
	if r.kek, err = kek(passphrase, &r.salt, m.keyLen); err != nil {
		return nil, err
	}
	return r, r.take(m)
}

// take opens further keys of the same peer.
func (r *keyring) take(m *keyMaterial) error {
	if m.keyLen != r.keyLen || m.salt != r.salt {
		return errUnwrap
	}
	keys, err := unwrap(r.kek, m.wrapped)
	if err != nil {
		return err
	}
	for _, slot := range [...]keySlot{keyEven, keyOdd} {
		if m.which&slot == 0 {
			continue
		}
		if err := r.set(slot, keys[:r.keyLen]); err != nil {
			return err
		}
		keys = keys[r.keyLen:]
	}
	return nil
}

func (r *keyring) set(slot keySlot, key []byte) (err error) {
	r.keys[slot] = append([]byte(nil), key...)
	r.blocks[slot], err = aes.NewCipher(key)
	return err
}

// renew makes a new key.
func (r *keyring) renew(slot keySlot) error {
	key := make([]byte, r.keyLen)
	_, _ = rand.Read(key)
	return r.set(slot, key)
}

// material wraps the keys of which.
func (r *keyring) material(which keySlot) *keyMaterial {
	var keys []byte
	for _, slot := range [...]keySlot{keyEven, keyOdd} {
		if which&slot != 0 {
			keys = append(keys, r.keys[slot]...)
		}
	}
	return &keyMaterial{which: which, keyLen: r.keyLen, salt: r.salt, wrapped: wrap(r.kek, keys)}
}

// xor encrypts or decrypts the payload of packet s from src to dst, which may
// be the same. It reports whether there is a key for it (draft 6.2.2).
func (r *keyring) xor(dst, src []byte, s seq, slot keySlot) bool {
	if r == nil || slot > keyOdd || r.blocks[slot] == nil {
		return false
	}
	var iv [16]byte
	copy(iv[:14], r.salt[:14])
	be.PutUint32(iv[10:], be.Uint32(iv[10:])^uint32(s))
	cipher.NewCTR(r.blocks[slot], iv[:]).XORKeyStream(dst, src)
	return true
}

// clone returns a keyring with the same keys, which are changed apart.
func (r *keyring) clone() *keyring {
	c := *r
	return &c
}
