package record

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Dir is a stream.Storage in a directory: each name is a file below it, which
// any file server can serve. Nothing outside of the directory can be reached by
// any name, even by way of symbolic links. Set the fields before first use.
//
// What is being written lies in the directory's .incoming and is moved to its
// place when it is complete, so that both must be on one file system. What a
// process left there that ended before it had closed its files is removed a day
// later, when a Dir is first used.
type Dir struct {
	Path string // it is made if it is not there

	// FileMode and DirMode are the permissions of what is made, before the
	// umask. 0: 0600 and 0700, so that nobody but this user can read it.
	FileMode, DirMode fs.FileMode

	// Sync has each file, and its directory, written to the disk before Close
	// returns, so that it survives a loss of power. Without, the system does so
	// some time within half a minute, and Close is fast.
	Sync bool

	mu     sync.Mutex
	root   *os.Root // opened with the first use
	closed bool
}

// errNotDirectory is of a name that runs through a file.
const errNotDirectory = syscall.ENOTDIR

const (
	incoming = ".incoming"
	// abandoned is for how long a file that is being written is not, before it
	// is taken for the rest of another process.
	abandoned = 24 * time.Hour
)

// Close frees the directory. What is open can be read and written on, but not
// moved to its place.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.root == nil {
		return nil
	}
	return d.root.Close()
}

func (d *Dir) open() (*os.Root, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, fmt.Errorf("record: directory: %w", stream.ErrClosed)
	case d.root != nil:
		return d.root, nil
	case d.Path == "":
		return nil, errors.New("record: Dir without a Path")
	}
	if err := os.MkdirAll(d.Path, d.dirMode()); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if err := root.MkdirAll(incoming, d.dirMode()); err != nil {
		root.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	clean(root)
	d.root = root
	return root, nil
}

// clean removes what was abandoned.
func clean(root *os.Root) {
	entries, _ := readDir(root, incoming)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && !isDraft(e.Name()) && time.Since(info.ModTime()) > abandoned {
			_ = root.Remove(path.Join(incoming, e.Name()))
		}
	}
}

func (d *Dir) fileMode() fs.FileMode { return cmp.Or(d.FileMode.Perm(), 0o600) }
func (d *Dir) dirMode() fs.FileMode  { return cmp.Or(d.DirMode.Perm(), 0o700) }

// begin is what every method begins with.
func (d *Dir) begin(ctx context.Context, name string) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := stream.CheckStorageName(name); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return d.open()
}

// Create implements stream.Storage.
func (d *Dir) Create(ctx context.Context, name string) (stream.StorageWriter, error) {
	root, err := d.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := d.mkdir(root, path.Dir(name)); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	temp := path.Join(incoming, rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, d.fileMode())
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &dirWriter{dir: d, root: root, ctx: ctx, f: f, temp: temp, name: name}, nil
}

// pruneRetries is how often a directory is made again that was pruned meanwhile.
const pruneRetries = 100

// mkdir makes a directory and those above it, again if one of them was empty and a
// Remove has pruned it meanwhile: MkdirAll may have seen that it was there, and then
// that it was not.
func (d *Dir) mkdir(root *os.Root, dir string) (err error) {
	for n := range pruneRetries {
		if err = root.MkdirAll(dir, d.dirMode()); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
		pruneWait(n)
	}
	return err
}

// pruneWait lets a Remove come to its end that was stopped in the middle of it.
func pruneWait(tried int) {
	if tried > 10 {
		time.Sleep(time.Millisecond)
	}
}

// Open implements stream.Storage.
func (d *Dir) Open(ctx context.Context, name string) (stream.StorageReader, error) {
	root, err := d.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	// Before it is opened: a pipe would have to wait for its other end.
	info, err := root.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, notThere(err)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, notThere(err)
	}
	if info, err = f.Stat(); err != nil { // another may have taken its place
		f.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	return &dirReader{f, ctx, stream.StorageInfo{Name: name, Size: info.Size(), ModTime: info.ModTime()}}, nil
}

// Remove implements stream.Storage. Directories that are empty then go too.
func (d *Dir) Remove(ctx context.Context, name string) error {
	root, err := d.begin(ctx, name)
	if err != nil {
		return err
	}
	if info, err := root.Lstat(name); err == nil && info.IsDir() {
		return notThere(&fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist})
	}
	if err := root.Remove(name); err != nil {
		return notThere(err)
	}
	prune(root, name)
	return nil
}

