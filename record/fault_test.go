package record

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A stalling storage does not answer for as long as gate is held, or ctx ends if it
// can be interrupted.
type stalling struct {
	*Dir
	gate  chan struct{} // has an element unless it stalls
	stuck bool          // cannot be interrupted
}

func (s *stalling) wait(ctx context.Context) error {
	if s.stuck {
		s.gate <- <-s.gate
		return nil
	}
	select {
	case v := <-s.gate:
		s.gate <- v
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stalling) CreateDraft(ctx context.Context, name string, note []byte) (Draft, error) {
	d, err := s.Dir.CreateDraft(ctx, name, note)
	return &stallingDraft{d, s, ctx}, err
}

type stallingDraft struct {
	Draft
	s   *stalling
	ctx context.Context
}

func (d *stallingDraft) Write(p []byte) (int, error) {
	if err := d.s.wait(d.ctx); err != nil {
		return 0, err
	}
	return d.Draft.Write(p)
}

// A storage that stalls costs a piece of the recording, not of the live stream.
func TestStall(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		s := &stalling{gate: make(chan struct{}, 1), stuck: stuck}
		inBed(t, func(r *Recorder) {
			s.gate = make(chan struct{}, 1) // of the bubble
			s.gate <- struct{}{}
			s.Dir = r.Storage.(*Dir)
			r.Storage, r.MaxQueue, r.Retry = s, 1<<20, 2*sec
		}, func(t *testing.T, b *bed) {
			p := &streamtest.Pattern{FrameSize: 10_000}
			pub := b.open("live/cam", p.Tracks())
			sub, err := b.Hub.Subscribe(t.Context(), "live/cam", nil)
			require.NoError(t, err)
			read := make(chan int)
			go func() { read <- len(streamtest.Collect(context.Background(), t, sub, -1)) }()
			go func() {
				time.Sleep(10 * sec)
				<-s.gate
				time.Sleep(30 * sec)
				s.gate <- struct{}{}
			}()
			n := 0
			for range until(p.Frames(-1), 60*sec) {
				n++
			}
			require.NoError(t, streamtest.Feed(t.Context(), pub, until(p.Frames(-1), 30*sec), 1))
			_, failed := b.ended()
			require.NotEmpty(t, failed, "told while it stalls")
			require.ErrorIs(t, failed[0].Err, errSlow)
			require.NoError(t, streamtest.Feed(t.Context(), pub, func(yield func(*stream.Frame) bool) {
				for f := range until(p.Frames(-1), 60*sec) {
					if f.DTS >= 30*sec && !yield(f) {
						return
					}
				}
			}, 1))
			require.NoError(t, pub.Close())
			require.Equal(t, n, <-read)
			require.Zero(t, sub.Dropped())
			time.Sleep(5 * sec)
			list := b.list()
			require.GreaterOrEqual(t, len(list), 2)
			require.NotEmpty(t, list[0].Error)
			require.InDelta(t, 10*sec, list[0].Duration, float64(sec))
			last := list[len(list)-1]
			require.Empty(t, last.Error)
			require.Greater(t, last.Duration, 15*sec)
			for _, info := range list {
				require.EqualValues(t, 0, b.scan(info.Name).tracks[0].first)
			}
		})
	}
}

// A failing storage refuses what is asked of it.
type failing struct {
	stream.Storage
	create, write, close error
	healed               atomic.Bool
}

func (f *failing) Create(ctx context.Context, name string) (stream.StorageWriter, error) {
	if f.create != nil && !f.healed.Load() {
		return nil, f.create
	}
	w, err := f.Storage.Create(ctx, name)
	return &failingWriter{w, f}, err
}

type failingWriter struct {
	stream.StorageWriter
	f *failing
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.f.write != nil && !w.f.healed.Load() {
		return 0, w.f.write
	}
	return w.StorageWriter.Write(p)
}

func (w *failingWriter) Close() error {
	if w.f.close != nil && !w.f.healed.Load() {
		_ = w.Abort()
		return w.f.close
	}
	return w.StorageWriter.Close()
}

