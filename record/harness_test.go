package record

import (
	"context"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

var silent = slog.New(slog.DiscardHandler)

// A bed is a Recorder that runs on a Dir, in a bubble of its own time.
type bed struct {
	*testing.T
	*Recorder
	dir    *Dir
	path   string
	events []stream.Event // guarded by the bubble: read them after synctest.Wait
	stop   func()
}

// inBed runs a test with a Recorder. setup may change it before it runs.
func inBed(t *testing.T, setup func(*Recorder), test func(*testing.T, *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, setup)
		defer func() { b.stop() }()
		test(t, b)
	})
}

func newBed(t *testing.T, setup func(*Recorder)) *bed {
	b := &bed{T: t, path: t.TempDir()}
	b.dir = &Dir{Path: b.path}
	b.Recorder = &Recorder{
		Hub: &stream.Hub{}, Storage: b.dir, Log: silent,
		Match: func(string) bool { return true },
	}
	if setup != nil {
		setup(b.Recorder)
	}
	go func() {
		for e := range b.Hub.Events(context.Background()) {
			b.events = append(b.events, e)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.Recorder.Run(ctx) }()
	b.stop = func() {
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
		b.Hub.Close()
		b.dir.Close()
		synctest.Wait()
		b.stop = func() {}
	}
	synctest.Wait()
	return b
}

// publish feeds frames at their own speed and ends the stream.
func (b *bed) publish(name string, tracks []*stream.Track, frames iter.Seq[*stream.Frame]) {
	b.Helper()
	p := b.open(name, tracks)
	require.NoError(b, streamtest.Feed(b.Context(), p, frames, 1))
	require.NoError(b, p.Close())
	time.Sleep(sec) // until what is left has been gathered and written
	synctest.Wait()
}

func (b *bed) open(name string, tracks []*stream.Track) *stream.Publisher {
	b.Helper()
	p, err := b.Hub.Publish(b.Context(), name, nil)
	require.NoError(b, err)
	require.NoError(b, p.SetTracks(tracks...))
	synctest.Wait()
	return p
}

// list returns what has been recorded, the oldest first.
func (b *bed) list() []*Info {
	b.Helper()
	list, err := (&Library{Storage: b.Storage}).List(b.Context(), Query{})
	require.NoError(b, err)
	slices.Reverse(list)
	return list
}

// ended returns the events about files that ended, and failures.
func (b *bed) ended() (done []stream.RecordingEnded, failed []stream.StorageFailed) {
	synctest.Wait()
	for _, e := range b.events {
		switch e := e.(type) {
		case stream.RecordingEnded:
			done = append(done, e)
		case stream.StorageFailed:
			failed = append(failed, e)
		}
	}
	return done, failed
}

// scan reads a file that has been recorded.
func (b *bed) scan(name string) *scanned {
	b.Helper()
	return scanFile(b.T, filepath.Join(b.path, filepath.FromSlash(name)))
}

func scanFile(t testing.TB, path string) *scanned {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	x, err := scanMP4(f, info.Size())
	require.NoError(t, err)
	return x
}

func until(frames iter.Seq[*stream.Frame], end time.Duration) iter.Seq[*stream.Frame] {
	return func(yield func(*stream.Frame) bool) {
		for f := range frames {
			if f.DTS >= end || !yield(f) {
				return
			}
		}
	}
}
