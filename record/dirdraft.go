package record

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A draft is two files in .incoming: RANDOM.draft, which is locked while somebody
// writes it, and RANDOM.note, written before.
const (
	draftSuffix = ".draft"
	noteSuffix  = ".note"
)

// isDraft reports whether a file of .incoming is not to be cleaned away by its age.
func isDraft(file string) bool {
	return strings.HasSuffix(file, draftSuffix) || strings.HasSuffix(file, noteSuffix)
}

type draftNote struct {
	Name string `json:"name"`
	Note []byte `json:"note,omitempty"`
}

// A dirDraft is a draft of a Dir.
type dirDraft struct {
	w    *dirWriter
	note []byte
	size int64
}

// CreateDraft implements DraftStorage.
func (d *Dir) CreateDraft(ctx context.Context, name string, note []byte) (Draft, error) {
	root, err := d.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(note) > MaxNote {
		return nil, fmt.Errorf("record: note of %d bytes, more than %d", len(note), MaxNote)
	}
	b, err := json.Marshal(draftNote{name, note})
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	temp := path.Join(incoming, rand.Text())
	if err := root.WriteFile(temp+noteSuffix, b, d.fileMode()); err != nil {
		_ = root.Remove(temp + noteSuffix)
		return nil, fmt.Errorf("record: %w", err)
	}
	f, err := root.OpenFile(temp+draftSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, d.fileMode())
	if err != nil {
		_ = root.Remove(temp + noteSuffix)
		return nil, fmt.Errorf("record: %w", err)
	}
	lockFile(f) // a new file is free
	return &dirDraft{w: &dirWriter{dir: d, root: root, ctx: ctx, f: f, temp: temp + draftSuffix, name: name}, note: note}, nil
}

// Drafts implements DraftStorage.
func (d *Dir) Drafts(ctx context.Context) iter.Seq2[Draft, error] {
	return func(yield func(Draft, error) bool) {
		root, err := d.open()
		if err != nil {
			yield(nil, err)
			return
		}
		entries, err := readDir(root, incoming)
		if err != nil {
			yield(nil, fmt.Errorf("record: %w", err))
			return
		}
		for _, e := range entries {
			if note, ok := strings.CutSuffix(e.Name(), noteSuffix); ok {
				cleanNote(root, path.Join(incoming, note))
			}
			temp, ok := strings.CutSuffix(e.Name(), draftSuffix)
			if !ok || !e.Type().IsRegular() {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if draft := d.reopen(ctx, root, path.Join(incoming, temp)); draft != nil && !yield(draft, nil) {
				return
			}
		}
	}
}

// cleanNote removes a note whose draft is gone.
func cleanNote(root *os.Root, temp string) {
	if _, err := root.Stat(temp + draftSuffix); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if info, err := root.Stat(temp + noteSuffix); err == nil && time.Since(info.ModTime()) > abandoned {
		_ = root.Remove(temp + noteSuffix)
	}
}

// reopen returns a draft that was left, or nil if it is not, or nothing is known of
// it.
func (d *Dir) reopen(ctx context.Context, root *os.Root, temp string) Draft {
	f, err := root.OpenFile(temp+draftSuffix, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	var n draftNote
	info, err := f.Stat()
	if err == nil && !lockFile(f) {
		err = errors.New("in use")
	}
	if err == nil {
		n, err = readNote(root, temp+noteSuffix)
	}
	if err != nil {
		f.Close()
		return nil
	}
	w := &dirWriter{dir: d, root: root, ctx: ctx, f: f, temp: temp + draftSuffix, name: n.Name}
	return &dirDraft{w: w, note: n.Note, size: info.Size()}
}

func readNote(root *os.Root, file string) (n draftNote, err error) {
	f, err := root.Open(file)
	if err != nil {
		return n, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2*MaxNote))
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err == nil {
		err = stream.CheckStorageName(n.Name)
	}
	return n, err
}

func (d *dirDraft) Name() string { return d.w.name }
func (d *dirDraft) Note() []byte { return d.note }
func (d *dirDraft) Size() int64  { return d.size }

func (d *dirDraft) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.size += int64(n)
	return n, err
}

func (d *dirDraft) WriteAt(p []byte, off int64) (int, error) {
	if d.w.done {
		return 0, errDone
	}
	if off < 0 || off > d.size || off+int64(len(p)) < d.size {
		return 0, fmt.Errorf("record: write of %d bytes at %d of %d", len(p), off, d.size)
	}
	if d.w.err == nil {
		d.w.err = d.w.ctx.Err()
	}
	if d.w.err != nil {
		return 0, d.w.err
	}
	n, err := d.w.f.WriteAt(p, off)
	d.size = max(d.size, off+int64(n))
	if err == nil {
		_, err = d.w.f.Seek(d.size, io.SeekStart)
	}
	d.w.err = err
	return n, err
}

func (d *dirDraft) Reader(ctx context.Context) (stream.StorageReader, error) {
	if d.w.done {
		return nil, errDone
	}
	f, err := d.w.root.Open(d.w.temp)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	return &dirReader{f, ctx, stream.StorageInfo{Name: d.w.name, Size: info.Size(), ModTime: info.ModTime()}}, nil
}

func (d *dirDraft) Truncate(size int64) error {
	if d.w.done {
		return errDone
	}
	err := d.w.f.Truncate(size)
	if err == nil {
		_, err = d.w.f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	d.size, d.w.err = size, nil
	return nil
}

func (d *dirDraft) Publish(ctx context.Context) error {
	if d.w.done {
		return nil
	}
	err := ctx.Err()
	if err == nil {
		err = d.w.dir.mkdir(d.w.root, path.Dir(d.w.name))
	}
	if err == nil && d.w.dir.Sync {
		err = d.w.f.Sync()
	}
	if err == nil {
		err = d.publish()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("record: %w", err), d.Leave())
	}
	_ = d.w.root.Remove(d.noteFile())
	return nil
}

// publish moves the file. Where it may be moved while it is open it is locked until
// then, so that nobody else takes it for left.
func (d *dirDraft) publish() error {
	if moveOpen {
		if err := d.w.move(); err != nil {
			return err
		}
	}
	d.w.done = true
	err := d.w.f.Close()
	if !moveOpen && err == nil {
		err = d.w.move()
	}
	return err
}

func (d *dirDraft) Remove() error {
	if d.w.done {
		return nil
	}
	return errors.Join(d.w.Abort(), d.w.root.Remove(d.noteFile()))
}

func (d *dirDraft) Leave() error {
	if d.w.done {
		return nil
	}
	d.w.done = true
	if err := d.w.f.Close(); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

func (d *dirDraft) noteFile() string { return strings.TrimSuffix(d.w.temp, draftSuffix) + noteSuffix }