// Whatever fails in a storage without drafts is told, and tried again.
func TestStorageFails(t *testing.T) {
	broken := errors.New("broken")
	for name, f := range map[string]*failing{"create": {create: broken}, "write": {write: broken}, "close": {close: broken}} {
		t.Run(name, func(t *testing.T) {
			inBed(t, func(r *Recorder) {
				f.Storage = r.Storage
				r.Storage, r.Retry, r.Segment = f, 2*sec, sec
			}, func(t *testing.T, b *bed) {
				go func() {
					time.Sleep(5500 * time.Millisecond)
					f.healed.Store(true)
				}()
				p := &streamtest.Pattern{}
				b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 10*sec))
				done, failed := b.ended()
				require.NotEmpty(t, failed)
				require.ErrorIs(t, failed[0].Err, broken)
				require.NotEmpty(t, done)
				require.NoError(t, done[len(done)-1].Err)
				list := b.list()
				require.GreaterOrEqual(t, len(list), 2)
				require.True(t, b.scan(list[0].Name).plain)
			})
		})
	}
}

// Of a draft that ends anywhere, all whole fragments can be played.
func TestRepairTruncated(t *testing.T) {
	for _, format := range []Format{MP4, FLV} {
		t.Run(format.String(), func(t *testing.T) {
			var whole []byte
			inBed(t, func(r *Recorder) { r.Fragmented, r.Format, r.Name = true, format, "whole" }, func(t *testing.T, b *bed) {
				p := &streamtest.Pattern{}
				b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 4*sec))
				var err error
				whole, err = os.ReadFile(filepath.Join(b.path, "whole."+format.String()))
				require.NoError(t, err)
			})
			last := time.Duration(0)
			for cut := 100; cut < len(whole); cut += 1999 {
				d := &Dir{Path: t.TempDir()}
				draft, err := d.CreateDraft(t.Context(), "live/a."+format.String(), nil)
				require.NoError(t, err)
				_, err = draft.Write(whole[:cut])
				require.NoError(t, err)
				done, err := Repair(t.Context(), d, silent)
				require.NoError(t, err)
				require.Empty(t, done, "it is being written")
				require.NoError(t, draft.Leave())
				done, err = Repair(t.Context(), d, silent)
				require.NoError(t, err)
				if len(done) == 0 {
					require.Less(t, cut, 30_000)
					continue
				}
				require.True(t, done[0].Repaired)
				require.GreaterOrEqual(t, done[0].Duration, last)
				require.InDelta(t, float64(4*sec)*float64(cut)/float64(len(whole)), done[0].Duration, float64(sec))
				last = done[0].Duration
				_, err = Verify(t.Context(), d, done[0].Name)
				require.NoError(t, err)
				if format == MP4 {
					require.True(t, scanFile(t, filepath.Join(d.Path, "live/a.mp4")).plain)
				}
				done, err = Repair(t.Context(), d, silent)
				require.NoError(t, err)
				require.Empty(t, done)
				left, err := os.ReadDir(filepath.Join(d.Path, incoming))
				require.NoError(t, err)
				require.Empty(t, left)
				require.NoError(t, d.Close())
			}
		})
	}
}

// An HLS recording that was cut off is ended.
func TestRepairHLS(t *testing.T) {
	inBed(t, func(r *Recorder) { r.Format = HLS }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 10*sec))
		name := b.list()[0].Name
		require.NoError(t, b.Storage.Remove(t.Context(), name+manifestSuffix))
		list := filepath.Join(b.path, filepath.FromSlash(name[:len(name)-len(hlsIndex)]), "v.m3u8")
		text, err := os.ReadFile(list)
		require.NoError(t, err)
		whole := string(text)
		text = bytes.Replace(text[:len(text)-len(endList)], vodType, eventType, 1)
		require.NoError(t, os.WriteFile(list, text, 0o600))
		old := time.Now().Add(-time.Hour)
		require.NoError(t, filepath.WalkDir(b.path, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, old, old))
		}))
		done, err := Repair(t.Context(), b.Storage, silent)
		require.NoError(t, err)
		require.Len(t, done, 1)
		require.Equal(t, "live/cam", done[0].Stream)
		require.InDelta(t, 10*sec, done[0].Duration, float64(100*time.Millisecond))
		after, err := os.ReadFile(list)
		require.NoError(t, err)
		require.Equal(t, whole, string(after))
		synctest.Wait()
	})
}
