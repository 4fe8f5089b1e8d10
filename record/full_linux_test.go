package record

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A full disk ends the recording with a file that plays, not the live stream, and
// when there is space again recording goes on.
func TestDiskFull(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("runnel", mount, "tmpfs", 0, "size=3m"); err != nil {
		t.Skip("mounting a small file system takes root:", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	inBed(t, func(r *Recorder) {
		r.Storage, r.Retry = &Dir{Path: filepath.Join(mount, "rec")}, 3*sec
	}, func(t *testing.T, b *bed) {
		b.path = filepath.Join(mount, "rec")
		p := &streamtest.Pattern{FrameSize: 10_000} // 2 Mbit/s
		pub := b.open("live/cam", p.Tracks())
		sub, err := b.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		read := make(chan int)
		go func() { read <- len(streamtest.Collect(context.Background(), t, sub, -1)) }()
		// A quarter of the space is somebody else's, up to 20 s.
		other := filepath.Join(mount, "other")
		require.NoError(t, os.WriteFile(other, make([]byte, 1<<20), 0o600))
		go func() {
			time.Sleep(20 * sec)
			_ = os.Remove(other)
		}()
		n := 0
		for range until(p.Frames(-1), 23*sec) {
			n++
		}
		require.NoError(t, streamtest.Feed(t.Context(), pub, until(p.Frames(-1), 23*sec), 1))
		require.NoError(t, pub.Close())
		require.Equal(t, n, <-read)
		require.Zero(t, sub.Dropped())
		time.Sleep(sec)
		done, failed := b.ended()
		require.NotEmpty(t, failed)
		require.ErrorIs(t, failed[0].Err, syscall.ENOSPC)
		require.ErrorIs(t, done[0].Err, syscall.ENOSPC)

		var files []string
		for f, err := range b.Storage.List(t.Context(), "") {
			require.NoError(t, err)
			if filepath.Ext(f.Name) == ".mp4" {
				files = append(files, f.Name)
			}
		}
		require.GreaterOrEqual(t, len(files), 2)
		x := b.scan(files[0])
		size, err := os.Stat(filepath.Join(b.path, files[0]))
		require.NoError(t, err)
		require.Equal(t, size.Size(), x.whole, "nothing behind the last whole fragment")
		require.InDelta(t, 2<<20, size.Size(), 300_000)
		require.InDelta(t, float64(size.Size())/260_000, stream.FromTicks(x.tracks[0].end(), 90000).Seconds(), 1)

		// Its manifest, for which there may have been no space, Repair makes.
		old := time.Now().Add(-time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(b.path, files[0]), old, old))
		_, err = Repair(t.Context(), b.Storage, silent)
		require.NoError(t, err)
		info, err := Verify(t.Context(), b.Storage, files[0])
		require.NoError(t, err)
		require.Equal(t, "live/cam", info.Stream)
	})
}
