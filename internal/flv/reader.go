package flv

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Reader reads an FLV byte stream, such as a file or the body of a POST, and
// feeds its tags to a Demuxer. It is not safe for concurrent use.
type Reader struct {
	R       io.Reader        // read through a buffer of its own
	Demuxer *Demuxer         // what its Tag returns ends Next
	Now     func() time.Time // of a tag's arrival; time.Now if nil

	br    *bufio.Reader
	clock Clock
	head  [TagHeaderSize]byte
}

// Sizes of Reader: a header that is declared longer than maxFileHeader is
// garbage, and no more than bodyStep is allocated for a tag before as much of
// it has arrived.
const (
	readBuffer    = 16 << 10
	maxFileHeader = 4 << 10
	bodyStep      = 64 << 10
)

// ReadAll reads tags until the stream or the Demuxer ends. Tags of a codec that
// is not carried do not stop it, but at the end of the stream it returns the
// first error about one; otherwise nil, if the end is between two tags.
func (r *Reader) ReadAll() error {
	var unsupported error
	for {
		err := r.Next()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return unsupported
		case !errors.Is(err, stream.ErrUnsupported):
			return err
		case unsupported == nil:
			unsupported = err
		}
	}
}

// Next reads one tag (the first time, the file's header before it) and gives
// it to the Demuxer. It blocks until R has it. The error is io.EOF at the end
// of the stream, io.ErrUnexpectedEOF inside a tag, one that wraps ErrMalformed
// for bytes that are not FLV, and otherwise R's or that of Demuxer.Tag, after
// which Next can be called again.
func (r *Reader) Next() error {
	if r.br == nil {
		r.br = bufio.NewReaderSize(r.R, readBuffer)
		if err := r.fileHeader(); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(r.br, r.head[:]); err != nil {
		return err
	}
	// Bit 5 says that the body is encrypted.
	typ, size := r.head[0], uint24(r.head[1:])
	if typ != TagAudio && typ != TagVideo && typ != TagData {
		return fmt.Errorf("%w: tag of type %d", ErrMalformed, typ)
	}
	ts := uint32(r.head[7])<<24 | uint32(uint24(r.head[4:]))
	body, err := readBody(r.br, size)
	if err != nil {
		return noEOF(err)
	}
	if _, err := r.br.Discard(TagEndSize); err != nil && !errors.Is(err, io.EOF) {
		return err // many a stream ends without its last size
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	return r.Demuxer.Tag(typ, r.clock.Unwrap(ts), body, now())
}

func (r *Reader) fileHeader() error {
	var h [9]byte
	if _, err := io.ReadFull(r.br, h[:]); err != nil {
		return err
	}
	offset := binary.BigEndian.Uint32(h[5:])
	if string(h[:3]) != "FLV" || offset < uint32(len(h)) || offset > maxFileHeader {
		return fmt.Errorf("%w: no file header", ErrMalformed)
	}
	_, err := r.br.Discard(int(offset) - len(h) + TagEndSize)
	return noEOF(err)
}

// readBody reads n bytes into a slice of its own, allocating as they arrive.
func readBody(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, min(n, bodyStep))
	for at := 0; ; {
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
		if len(b) == n {
			return b, nil
		}
		at = len(b)
		more := make([]byte, min(n, 2*len(b)))
		copy(more, b)
		b = more
	}
}

// noEOF says that a stream must not end here.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A Clock unwraps 32-bit timestamps. Its zero value is ready.
type Clock struct {
	last    int64
	started bool
}

// Unwrap returns the timestamp in 64 bits: the one nearest to the last among
// those that have these low bits. The first is as it is.
func (c *Clock) Unwrap(ts uint32) int64 {
	if !c.started {
		c.started, c.last = true, int64(ts)
		return c.last
	}
	c.last += int64(int32(ts - uint32(c.last)))
	return c.last
}
