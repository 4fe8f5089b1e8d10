package hls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
)

// A Key encrypts some segments in a row of one rendition.
type Key struct {
	Number uint64
	Bytes  [16]byte

	name string
}

// Name returns the key's name, such as "v3.key". It is that of the URI in the
// playlist, relative to it.
func (k *Key) Name() string { return k.name }

func newKey(r Rendition, number uint64) *Key {
	k := &Key{Number: number, name: string(appendName(nil, name{r: r, kind: kindKey, number: number}))}
	_, _ = rand.Read(k.Bytes[:]) // never fails
	return k
}

// A sealer encrypts what is written to it piece by piece as one AES-128 CBC
// message with PKCS #7 padding (bis 4.4.4.4). Each piece comes out in a buffer of
// its own.
type sealer struct {
	cbc   cipher.BlockMode
	carry []byte // plaintext of less than a block
}

// newSealer returns a sealer for a segment with the Media Sequence Number seq,
// or for a part of it: the number is the IV (bis 5.2).
func newSealer(k *Key, seq uint64) *sealer {
	block, err := aes.NewCipher(k.Bytes[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], seq)
	return &sealer{cbc: cipher.NewCBCEncrypter(block, iv[:])}
}

// seal returns the ciphertext of the whole blocks that b completes, and with
// last the padding too.
func (s *sealer) seal(b []byte, last bool) []byte {
	n := len(s.carry) + len(b)
	rest := n % aes.BlockSize
	whole := n - rest
	if last {
		whole += aes.BlockSize
	}
	out := make([]byte, 0, max(whole, n))
	out = append(append(out, s.carry...), b...)
	if last {
		pad := byte(aes.BlockSize - rest)
		for range pad {
			out = append(out, pad)
		}
	}
	s.carry = append(s.carry[:0], out[whole:]...)
	out = out[:whole]
	s.cbc.CryptBlocks(out, out)
	return out
}
