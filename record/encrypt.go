package record

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/runnel-media/runnel/internal/seek"
	"github.com/runnel-media/runnel/stream"
)

// Keys provides the keys that files are encrypted with: 32 random bytes each, under
// names of at most 55 bytes. Its methods may be called from many goroutines at once.
type Keys interface {
	// Current returns the key for new files. Replace it as often as you like.
	Current(ctx context.Context) (id string, key []byte, err error)
	// Key returns the key with a name, for files that have been written.
	Key(ctx context.Context, id string) (key []byte, err error)
}

// Encrypt returns a storage that keeps files encrypted in s: AES-256-GCM in chunks of
// 64 KiB, with a key of its own for each file, which is derived from one of keys. A
// file can only be read whole or in part as it was written and under its name; what
// has been changed, cut, extended or renamed fails with ErrTampered. Names, sizes and
// times stay visible. If s keeps drafts, so does what is returned.
func Encrypt(s stream.Storage, keys Keys) stream.Storage {
	e := &encrypted{s, keys}
	if ds, ok := s.(DraftStorage); ok {
		return &encryptedDrafts{e, ds}
	}
	return e
}

// A file is a header and chunks:
//
//	magic 8 · length of the key's name 1, the name, zeros up to 56 · salt 32
//	nonce 12 · at most chunkSize bytes, encrypted · tag 16
//
// Each chunk but the last is full. The number of a chunk, and what kind it is, are
// authenticated with it.
const (
	cryptMagic  = "RNLCRYP1"
	cryptHeader = 96
	chunkSize   = 64 << 10
	nonceSize   = 12
	sealSize    = nonceSize + 16
	sealedSize  = chunkSize + sealSize
)

// Kinds of chunks.
const (
	chunkMore  = iota // others follow
	chunkLast         // the file ends with it
	chunkDraft        // the file is being written, and it will be replaced
)

type encrypted struct {
	s    stream.Storage
	keys Keys
}

// A sealer encrypts and decrypts the chunks of one file.
type sealer struct {
	header []byte
	aead   cipher.AEAD
}

func newSealer(key, header []byte, name string) (*sealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("record: key of %d bytes, not 32", len(key))
	}
	derived, err := hkdf.Key(sha256.New, key, header, "runnel recording\n"+name, 32)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &sealer{header, aead}, nil
}

// create makes the sealer of a new file.
func (e *encrypted) create(ctx context.Context, name string) (*sealer, error) {
	id, key, err := e.keys.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("record: key: %w", err)
	}
	if len(id) > 55 {
		return nil, fmt.Errorf("record: name of a key with %d bytes, more than 55", len(id))
	}
	h := append([]byte(cryptMagic), byte(len(id)))
	h = append(h, id...)
	h = append(h, make([]byte, cryptHeader-len(h))...)
	_, _ = rand.Read(h[64:]) // never fails
	return newSealer(key, h, name)
}

// open makes the sealer of a file that begins with h.
func (e *encrypted) open(ctx context.Context, h []byte, name string) (*sealer, error) {
	if string(h[:8]) != cryptMagic || h[8] > 55 {
		return nil, fmt.Errorf("%w: %q is not encrypted as it should be", ErrTampered, name)
	}
	key, err := e.keys.Key(ctx, string(h[9:9+h[8]]))
	if err != nil {
		return nil, fmt.Errorf("record: key: %w", err)
	}
	return newSealer(key, h, name)
}

func (s *sealer) aad(number int64, kind byte) []byte {
	var b [9]byte
	binary.BigEndian.PutUint64(b[:], uint64(number))
	b[8] = kind
	return b[:]
}

// seal appends a chunk to dst.
func (s *sealer) seal(dst, plain []byte, number int64, kind byte) []byte {
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return s.aead.Seal(append(dst, nonce[:]...), nonce[:], plain, s.aad(number, kind))
}

// unseal decrypts a chunk in place.
func (s *sealer) unseal(b []byte, number int64, kind byte) ([]byte, error) {
	if len(b) < sealSize {
		return nil, fmt.Errorf("%w: half a chunk", ErrTampered)
	}
	plain, err := s.aead.Open(b[nonceSize:nonceSize], b[:nonceSize], b[nonceSize:], s.aad(number, kind))
	if err != nil {
		return nil, fmt.Errorf("%w: chunk %d", ErrTampered, number)
	}
	return plain, nil
}

// plainSize returns the bytes in a file of size bytes, and its chunks.
func plainSize(size int64) (plain, chunks int64, ok bool) {
	body := size - cryptHeader
	chunks = (body + sealedSize - 1) / sealedSize
	plain = body - chunks*sealSize
	return plain, chunks, body >= sealSize && body-(chunks-1)*sealedSize >= sealSize
}

func (e *encrypted) Create(ctx context.Context, name string) (stream.StorageWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := stream.CheckStorageName(name); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	s, err := e.create(ctx, name)
	if err != nil {
		return nil, err
	}
	w, err := e.s.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return &sealWriter{StorageWriter: w, s: s}, nil
}

// A sealWriter holds the last bytes back, since the last chunk is of its own kind.
type sealWriter struct {
	stream.StorageWriter
	s      *sealer
	number int64
	plain  []byte
	sealed []byte
	closed bool
}

