// Package s3store is a stream.Storage in a bucket of Amazon S3 or a server with its
// protocol. It links minio-go, which no other package does.
package s3store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/runnel-media/runnel/stream"
)

// A Store keeps each file as an object. Set the fields before first use.
//
// A file is sent while it is written, in parts, and is there when Close has
// completed it; what is sent of a file that is aborted is removed. What a process
// leaves that is killed meanwhile is invisible, but is paid for: Clean removes it,
// and so does a lifecycle rule of the bucket.
//
// A reader that is farther than 256 KiB into a file fails if another takes its place
// meanwhile, or it is removed: a bucket keeps no file for who has it open.
type Store struct {
	Endpoint string // host[:port]
	Plain    bool   // HTTP instead of HTTPS
	Region   string // "": asked of the server
	Bucket   string // that exists
	Prefix   string // before all names; it should end with a slash

	AccessKey, SecretKey, SessionToken string

	// Encryption on the server: "" as the bucket has it, "AES256" with its own
	// keys, "aws:kms" with KMSKey.
	Encryption, KMSKey string

	// PartSize is the bytes that are collected in memory of each file before they
	// are sent. 0: 8 MiB. S3 takes no less than 5 MiB, and 10,000 parts.
	PartSize int

	// Retries is how often a request is tried that fails for a reason that may
	// pass. 0: 5.
	Retries int

	Transport http.RoundTripper // nil: minio-go's own

	once sync.Once
	core *minio.Core
	sse  encrypt.ServerSide
	err  error // of the settings
}

// Parse reads a URL, https://KEY:SECRET@HOST/BUCKET/PREFIX?region=…&sse=…&kms=…, or
// http for servers without TLS.
func Parse(text string) (*Store, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("s3store: not a URL") // whose text has the secret
	}
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || bucket == "" {
		return nil, errors.New("s3store: not of the form https://KEY:SECRET@HOST/BUCKET/PREFIX")
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	s := &Store{Endpoint: u.Host, Plain: u.Scheme == "http", Bucket: bucket, Prefix: prefix}
	if u.User != nil {
		s.AccessKey = u.User.Username()
		s.SecretKey, _ = u.User.Password()
	}
	for k, v := range u.Query() {
		switch k {
		case "region":
			s.Region = v[0]
		case "sse":
			s.Encryption = v[0]
		case "kms":
			s.KMSKey = v[0]
		default:
			return nil, fmt.Errorf("s3store: unknown parameter %q", k)
		}
	}
	return s, nil
}

// begin is what every method begins with.
func (s *Store) begin(ctx context.Context) (*minio.Core, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.once.Do(s.open)
	return s.core, s.err
}

func (s *Store) open() {
	switch s.Encryption {
	case "":
	case "AES256":
		s.sse = encrypt.NewSSE()
	case "aws:kms":
		s.sse, s.err = encrypt.NewSSEKMS(s.KMSKey, nil)
	default:
		s.err = fmt.Errorf("s3store: unknown encryption %q", s.Encryption)
	}
	if s.err != nil {
		return
	}
	s.core, s.err = minio.NewCore(s.Endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey, s.SecretKey, s.SessionToken),
		Secure: !s.Plain, Region: s.Region, Transport: s.Transport, MaxRetries: cmp.Or(s.Retries, 5),
	})
	if s.err != nil {
		s.err = fmt.Errorf("s3store: %w", s.err)
	}
}

func (s *Store) name(name string) (string, error) {
	if err := stream.CheckStorageName(name); err != nil {
		return "", fmt.Errorf("s3store: %w", err)
	}
	return s.Prefix + name, nil
}

// wrap makes an error one that callers can branch on.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	r := minio.ToErrorResponse(err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case r.Code == minio.NoSuchKey, r.Code == "" && r.StatusCode == http.StatusNotFound:
		return fmt.Errorf("s3store: %w (%w)", fs.ErrNotExist, err)
	case r.Code == minio.AccessDenied:
		return fmt.Errorf("s3store: %w (%w)", fs.ErrPermission, err)
	}
	return fmt.Errorf("s3store: %w", err)
}