// prune removes the directories of a name that are empty.
func prune(root *os.Root, name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if root.Remove(dir) != nil {
			return
		}
	}
}

// notThere says of a name that runs through a file that it is not there: a name
// is only a name.
func notThere(err error) error {
	if errors.Is(err, errNotDirectory) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return fmt.Errorf("record: %w", err)
}

// List implements stream.Storage.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[stream.StorageInfo, error] {
	return func(yield func(stream.StorageInfo, error) bool) {
		from := strings.TrimSuffix(prefix, "/")
		var root *os.Root
		var err error
		if from == "" && prefix == "" {
			if err = ctx.Err(); err == nil {
				root, err = d.open()
			}
		} else {
			root, err = d.begin(ctx, from)
		}
		if err != nil {
			yield(stream.StorageInfo{}, err)
			return
		}
		dir := "."
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i]
		}
		list(ctx, root, dir, prefix, yield)
	}
}

// list yields what is in a directory and begins with prefix, and reports whether
// to go on.
func list(ctx context.Context, root *os.Root, dir, prefix string, yield func(stream.StorageInfo, error) bool) bool {
	entries, err := readDir(root, dir)
	if err == nil {
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDirectory):
		return true
	case err != nil:
		return yield(stream.StorageInfo{}, fmt.Errorf("record: %w", err)) && false
	}
	key := func(e fs.DirEntry) string { // in whose order whole names are in order
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case stream.CheckStorageName(name) != nil: // .incoming, and what is not ours
		case e.IsDir():
			if below := name + "/"; strings.HasPrefix(below, prefix) || strings.HasPrefix(prefix, below) {
				if !list(ctx, root, name, prefix, yield) {
					return false
				}
			}
		case e.Type().IsRegular() && strings.HasPrefix(name, prefix):
			info, err := e.Info()
			if err != nil {
				continue // removed meanwhile
			}
			if !yield(stream.StorageInfo{Name: name, Size: info.Size(), ModTime: info.ModTime()}, nil) {
				return false
			}
		}
	}
	return true
}

func readDir(root *os.Root, dir string) ([]fs.DirEntry, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// A dirWriter writes a file that is still in .incoming.
type dirWriter struct {
	dir        *Dir
	root       *os.Root
	ctx        context.Context
	f          *os.File
	temp, name string
	err        error // of a Write
	done       bool
}

var errDone = fmt.Errorf("record: file: %w", fs.ErrClosed)

// Write implements io.Writer.
func (w *dirWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, errDone
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.f.Write(p)
	w.err = err
	return n, err
}

// Close implements stream.StorageWriter.
func (w *dirWriter) Close() error {
	if w.done {
		return errDone
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil && w.dir.Sync {
		w.err = w.f.Sync()
	}
	if w.err != nil {
		_ = w.Abort()
		return fmt.Errorf("record: %w", w.err)
	}
	w.done = true
	err := w.f.Close()
	if err == nil {
		err = w.move()
	}
	if err != nil {
		_ = w.root.Remove(w.temp)
		prune(w.root, w.name)
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// move puts the file into its place.
func (w *dirWriter) move() (err error) {
	for n := range pruneRetries {
		if err = w.root.Rename(w.temp, w.name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// The directory was empty, and a Remove has pruned it.
		if err := w.dir.mkdir(w.root, path.Dir(w.name)); err != nil {
			return err
		}
		pruneWait(n)
	}
	if err != nil || !w.dir.Sync {
		return err
	}
	for dir := path.Dir(w.name); ; dir = path.Dir(dir) { // they may be new
		if err := syncDir(w.root, dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// Abort implements stream.StorageWriter.
func (w *dirWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	err := errors.Join(w.f.Close(), w.root.Remove(w.temp))
	prune(w.root, w.name)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// A dirReader is a file, until ctx ends.
type dirReader struct {
	f    *os.File
	ctx  context.Context
	info stream.StorageInfo
}

// Info implements stream.StorageReader.
func (r *dirReader) Info() stream.StorageInfo { return r.info }

// Read implements io.Reader.
func (r *dirReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.f.Read(p)
}

// Seek implements io.Seeker.
func (r *dirReader) Seek(offset int64, whence int) (int64, error) { return r.f.Seek(offset, whence) }

// WriteTo implements io.WriterTo: the system may copy by itself.
func (r *dirReader) WriteTo(w io.Writer) (int64, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return io.Copy(w, r.f)
}

// Close implements io.Closer.
func (r *dirReader) Close() error { return r.f.Close() }
