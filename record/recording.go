package record

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A recording is a file, or a directory, that is being written.
type recording struct {
	r      *Recorder
	info   Info
	cancel context.CancelFunc // of the writing; nil: it is the caller's
	target

	begun      bool
	start, end time.Duration // of what was written, on the stream's clock
	steps      []step
}

// A step is what is known of a track's timing.
type step struct {
	track      *stream.Track
	last, step time.Duration
}

// A target is where the frames of one recording go.
type target interface {
	takes(f *stream.Frame) verdict
	write(f *stream.Frame) error
	written() int64 // bytes
	// complete ends the writing, which failed with an error if that is not nil,
	// and returns what there is. ctx bounds it. next is the DTS of the picture
	// that follows elsewhere, or 0. errEmpty: there is nothing.
	complete(ctx context.Context, next time.Duration, failed error) ([]FileInfo, error)
}

var errEmpty = errors.New("record: nothing to keep")

// begin begins a recording whose first frame is f. info says what is known.
func (r *Recorder) begin(ctx context.Context, info *Info, f *stream.Frame, live *stream.Stream) (*recording, error) {
	rec := &recording{r: r, info: *info}
	rec.info.Start, rec.info.Format = rec.info.Start.Round(0).UTC(), r.Format
	zone := r.Location
	if zone == nil {
		zone = time.UTC
	}
	base, err := r.template.expand(&rec.info, zone)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if rec.info.Name, err = r.reserve(ctx, base); err != nil {
		return nil, err
	}
	if r.Format == HLS {
		rec.target = newHLSTarget(ctx, r, &rec.info, live)
	} else {
		rec.target, err = r.newFile(ctx, &rec.info, live)
	}
	if err != nil {
		r.release(rec.info.Name)
		return nil, err
	}
	r.Hub.ReportRecording(stream.RecordingStarted{Time: time.Now(), Stream: info.Stream, Name: rec.info.Name})
	return rec, nil
}

// reserve returns the name of a file that is not there.
func (r *Recorder) reserve(ctx context.Context, base string) (string, error) {
	for n := 1; n < 1000; n++ {
		name := base
		if n > 1 {
			name += "-" + strconv.Itoa(n)
		}
		if r.Format == HLS {
			name += "/" + hlsIndex
		} else {
			name += "." + r.Format.String()
		}
		if err := stream.CheckStorageName(name + manifestSuffix); err != nil {
			return "", fmt.Errorf("record: %w", err)
		}
		r.mu.Lock()
		_, taken := r.names[name]
		if !taken {
			if r.names == nil {
				r.names = make(map[string]struct{})
			}
			r.names[name] = struct{}{}
		}
		r.mu.Unlock()
		if taken {
			continue
		}
		there, err := exists(ctx, r.Storage, name)
		if err == nil && !there {
			return name, nil
		}
		r.release(name)
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("record: too many files are called %s: %w", base, fs.ErrExist)
}

func (r *Recorder) release(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, name)
}

