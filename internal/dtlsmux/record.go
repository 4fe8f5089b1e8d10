package dtlsmux

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"slices"
)

// Records of DTLS 1.2 (RFC 6347 Section 4.1): type, version, epoch, sequence
// number, length; then, encrypted by AES-GCM (RFC 5288), the explicit half of
// the nonce, the ciphertext and the tag.
const (
	headerLen  = 1 + 2 + 2 + 6 + 2
	nonceLen   = 8
	tagLen     = 16
	maxPlain   = 1 << 14
	maxRecord  = maxPlain + 2048 // of the part that the length is of
	lastSeq    = 1<<48 - 1
	version12  = 0xfefd
	version10  = 0xfeff
	scratchLen = 13 + 12 // additional data and nonce of AES-GCM

	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeData             = 23
)

// Overhead is how many bytes a record adds to a payload.
const Overhead = headerLen + nonceLen + tagLen

// Spare is how much capacity beyond a record Append makes use of.
const Spare = scratchLen

// Errors of Append and Write.
var (
	errTooLong   = errors.New("dtlsmux: payload does not fit in a record")
	errExhausted = errors.New("dtlsmux: sequence numbers are used up")
)

// Is reports whether a datagram is DTLS rather than something else that may
// share its port (RFC 7983).
func Is(b []byte) bool {
	return len(b) >= headerLen && b[0] >= 20 && b[0] <= 63
}

// A record lies in the datagram that it came with.
type record struct {
	raw   []byte // all of it
	typ   byte
	epoch uint16
	seq   uint64
}

// body is what follows the header.
func (r *record) body() []byte { return r.raw[headerLen:] }

// cutRecord takes the first record off a datagram.
func cutRecord(b []byte) (r record, rest []byte, ok bool) {
	if len(b) < headerLen || b[1] != version12>>8 {
		return record{}, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[11:]))
	if n > maxRecord || n > len(b)-headerLen {
		return record{}, nil, false
	}
	r.raw = b[: headerLen+n : headerLen+n]
	r.typ = b[0]
	r.epoch = binary.BigEndian.Uint16(b[3:])
	r.seq = binary.BigEndian.Uint64(b[3:]) & lastSeq
	return r, b[headerLen+n:], true
}

// setSeq changes the sequence number of a record that is not encrypted.
func (r *record) setSeq(seq uint64) {
	binary.BigEndian.PutUint64(r.raw[3:], uint64(r.epoch)<<48|seq&lastSeq)
}

// A half is one direction of a connection: key and implicit half of the nonce.
type half struct {
	aead cipher.AEAD
	iv   [4]byte
}

func newHalf(key, iv []byte) (half, error) {
	var h half
	block, err := aes.NewCipher(key)
	if err != nil {
		return h, err
	}
	h.aead, err = cipher.NewGCM(block)
	copy(h.iv[:], iv)
	return h, err
}

// fill writes the additional data and the nonce of a record to s.
func (h *half) fill(s *[scratchLen]byte, typ byte, epochSeq uint64, plain int, explicit []byte) (aad, nonce []byte) {
	binary.BigEndian.PutUint64(s[0:], epochSeq)
	s[8] = typ
	binary.BigEndian.PutUint16(s[9:], version12)
	binary.BigEndian.PutUint16(s[11:], uint16(plain))
	copy(s[13:], h.iv[:])
	copy(s[17:], explicit)
	return s[:13], s[13:]
}

// seal appends the record of a payload of n bytes, in parts, with the given
// sequence number to dst. The explicit nonce is epoch and sequence number, which
// never come twice. What AES-GCM needs beside it is put behind the record in
// dst's spare capacity, so that it is not allocated.
func (h *half) seal(dst []byte, typ byte, seq uint64, n int, parts [][]byte) []byte {
	at := len(dst)
	end := at + Overhead + n
	dst = slices.Grow(dst, Overhead+n+scratchLen)[:end+scratchLen]
	rec := dst[at:end]
	epochSeq := uint64(1)<<48 | seq
	rec[0] = typ
	binary.BigEndian.PutUint16(rec[1:], version12)
	binary.BigEndian.PutUint64(rec[3:], epochSeq)
	binary.BigEndian.PutUint16(rec[11:], uint16(nonceLen+n+tagLen))
	binary.BigEndian.PutUint64(rec[headerLen:], epochSeq)
	text := rec[headerLen+nonceLen : headerLen+nonceLen+n]
	filled := 0
	for _, p := range parts {
		filled += copy(text[filled:], p)
	}
	aad, nonce := h.fill((*[scratchLen]byte)(dst[end:]), typ, epochSeq, n, rec[headerLen:headerLen+nonceLen])
	h.aead.Seal(text[:0], nonce, text, aad)
	return dst[:end]
}

// open decrypts a record in place. s is for its own use.
func (h *half) open(r *record, s *[scratchLen]byte) ([]byte, bool) {
	body := r.body()
	if len(body) < nonceLen+tagLen || len(body)-nonceLen-tagLen > maxPlain {
		return nil, false
	}
	text := body[nonceLen:]
	aad, nonce := h.fill(s, r.typ, uint64(r.epoch)<<48|r.seq, len(text)-tagLen, body[:nonceLen])
	plain, err := h.aead.Open(text[:0], nonce, text, aad)
	return plain, err == nil
}

// A window remembers which of the latest 64 sequence numbers came already (RFC
// 6347 Section 4.1.2.6).
type window struct {
	next uint64 // one more than the highest that came
	seen uint64 // bit i: next-1-i came
}

// fresh reports whether a record with seq may still be new.
func (w *window) fresh(seq uint64) bool {
	if seq >= w.next {
		return true
	}
	back := w.next - 1 - seq
	return back < 64 && w.seen>>back&1 == 0
}

// mark remembers seq, of a record that is authentic.
func (w *window) mark(seq uint64) {
	if seq >= w.next {
		w.seen = w.seen<<(seq+1-w.next) | 1 // a shift by 64 and more is 0 in Go
		w.next = seq + 1
		return
	}
	w.seen |= 1 << (w.next - 1 - seq)
}
