package record_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/record/storagetest"
	"github.com/runnel-media/runnel/stream"
)

func TestDir(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync=%t", sync), func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) stream.Storage {
				d := &record.Dir{Path: filepath.Join(t.TempDir(), "new", "dir"), Sync: sync}
				t.Cleanup(func() {
					left, err := os.ReadDir(filepath.Join(d.Path, ".incoming"))
					require.NoError(t, err)
					require.Empty(t, left)
					require.NoError(t, d.Close())
				})
				return d
			})
		})
	}
}

func put(t *testing.T, s stream.Storage, name, content string) error {
	t.Helper()
	w, err := s.Create(t.Context(), name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, content)
	require.NoError(t, err)
	return w.Close()
}

// Links that lead out are not followed, and pipes and directories are no files.
func TestDirStaysInside(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("making links is a privilege there")
	}
	outside, inside := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(inside, "out")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(inside, "link")))
	require.NoError(t, os.Mkdir(filepath.Join(inside, "dir"), 0o700))
	d := &record.Dir{Path: inside}
	for _, name := range []string{"out/secret", "link"} {
		_, err := d.Open(t.Context(), name)
		require.Error(t, err, name)
	}
	_, err := d.Open(t.Context(), "dir")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, d.Remove(t.Context(), "dir"), fs.ErrNotExist)
	require.Error(t, put(t, d, "out/new", "x"))
	require.Error(t, d.Remove(t.Context(), "out/secret"))
	require.NoError(t, put(t, d, "link", "in the link's place"))
	for info, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, "link", info.Name)
	}
	b, err := os.ReadFile(filepath.Join(outside, "secret"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(b))
	files, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func TestDirModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes")
	}
	for _, c := range []struct{ file, dir, wantFile, wantDir fs.FileMode }{
		{0, 0, 0o600, 0o700},
		{0o640, 0o750, 0o640, 0o750},
	} {
		d := &record.Dir{Path: filepath.Join(t.TempDir(), "x"), FileMode: c.file, DirMode: c.dir}
		require.NoError(t, put(t, d, "live/a", "x"))
		for name, want := range map[string]fs.FileMode{"": c.wantDir, "live": c.wantDir, "live/a": c.wantFile} {
			info, err := os.Stat(filepath.Join(d.Path, name))
			require.NoError(t, err)
			require.Equal(t, want, info.Mode().Perm(), name)
		}
	}
}

// What was abandoned goes, what is being written by another stays.
func TestDirCleans(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".incoming"), 0o700))
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": time.Hour} {
		file := filepath.Join(dir, ".incoming", name)
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(-age)))
	}
	d := &record.Dir{Path: dir}
	require.NoError(t, put(t, d, "a", "x"))
	left, err := os.ReadDir(filepath.Join(dir, ".incoming"))
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "young", left[0].Name())
}

func TestDirErrors(t *testing.T) {
	_, err := (&record.Dir{}).Open(t.Context(), "a")
	require.ErrorContains(t, err, "without a Path")
	d := &record.Dir{Path: t.TempDir()}
	require.NoError(t, put(t, d, "a", "x"))
	require.Error(t, put(t, d, "a/b", "below a file"))
	require.NoError(t, put(t, d, "c/d", "x"))
	require.Error(t, put(t, d, "c", "in the place of a directory"))
	r, err := d.Open(t.Context(), "c/d")
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.ErrorIs(t, put(t, d, "e", "x"), stream.ErrClosed)
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	require.NoError(t, err)
	require.Equal(t, "x", b.String())
	require.NoError(t, r.Close())
	require.NoError(t, (&record.Dir{}).Close())
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, put(t, &record.Dir{Path: file}, "a", "x"))
}

func ExampleDir() {
	path, _ := os.MkdirTemp("", "runnel-")
	defer os.RemoveAll(path)
	d := &record.Dir{Path: path}
	defer d.Close()
	ctx := context.Background()

	w, err := d.Create(ctx, "live/cam/index.m3u8")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Abort() // nothing happens after Close
	fmt.Fprintln(w, "#EXTM3U")
	if err := w.Close(); err != nil { // now it is there
		fmt.Println(err)
		return
	}
	for info, err := range d.List(ctx, "live/") {
		fmt.Println(info.Name, info.Size, err)
	}
	// Output: live/cam/index.m3u8 8 <nil>
}

// Several write into a directory that comes and goes with what they write.
func TestDirPrunedMeanwhile(t *testing.T) {
	d := &record.Dir{Path: t.TempDir()}
	defer d.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := fmt.Sprintf("live/cam/%d", i)
			for range 100 {
				if w, err := d.Create(t.Context(), name); err != nil {
					t.Error(err)
				} else if err := w.Close(); err != nil {
					t.Error(err)
				}
				if err := d.Remove(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