func exists(ctx context.Context, s stream.Storage, name string) (bool, error) {
	f, err := s.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// due reports whether it is time for another file, beginning with f.
func (rec *recording) due(f *stream.Frame) bool {
	return rec.begun && (rec.r.Segment > 0 && f.DTS-rec.start >= rec.r.Segment ||
		rec.r.SegmentBytes > 0 && rec.written() >= rec.r.SegmentBytes)
}

func (rec *recording) write(f *stream.Frame) error {
	if err := rec.target.write(f); err != nil {
		return err
	}
	if !rec.begun {
		rec.begun, rec.start, rec.end = true, f.DTS, f.DTS
	}
	rec.info.Frames++
	i := slices.IndexFunc(rec.steps, func(s step) bool { return s.track.ID == f.Track.ID })
	if i < 0 {
		rec.steps = append(rec.steps, step{track: f.Track})
		i = len(rec.steps) - 1
	} else {
		rec.steps[i].step = f.DTS - rec.steps[i].last
	}
	rec.steps[i].track, rec.steps[i].last = f.Track, f.DTS
	rec.end = max(rec.end, f.DTS+rec.steps[i].step)
	return nil
}

// complete ends a recording and tells.
func (rec *recording) complete(ctx context.Context, next time.Duration, failed error) (*Info, error) {
	r := rec.r
	defer r.release(rec.info.Name)
	rec.info.Duration = rec.end - rec.start
	if next > rec.start {
		rec.info.Duration = next - rec.start
	}
	for _, s := range rec.steps {
		if s.track.Kind() != stream.Data {
			rec.info.Tracks = append(rec.info.Tracks, trackInfo(s.track))
		}
	}
	files, err := rec.target.complete(ctx, next, failed)
	if err == nil {
		if failed != nil {
			rec.info.Error = failed.Error()
		}
		err = writeManifest(ctx, r.Storage, r.Signer, &rec.info, files)
	}
	if err != nil && !errors.Is(err, errEmpty) {
		if failed == nil { // else that has been told
			r.Hub.ReportStorageFailure(rec.info.Stream, rec.info.Name, err)
		}
		r.log().Error("record: file is lost or unfinished", "stream", rec.info.Stream, "file", rec.info.Name, "err", err)
	} else {
		r.log().Info("record: file is complete", "stream", rec.info.Stream, "file", rec.info.Name, "duration", rec.info.Duration, "bytes", rec.info.Size)
	}
	r.Hub.ReportRecording(stream.RecordingEnded{
		Time: time.Now(), Stream: rec.info.Stream, Name: rec.info.Name,
		Size: rec.info.Size, Duration: rec.info.Duration, Err: cmp.Or(failed, err),
	})
	return &rec.info, cmp.Or(failed, err)
}

// writeManifest stores what is known of a recording beside it.
func writeManifest(ctx context.Context, s stream.Storage, signer *Signer, info *Info, files []FileInfo) error {
	info.Files, info.Size = files, 0
	for _, f := range files {
		info.Size += f.Size
	}
	if signer != nil {
		if err := signer.sign(info); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(info, "", "\t")
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	_, err = store(ctx, s, info.Name+manifestSuffix, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
	return err
}

// store makes a file of what write writes.
func store(ctx context.Context, s stream.Storage, name string, write func(io.Writer) error) (FileInfo, error) {
	w, err := create(ctx, s, name)
	if err != nil {
		return FileInfo{}, err
	}
	defer w.Abort()
	if err := write(w); err != nil {
		return FileInfo{}, fmt.Errorf("record: %w", err)
	}
	return w.finish()
}

// A summed is a file that is being written, and what its FileInfo will say.
type summed struct {
	stream.StorageWriter // Close is finish's
	name                 string
	size                 int64
	hash                 hash.Hash
}

func create(ctx context.Context, s stream.Storage, name string) (*summed, error) {
	w, err := s.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return &summed{StorageWriter: w, name: name, hash: sha256.New()}, nil
}

func (f *summed) Write(p []byte) (int, error) {
	n, err := f.StorageWriter.Write(p)
	f.size += int64(n)
	f.hash.Write(p[:n]) // never fails
	return n, err
}

// finish makes the file be there.
func (f *summed) finish() (FileInfo, error) {
	if err := f.Close(); err != nil {
		return FileInfo{}, err
	}
	return FileInfo{Name: f.name, Size: f.size, SHA256: f.hash.Sum(nil)}, nil
}

// sum describes a file that is there.
func sum(ctx context.Context, s stream.Storage, name string) (FileInfo, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return FileInfo{}, err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.CopyBuffer(hash, struct{ io.Reader }{f}, make([]byte, copyBuffer))
	if err != nil {
		return FileInfo{}, fmt.Errorf("record: %w", err)
	}
	return FileInfo{Name: name, Size: n, SHA256: hash.Sum(nil)}, nil
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// A file is the target of the formats that have one file.
type file struct {
	muxer
	r     *Recorder
	name  string
	draft Draft                // or
	plain stream.StorageWriter // where the storage has no drafts
	count *counter
}

func (r *Recorder) newFile(ctx context.Context, info *Info, live *stream.Stream) (*file, error) {
	f := &file{r: r, name: info.Name}
	var w io.Writer
	if ds, ok := r.Storage.(DraftStorage); ok {
		note, err := json.Marshal(info)
		if err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
		if f.draft, err = ds.CreateDraft(ctx, info.Name, note); err != nil {
			return nil, err
		}
		w = f.draft
	} else {
		plain, err := r.Storage.Create(ctx, info.Name)
		if err != nil {
			return nil, err
		}
		f.plain, w = plain, plain
	}
	f.count = &counter{w: w}
	out := bufio.NewWriterSize(f.count, writeBuffer)
	fragment := cmp.Or(r.Fragment, 500*time.Millisecond)
	switch r.Format {
	case FLV:
		f.muxer = &flvWriter{out: out, interval: fragment, announced: live.Tracks, metadata: live.Metadata()}
	default:
		f.muxer = &mp4Writer{out: out, fragment: fragment, created: info.Start, announced: live.Tracks}
	}
	return f, nil
}

// writeBuffer is how much is written at once, at least.
const writeBuffer = 64 << 10

func (f *file) written() int64 { return f.count.n }

func (f *file) complete(ctx context.Context, next time.Duration, failed error) ([]FileInfo, error) {
	flushed := f.flush(next)
	if failed == nil {
		failed = flushed
	}
	if f.draft != nil {
		return f.completeDraft(ctx, failed)
	}
	if failed != nil || f.whole() == 0 {
		_ = f.plain.Abort()
		return nil, cmp.Or(failed, errEmpty)
	}
	if err := f.plain.Close(); err != nil {
		return nil, err
	}
	if !f.r.Fragmented {
		src, err := f.r.Storage.Open(ctx, f.name)
		if err == nil {
			info, err := f.rewritten(ctx, src)
			src.Close()
			if err == nil {
				return []FileInfo{info}, nil
			}
			f.r.log().Warn("record: file stays as it was written", "file", f.name, "err", err)
		}
	}
	info, err := sum(ctx, f.r.Storage, f.name)
	return []FileInfo{info}, err
}

// completeDraft makes the best file that can be made of what there is.
func (f *file) completeDraft(ctx context.Context, failed error) ([]FileInfo, error) {
	if f.whole() == 0 {
		return nil, cmp.Or(failed, errEmpty, f.draft.Remove())
	}
	if !f.r.Fragmented {
		src, err := f.draft.Reader(ctx)
		if err == nil {
			var info FileInfo
			info, err = f.rewritten(ctx, src)
			src.Close()
			if err == nil {
				_ = f.draft.Remove()
				return []FileInfo{info}, nil
			}
		}
		f.r.log().Warn("record: file stays as it was written", "file", f.name, "err", err)
	}
	if f.draft.Size() > f.whole() {
		if err := f.draft.Truncate(f.whole()); err != nil {
			return nil, errors.Join(err, f.draft.Leave())
		}
	}
	if err := f.draft.Publish(ctx); err != nil {
		return nil, err
	}
	info, err := sum(ctx, f.r.Storage, f.name)
	return []FileInfo{info}, err
}

// rewritten stores the final form.
func (f *file) rewritten(ctx context.Context, src io.ReadSeeker) (FileInfo, error) {
	return store(ctx, f.r.Storage, f.name, func(w io.Writer) error { return f.rewrite(w, src) })
}
