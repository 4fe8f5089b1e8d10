package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
)

// A shelf is a storage in memory that can fail, or be slow.
type shelf struct {
	mu    sync.Mutex
	files map[string][]byte
	times map[string]time.Time
	fail  func(name string) error // may block
}

func (s *shelf) Create(ctx context.Context, name string) (stream.StorageWriter, error) {
	if err := stream.CheckStorageName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if err := fail(name); err != nil {
			return nil, err
		}
	}
	return &shelfWriter{s: s, ctx: ctx, name: name}, ctx.Err()
}

func (s *shelf) Open(_ context.Context, name string) (stream.StorageReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &shelfReader{bytes.NewReader(text), s.infoLocked(name)}, nil
}

func (s *shelf) infoLocked(name string) stream.StorageInfo {
	return stream.StorageInfo{Name: name, Size: int64(len(s.files[name])), ModTime: s.times[name]}
}

func (s *shelf) List(_ context.Context, prefix string) iter.Seq2[stream.StorageInfo, error] {
	return func(yield func(stream.StorageInfo, error) bool) {
		for _, name := range s.names() {
			s.mu.Lock()
			info := s.infoLocked(name)
			s.mu.Unlock()
			if strings.HasPrefix(name, prefix) && !yield(info, nil) {
				return
			}
		}
	}
}

func (s *shelf) Remove(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
	return nil
}

func (s *shelf) put(name, text string) {
	w, _ := s.Create(context.Background(), name)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
}

type shelfReader struct {
	*bytes.Reader
	info stream.StorageInfo
}

func (r *shelfReader) Info() stream.StorageInfo { return r.info }
func (r *shelfReader) Close() error             { return nil }

func (s *shelf) get(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[name]
}

func (s *shelf) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files))
}

// presentations returns the directories below a stream's name.
func (s *shelf) presentations(name string) (dirs []string) {
	for _, n := range s.names() {
		if d := path.Dir(n); path.Dir(d) == name && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

type shelfWriter struct {
	s    *shelf
	ctx  context.Context
	name string
	bytes.Buffer
}

func (w *shelfWriter) Close() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.files == nil {
		w.s.files, w.s.times = make(map[string][]byte), make(map[string]time.Time)
	}
	w.s.times[w.name] = time.Now()
	w.s.files[w.name] = w.Bytes()
	return nil
}

func (w *shelfWriter) Abort() error { return nil }

// media checks a stored presentation by its multivariant playlist: everything
// that is listed is there. It returns the playlists of picture and sound.
func (s *shelf) media(t *testing.T, index string) (lists []*hlscheck.Playlist) {
	t.Helper()
	text := s.get(index)
	variants, media, found := hlscheck.Multivariant(text)
	require.Empty(t, found, "%s: %s", index, text)
	require.Len(t, variants, 1)
	for _, uri := range []string{variants[0].URI, media[0]["URI"]} {
		file := path.Join(path.Dir(index), uri)
		p, found := hlscheck.Media(s.get(file))
		require.Empty(t, found, "%s", s.get(file))
		require.Equal(t, "EVENT", p.Type)
		for _, seg := range p.Segments {
			for _, ref := range []string{seg.URI, seg.Map, seg.Key.URI} {
				if ref != "" && !seg.Gap {
					require.NotEmpty(t, s.get(path.Join(path.Dir(file), ref)), "%s: %s", file, ref)
				}
			}
		}
		lists = append(lists, p)
	}
	return lists
}

func storing(s *shelf) func(*hlsBed) {
	return func(b *hlsBed) { b.srv.HLS.Storage = s }
}

func (b *hlsBed) run(t *testing.T) {
	go func() { _ = b.srv.Run(t.Context()) }()
	synctest.Wait()
}

// What is packaged can be played from the storage, while it goes on and when it
// has ended.
func TestHLSStored(t *testing.T) {
	for name, encrypt := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			inHLSBed(t, storing(s), func(t *testing.T, b *hlsBed) {
				b.srv.HLS.Encrypt, b.srv.HLS.KeySegments = encrypt, 3
				b.run(t)
				stop := b.source("live/x")
				time.Sleep(61 * time.Second) // much longer than the window
				synctest.Wait()
				for _, p := range s.media(t, "live/x/index.m3u8") {
					require.False(t, p.Ended)
					require.InDelta(t, 60, p.Duration(), 4)
					require.Equal(t, encrypt, p.Segments[5].Key.URI != "")
				}
				stop()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				dirs := s.presentations("live/x")
				require.Len(t, dirs, 1)
				for _, p := range s.media(t, dirs[0]+"/index.m3u8") {
					require.True(t, p.Ended)
					require.InDelta(t, 61, p.Duration(), 0.3)
				}
				require.Equal(t, strings.ReplaceAll(string(s.get(dirs[0]+"/index.m3u8")), "v.m3u8", path.Base(dirs[0])+"/v.m3u8"),
					strings.ReplaceAll(string(s.get("live/x/index.m3u8")), path.Base(dirs[0])+"/a.m3u8", "a.m3u8"))

				// Another stream under the name is another presentation.
				stop = b.source("live/x")
				time.Sleep(5 * time.Second)
				stop()
				require.NoError(t, b.srv.Shutdown(t.Context()))
				require.Len(t, s.presentations("live/x"), 2)
				for _, p := range s.media(t, "live/x/index.m3u8") {
					require.True(t, p.Ended)
					require.InDelta(t, 5, p.Duration(), 0.3)
				}
			})
		})
	}
}