// List implements stream.Storage.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[stream.StorageInfo, error] {
	return func(yield func(stream.StorageInfo, error) bool) {
		core, err := s.begin(ctx)
		if from := strings.TrimSuffix(prefix, "/"); err == nil && prefix != "" {
			_, err = s.name(from)
		}
		if err != nil {
			yield(stream.StorageInfo{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range core.ListObjectsIter(ctx, s.Bucket, minio.ListObjectsOptions{Prefix: s.Prefix + prefix, Recursive: true}) {
			if o.Err != nil {
				yield(stream.StorageInfo{}, wrap(o.Err))
				return
			}
			name := strings.TrimPrefix(o.Key, s.Prefix)
			if stream.CheckStorageName(name) != nil {
				continue // not ours
			}
			if !yield(stream.StorageInfo{Name: name, Size: o.Size, ModTime: o.LastModified}, nil) {
				return
			}
		}
	}
}

// Remove implements stream.Storage.
func (s *Store) Remove(ctx context.Context, name string) error {
	core, err := s.begin(ctx)
	if err != nil {
		return err
	}
	key, err := s.name(name)
	if err != nil {
		return err
	}
	// S3 is content to remove what is not there.
	if _, err := core.StatObject(ctx, s.Bucket, key, minio.StatObjectOptions{}); err != nil {
		return wrap(err)
	}
	return wrap(core.RemoveObject(ctx, s.Bucket, key, minio.RemoveObjectOptions{}))
}

// Clean removes what is left of files that were not completed, and that were begun
// longer ago than age. It returns how many that was.
func (s *Store) Clean(ctx context.Context, age time.Duration) (removed int, err error) {
	core, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range core.ListIncompleteUploads(ctx, s.Bucket, s.Prefix, true) {
		if u.Err != nil {
			return removed, wrap(u.Err)
		}
		if time.Since(u.Initiated) < age {
			continue
		}
		if err := core.AbortMultipartUpload(ctx, s.Bucket, u.Key, u.UploadID); err != nil {
			return removed, wrap(err)
		}
		removed++
	}
	return removed, nil
}

// Create implements stream.Storage.
func (s *Store) Create(ctx context.Context, name string) (stream.StorageWriter, error) {
	if _, err := s.begin(ctx); err != nil {
		return nil, err
	}
	key, err := s.name(name)
	if err != nil {
		return nil, err
	}
	return &writer{s: s, ctx: ctx, key: key}, nil
}

// A writer collects a part at a time.
type writer struct {
	s      *Store
	ctx    context.Context
	key    string
	buf    []byte
	upload string // ID of the upload, if there is one
	parts  []minio.CompletePart
	err    error
	done   bool
}

var errDone = fmt.Errorf("s3store: file: %w", fs.ErrClosed)

// maxParts is how many parts S3 takes.
const maxParts = 10_000

// Write implements io.Writer. It blocks while a part is sent.
func (w *writer) Write(p []byte) (n int, err error) {
	if w.done {
		return 0, errDone
	}
	size := cmp.Or(w.s.PartSize, 8<<20)
	for len(p) > 0 {
		if w.err == nil {
			w.err = w.ctx.Err()
		}
		if w.err != nil {
			return n, w.err
		}
		if w.buf == nil {
			w.buf = make([]byte, 0, min(size, max(64<<10, len(p))))
		}
		k := min(len(p), size-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(w.buf) == size {
			w.err = w.send()
		}
	}
	return n, w.err
}

// send sends what has been collected as a part.
func (w *writer) send() (err error) {
	if len(w.parts) == maxParts {
		return fmt.Errorf("s3store: file of more than %d parts: %w", maxParts, errors.ErrUnsupported)
	}
	if w.upload == "" {
		if w.upload, err = w.s.core.NewMultipartUpload(w.ctx, w.s.Bucket, w.key, w.options()); err != nil {
			return wrap(err)
		}
	}
	part, err := w.s.core.PutObjectPart(w.ctx, w.s.Bucket, w.key, w.upload, len(w.parts)+1,
		bytes.NewReader(w.buf), int64(len(w.buf)), minio.PutObjectPartOptions{})
	if err != nil {
		return wrap(err)
	}
	w.parts = append(w.parts, minio.CompletePart{PartNumber: part.PartNumber, ETag: part.ETag,
		ChecksumCRC32: part.ChecksumCRC32, ChecksumCRC32C: part.ChecksumCRC32C, ChecksumSHA1: part.ChecksumSHA1,
		ChecksumSHA256: part.ChecksumSHA256, ChecksumCRC64NVME: part.ChecksumCRC64NVME})
	w.buf = w.buf[:0]
	return nil
}

var types = map[string]string{
	"mp4": "video/mp4", "m4s": "video/mp4", "flv": "video/x-flv", "m3u8": "application/vnd.apple.mpegurl", "json": "application/json",
}

func (w *writer) options() minio.PutObjectOptions {
	ext := w.key[strings.LastIndexByte(w.key, '.')+1:]
	return minio.PutObjectOptions{ServerSideEncryption: w.s.sse, ContentType: cmp.Or(types[ext], "application/octet-stream"), DisableMultipart: true}
}

// Close implements stream.StorageWriter.
func (w *writer) Close() error {
	if w.done {
		return errDone
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil && w.upload != "" && len(w.buf) > 0 {
		w.err = w.send()
	}
	if w.err == nil {
		if w.upload == "" {
			_, w.err = w.s.core.Client.PutObject(w.ctx, w.s.Bucket, w.key, bytes.NewReader(w.buf), int64(len(w.buf)), w.options())
		} else {
			_, w.err = w.s.core.CompleteMultipartUpload(w.ctx, w.s.Bucket, w.key, w.upload, w.parts, minio.PutObjectOptions{})
		}
		w.err = wrap(w.err)
	}
	if w.err != nil {
		_ = w.Abort()
		return w.err
	}
	w.done, w.buf = true, nil
	return nil
}

// Abort implements stream.StorageWriter.
func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done, w.buf = true, nil
	if w.upload == "" {
		return nil
	}
	// Also when the writing was cut off: what has been sent costs money.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTimeout)
	defer cancel()
	return wrap(w.s.core.AbortMultipartUpload(ctx, w.s.Bucket, w.key, w.upload))
}

const abortTimeout = 10 * time.Second
