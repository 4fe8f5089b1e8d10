package record

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/runnel-media/runnel/stream"
)

// encryptedDrafts is an encrypted storage that keeps drafts. What has been written is
// all there after each Write, with a last chunk of kind chunkDraft that is replaced
// by the next.
type encryptedDrafts struct {
	*encrypted
	drafts DraftStorage
}

type sealDraft struct {
	Draft
	e      *encryptedDrafts
	s      *sealer
	number int64  // of the last chunk
	plain  []byte // in it
	buf    []byte
}

// CreateDraft implements DraftStorage.
func (e *encryptedDrafts) CreateDraft(ctx context.Context, name string, note []byte) (Draft, error) {
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
	d, err := e.drafts.CreateDraft(ctx, name, note)
	if err != nil {
		return nil, err
	}
	if _, err := d.Write(s.header); err != nil {
		_ = d.Remove()
		return nil, err
	}
	return &sealDraft{Draft: d, e: e, s: s, plain: make([]byte, 0, chunkSize)}, nil
}

// Drafts implements DraftStorage. It leaves those alone that cannot be decrypted.
func (e *encryptedDrafts) Drafts(ctx context.Context) iter.Seq2[Draft, error] {
	return func(yield func(Draft, error) bool) {
		for d, err := range e.drafts.Drafts(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			sealed, err := e.reopen(ctx, d)
			if err != nil {
				_ = d.Leave()
				continue
			}
			if !yield(sealed, nil) {
				return
			}
		}
	}
}

// reopen finds out how far a draft goes.
func (e *encryptedDrafts) reopen(ctx context.Context, d Draft) (*sealDraft, error) {
	f, err := d.Reader(ctx)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := make([]byte, cryptHeader)
	if _, err := io.ReadFull(f, h); err != nil {
		return nil, noEOF(err)
	}
	s, err := e.open(ctx, h, d.Name())
	if err != nil {
		return nil, err
	}
	sealed := &sealDraft{Draft: d, e: e, s: s, plain: make([]byte, 0, chunkSize)}
	// The last chunk may be half there, and the one before it is whole then.
	_, chunks, _ := plainSize(d.Size())
	for number := chunks - 1; number >= 0 && number >= chunks-2; number-- {
		for _, kind := range []byte{chunkDraft, chunkMore, chunkLast} {
			b := make([]byte, min(sealedSize, d.Size()-cryptHeader-number*sealedSize))
			if _, err := f.Seek(cryptHeader+number*sealedSize, io.SeekStart); err != nil {
				return nil, err
			}
			if _, err := io.ReadFull(f, b); err != nil {
				return nil, noEOF(err)
			}
			plain, err := s.unseal(b, number, kind)
			if err != nil {
				continue
			}
			sealed.number, sealed.plain = number, append(sealed.plain, plain...)
			return sealed, d.Truncate(cryptHeader + number*sealedSize + int64(len(b)))
		}
	}
	return sealed, d.Truncate(cryptHeader)
}

func (d *sealDraft) Size() int64 { return d.number*chunkSize + int64(len(d.plain)) }

func (d *sealDraft) Write(p []byte) (n int, err error) {
	offset := cryptHeader + d.number*sealedSize
	d.buf = d.buf[:0]
	for len(p) > 0 {
		if len(d.plain) == chunkSize {
			d.buf = d.s.seal(d.buf, d.plain, d.number, chunkMore)
			d.number, d.plain = d.number+1, d.plain[:0]
		}
		k := min(len(p), chunkSize-len(d.plain))
		d.plain = append(d.plain, p[:k]...)
		p, n = p[k:], n+k
	}
	d.buf = d.s.seal(d.buf, d.plain, d.number, chunkDraft)
	_, err = d.Draft.WriteAt(d.buf, offset)
	return n, err
}

func (d *sealDraft) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("record: encrypted draft: %w", stream.ErrUnsupported)
}

func (d *sealDraft) Reader(ctx context.Context) (stream.StorageReader, error) {
	f, err := d.Draft.Reader(ctx)
	if err != nil {
		return nil, err
	}
	r, err := d.e.reader(ctx, f, chunkDraft)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (d *sealDraft) Truncate(size int64) error {
	if size < 0 || size > d.Size() {
		return fmt.Errorf("record: truncation of %d bytes to %d", d.Size(), size)
	}
	number := size / chunkSize
	if number != d.number {
		f, err := d.Draft.Reader(context.Background())
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, sealedSize)
		if _, err := f.Seek(cryptHeader+number*sealedSize, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.ReadFull(f, b); err != nil {
			return noEOF(err)
		}
		plain, err := d.s.unseal(b, number, chunkMore)
		if err != nil {
			return err
		}
		d.number, d.plain = number, append(d.plain[:0], plain...)
	}
	d.plain = d.plain[:size-number*chunkSize]
	return d.end(chunkDraft)
}

// end writes the last chunk anew, as one of a kind.
func (d *sealDraft) end(kind byte) error {
	offset := cryptHeader + d.number*sealedSize
	if err := d.Draft.Truncate(offset); err != nil {
		return err
	}
	_, err := d.Draft.Write(d.s.seal(nil, d.plain, d.number, kind))
	return err
}

func (d *sealDraft) Publish(ctx context.Context) error {
	if err := d.end(chunkLast); err != nil {
		_ = d.Draft.Leave()
		return err
	}
	return d.Draft.Publish(ctx)
}
