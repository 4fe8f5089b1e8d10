package s3store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/runnel-media/runnel/internal/seek"
	"github.com/runnel-media/runnel/stream"
)

// head is how much of a file is fetched when it is opened: all of most.
const head = 256 << 10

// A reader has the first bytes of an object, and fetches others when they are read.
type reader struct {
	s    *Store
	ctx  context.Context
	info stream.StorageInfo
	key  string
	etag string
	head []byte
	at   int64

	body   io.ReadCloser // from bodyAt on, or nil
	bodyAt int64
}

// Open implements stream.Storage.
func (s *Store) Open(ctx context.Context, name string) (stream.StorageReader, error) {
	core, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	key, err := s.name(name)
	if err != nil {
		return nil, err
	}
	r := &reader{s: s, ctx: ctx, key: key}
	var o minio.GetObjectOptions
	if err := o.SetRange(0, head-1); err != nil {
		return nil, wrap(err)
	}
	body, info, header, err := core.GetObject(ctx, s.Bucket, key, o)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable { // it is empty
		info, err = core.StatObject(ctx, s.Bucket, key, minio.StatObjectOptions{})
		body, header = http.NoBody, nil
	}
	if err != nil {
		return nil, wrap(err)
	}
	defer body.Close()
	size := info.Size
	if _, total, ok := strings.Cut(header.Get("Content-Range"), "/"); ok {
		if size, err = strconv.ParseInt(total, 10, 64); err != nil || size < 0 {
			return nil, errors.New("s3store: the server sends no size")
		}
	}
	r.info = stream.StorageInfo{Name: name, Size: size, ModTime: info.LastModified}
	r.etag = info.ETag
	if r.head, err = io.ReadAll(io.LimitReader(body, min(size, head))); err == nil && int64(len(r.head)) < min(size, head) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, wrap(err)
	}
	return r, nil
}

// Info implements stream.StorageReader.
func (r *reader) Info() stream.StorageInfo { return r.info }

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.at >= r.info.Size {
		return 0, io.EOF
	}
	if r.at < int64(len(r.head)) {
		n := copy(p, r.head[r.at:])
		r.at += int64(n)
		return n, nil
	}
	if r.body == nil || r.bodyAt != r.at {
		if err := r.fetch(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	r.bodyAt += int64(n)
	if errors.Is(err, io.EOF) {
		if err = nil; r.at < r.info.Size {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		err = wrap(err)
	}
	return n, err
}

// near is how far ahead a seek may be for which the rest of a body is read through
// rather than a new one fetched.
const near = 128 << 10

// fetch has body be at r.at.
func (r *reader) fetch() error {
	if skip := r.at - r.bodyAt; r.body != nil && skip > 0 && skip <= near {
		if _, err := io.CopyN(io.Discard, r.body, skip); err == nil {
			r.bodyAt = r.at
			return nil
		}
	}
	r.drop()
	var o minio.GetObjectOptions
	err := o.SetRange(r.at, 0) // up to the end
	if err == nil && r.etag != "" {
		err = o.SetMatchETag(r.etag)
	}
	if err != nil {
		return wrap(err)
	}
	body, _, _, err := r.s.core.GetObject(r.ctx, r.s.Bucket, r.key, o)
	if err != nil {
		return wrap(err)
	}
	r.body, r.bodyAt = body, r.at
	return nil
}

func (r *reader) drop() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

// Seek implements io.Seeker. It asks nothing of the server.
func (r *reader) Seek(offset int64, whence int) (at int64, err error) {
	r.at, err = seek.To(r.at, r.info.Size, offset, whence)
	return r.at, err
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.drop()
	return nil
}