// A storage that fails loses what it was to keep, says so, and is tried again.
func TestHLSStorageFails(t *testing.T) {
	s := &shelf{}
	inHLSBed(t, storing(s), func(t *testing.T, b *hlsBed) {
		failed := make(chan stream.StorageFailed, 1000)
		go func() {
			for e := range b.hub.Events(t.Context()) {
				if e, ok := e.(stream.StorageFailed); ok {
					failed <- e
				}
			}
		}()
		b.run(t)
		stop := b.source("live/x")
		time.Sleep(11 * time.Second)
		errFull := errors.New("disk full")
		s.mu.Lock()
		s.fail = func(string) error { return errFull }
		s.mu.Unlock()
		time.Sleep(6 * time.Second)
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		b.get("/live/x.m3u8") // goes on
		stop()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.Greater(t, len(failed), 3*2)
		e := <-failed
		require.ErrorIs(t, e.Err, errFull)
		require.Equal(t, "live/x", e.Stream)
		require.True(t, strings.HasPrefix(e.Name, "live/x/"), e.Name)
		for _, p := range s.media(t, "live/x/index.m3u8") {
			gaps := 0
			for _, seg := range p.Segments {
				if seg.Gap {
					gaps++
				}
			}
			require.Equal(t, 3, gaps)
			require.InDelta(t, 27, p.Duration(), 0.3)
			require.True(t, p.Ended)
		}
	})
}

// A storage that hangs takes no more than its bounds, and the live stream goes
// on. When it is back, another presentation begins.
func TestHLSStorageHangs(t *testing.T) {
	s := &shelf{}
	inHLSBed(t, storing(s), func(t *testing.T, b *hlsBed) {
		b.run(t)
		stop := b.source("live/x")
		time.Sleep(11 * time.Second)
		hung := make(chan struct{})
		s.mu.Lock()
		s.fail = func(string) error { <-hung; return io.ErrClosedPipe }
		s.mu.Unlock()
		time.Sleep(10 * time.Minute)
		b.get("/live/x.m3u8")
		run := b.srv.hls.runs["live/x"]
		run.store.mu.Lock()
		require.Len(t, run.store.queue, storeBacklog)
		require.LessOrEqual(t, run.store.bytes, int64(storeBacklogBytes))
		require.Positive(t, run.store.bytes)
		run.store.mu.Unlock()
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		close(hung)
		time.Sleep(20 * time.Second)
		stop()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		dirs := s.presentations("live/x")
		require.Len(t, dirs, 2)
		for _, dir := range dirs {
			for _, p := range s.media(t, dir+"/index.m3u8") {
				require.True(t, p.Ended)
				require.Greater(t, p.Duration(), 15.)
			}
		}
		require.Zero(t, run.store.bytes)
	})
}

// Shutdown does not wait for a storage longer than it may.
func TestHLSStorageHangsAtShutdown(t *testing.T) {
	s := &shelf{}
	inHLSBed(t, storing(s), func(t *testing.T, b *hlsBed) {
		hung := make(chan struct{})
		b.run(t)
		stop := b.source("live/x")
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		s.fail = func(string) error { <-hung; return nil }
		s.mu.Unlock()
		stop()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.ErrorIs(t, b.srv.Shutdown(ctx), context.DeadlineExceeded)
		close(hung)
	})
}