func (w *sealWriter) Write(p []byte) (n int, err error) {
	if w.closed {
		return 0, errDone
	}
	for len(p) > 0 {
		if len(w.plain) == chunkSize {
			if err := w.put(chunkMore); err != nil {
				return n, err
			}
		}
		k := min(len(p), chunkSize-len(w.plain))
		w.plain = append(w.plain, p[:k]...)
		p, n = p[k:], n+k
	}
	return n, nil
}

func (w *sealWriter) put(kind byte) error {
	w.sealed = w.sealed[:0]
	if w.number == 0 {
		w.sealed = append(w.sealed, w.s.header...)
	}
	w.sealed = w.s.seal(w.sealed, w.plain, w.number, kind)
	w.number, w.plain = w.number+1, w.plain[:0]
	_, err := w.StorageWriter.Write(w.sealed)
	return err
}

func (w *sealWriter) Close() error {
	if w.closed {
		return errDone
	}
	if err := w.put(chunkLast); err != nil {
		_ = w.Abort()
		return err
	}
	w.closed = true
	return w.StorageWriter.Close()
}

func (w *sealWriter) Abort() error {
	w.closed = true
	return w.StorageWriter.Abort()
}

func (e *encrypted) Open(ctx context.Context, name string) (stream.StorageReader, error) {
	f, err := e.s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := e.reader(ctx, f, chunkLast)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// reader makes a reader of a file whose last chunk is of a kind, and looks whether it
// is: else the size would be anybody's word.
func (e *encrypted) reader(ctx context.Context, f stream.StorageReader, kind byte) (*sealReader, error) {
	info := f.Info()
	size, chunks, ok := plainSize(info.Size)
	if !ok {
		return nil, fmt.Errorf("%w: %q has %d bytes", ErrTampered, info.Name, info.Size)
	}
	h := make([]byte, cryptHeader)
	if _, err := io.ReadFull(f, h); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	s, err := e.open(ctx, h, info.Name)
	if err != nil {
		return nil, err
	}
	info.Size = size
	r := &sealReader{f: f, s: s, ctx: ctx, info: info, chunks: chunks, last: kind, number: -1}
	return r, r.load(chunks - 1)
}

// A sealReader decrypts a chunk at a time.
type sealReader struct {
	f      stream.StorageReader
	s      *sealer
	ctx    context.Context
	info   stream.StorageInfo
	chunks int64
	last   byte // kind of the last chunk
	at     int64

	number int64 // of plain
	plain  []byte
	buf    []byte
	fAt    int64 // where f is
}

func (r *sealReader) load(number int64) error {
	if r.number == number {
		return nil
	}
	offset := cryptHeader + number*sealedSize
	size, kind := int64(sealedSize), byte(chunkMore)
	if number == r.chunks-1 {
		size, kind = cryptHeader+r.info.Size+r.chunks*sealSize-offset, r.last
	}
	if r.fAt != offset {
		if _, err := r.f.Seek(offset, io.SeekStart); err != nil {
			return err
		}
	}
	if r.buf == nil {
		r.buf = make([]byte, sealedSize)
	}
	r.number, r.fAt = -1, -1
	if _, err := io.ReadFull(r.f, r.buf[:size]); err != nil {
		return noEOF(err)
	}
	plain, err := r.s.unseal(r.buf[:size], number, kind)
	if err != nil {
		return fmt.Errorf("%q: %w", r.info.Name, err)
	}
	r.number, r.plain, r.fAt = number, plain, offset+size
	return nil
}

func (r *sealReader) Info() stream.StorageInfo { return r.info }

func (r *sealReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.at >= r.info.Size {
		return 0, io.EOF
	}
	if err := r.load(r.at / chunkSize); err != nil {
		return 0, err
	}
	n := copy(p, r.plain[r.at%chunkSize:])
	r.at += int64(n)
	return n, nil
}

func (r *sealReader) Seek(offset int64, whence int) (at int64, err error) {
	r.at, err = seek.To(r.at, r.info.Size, offset, whence)
	return r.at, err
}

func (r *sealReader) Close() error { return r.f.Close() }

func (e *encrypted) List(ctx context.Context, prefix string) iter.Seq2[stream.StorageInfo, error] {
	return func(yield func(stream.StorageInfo, error) bool) {
		for info, err := range e.s.List(ctx, prefix) {
			if size, _, ok := plainSize(info.Size); ok {
				info.Size = size
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func (e *encrypted) Remove(ctx context.Context, name string) error { return e.s.Remove(ctx, name) }

// StaticKeys are keys in memory: the first is for new files.
type StaticKeys []StaticKey

// A StaticKey is 32 random bytes, and what they are called.
type StaticKey struct {
	ID  string
	Key []byte
}

var errNoKey = errors.New("record: no such key")

// Current implements Keys.
func (k StaticKeys) Current(context.Context) (string, []byte, error) {
	if len(k) == 0 {
		return "", nil, errNoKey
	}
	return k[0].ID, bytes.Clone(k[0].Key), nil
}

// Key implements Keys.
func (k StaticKeys) Key(_ context.Context, id string) ([]byte, error) {
	for _, one := range k {
		if one.ID == id {
			return bytes.Clone(one.Key), nil
		}
	}
	return nil, fmt.Errorf("%w: %q", errNoKey, id)
}
