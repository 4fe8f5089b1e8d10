package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

const (
	// storeBacklog bounds what waits to be stored of a stream, in segments and
	// in bytes: the storage is too slow then, and loses segments.
	storeBacklog      = 256
	storeBacklogBytes = 64 << 20
	// storeTimeout is how long a file may take, at least so long as 64 KiB a
	// second need.
	storeTimeout = 30 * time.Second
	// storeLength is after how many segments another presentation begins: the
	// playlist is stored again with each of them.
	storeLength = 10_000
)

var errStoreSlow = errors.New("deliver: the storage is too slow")

// An hlsStore keeps what is packaged of one stream. Its parts are
//
//	NAME/index.m3u8          multivariant playlist of the newest presentation
//	NAME/START/index.m3u8    and of that which began at START, in UTC
//	NAME/START/v.m3u8        media playlists, which end when the stream does
//	NAME/START/v12.m4s       and what they name
//
// Segments are queued, and a goroutine of its own waits for the storage.
type hlsStore struct {
	server *Server
	name   string // of the stream

	mu    sync.Mutex
	queue []storeJob
	bytes int64 // of the segments in queue
	ended bool
	wake  chan struct{} // capacity 1

	// owned by run

	ctx     context.Context
	dir     string // of the presentation; "" before the first segment
	archive hls.Archive
	stored  map[string]bool      // initialization segments and keys in dir
	stale   [hls.Renditions]bool // playlists that are to be stored, by rendition
	media   int                  // renditions in the multivariant playlist
	failing int                  // files that were lost in a row
}

// A storeJob is a segment to be stored.
type storeJob struct {
	*hls.Segment
	lost  bool // its bytes are not there any more
	first bool // begins another presentation, since some before it are missing
}

// add queues a segment. It never waits.
func (st *hlsStore) add(s *hls.Segment) {
	st.mu.Lock()
	defer st.mu.Unlock()
	size := s.Content().Size
	j := storeJob{Segment: s}
	switch n := len(st.queue); {
	case n >= storeBacklog:
		if last := st.queue[n-1]; !last.lost {
			st.bytes -= last.Content().Size
		}
		st.queue[n-1] = storeJob{Segment: s.Bare(), lost: true, first: true}
		return
	case st.bytes+size > storeBacklogBytes:
		j.Segment, j.lost = s.Bare(), true
	default:
		st.bytes += size
	}
	st.queue = append(st.queue, j)
	st.signal()
}

// end tells that there will be no more.
func (st *hlsStore) end() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ended = true
	st.signal()
}

func (st *hlsStore) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// next returns the oldest segment in the queue; ok is false if there is none.
func (st *hlsStore) next() (j storeJob, ok, ended bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.queue) == 0 {
		return storeJob{}, false, st.ended
	}
	j = st.queue[0]
	st.queue[0] = storeJob{}
	st.queue = st.queue[1:]
	return j, true, false
}

// done is told that a segment of the queue need not be kept any longer.
func (st *hlsStore) done(j storeJob) {
	if j.lost {
		return
	}
	st.mu.Lock()
	st.bytes -= j.Content().Size
	st.mu.Unlock()
}

// run stores what is queued until the stream or ctx ends.
func (st *hlsStore) run() {
	for st.ctx.Err() == nil {
		j, ok, ended := st.next()
		switch {
		case ok:
			if st.dir == "" || j.first || st.archive.Len(j.Rendition) >= storeLength {
				st.finish()
				st.dir = st.name + "/" + j.Time.UTC().Format(storeLayout)
				st.archive, st.stored, st.media = hls.Archive{}, make(map[string]bool), 0
			}
			st.segment(j)
			st.done(j)
		case ended:
			st.finish()
			return
		default:
			st.playlists()
			select {
			case <-st.wake:
			case <-st.ctx.Done():
			}
		}
	}
}

// segment stores a segment, and what it needs.
func (st *hlsStore) segment(j storeJob) {
	kept := !j.lost
	switch {
	case j.Gap:
	case j.lost:
		st.report(st.dir+"/"+j.Name(), errStoreSlow)
	default:
		if j.Init != nil {
			kept = st.once(j.Init.Name(), j.Init.Data)
		}
		if j.Key != nil {
			kept = st.once(j.Key.Name(), j.Key.Bytes[:]) && kept
		}
		file := st.dir + "/" + j.Name()
		if kept = kept && st.put(file, j.Content().Data...); kept {
			st.server.Hub.ReportSegment(stream.SegmentStored{
				Time: time.Now(), Stream: st.name, Name: file, Playlist: st.dir + "/" + j.Rendition.String() + ".m3u8",
				Sequence: j.Sequence, Duration: j.Duration,
			})
		}
	}
	st.archive.Add(j.Segment, kept)
	st.stale[j.Rendition] = true
}

// once stores what several segments share, if that has not been done.
func (st *hlsStore) once(file string, data []byte) bool {
	if !st.stored[file] {
		st.stored[file] = st.put(st.dir+"/"+file, data)
	}
	return st.stored[file]
}

// playlists stores the playlists that have changed.
func (st *hlsStore) playlists() {
	for r, stale := range st.stale {
		if stale {
			st.stale[r] = !st.playlist(hls.Rendition(r), false)
		}
	}
	n := 0
	for r := range st.stale {
		n += min(st.archive.Len(hls.Rendition(r)), 1)
	}
	if n > st.media && st.multivariant() {
		st.media = n
	}
}

func (st *hlsStore) playlist(r hls.Rendition, ended bool) bool {
	return st.put(st.dir+"/"+r.String()+".m3u8", st.archive.Playlist(r, ended))
}

func (st *hlsStore) multivariant() bool {
	below := st.dir[len(st.name)+1:]
	here, above := st.archive.Multivariant(""), st.archive.Multivariant(below+"/")
	return here == nil || st.put(st.dir+"/index.m3u8", here) && st.put(st.name+"/index.m3u8", above)
}

// finish ends the presentation: its playlists say so, and the bit rates are those
// of all of it.
func (st *hlsStore) finish() {
	const tries = 3
	for try := range tries {
		ok := true
		for r := range hls.Rendition(len(st.stale)) {
			if st.archive.Len(r) > 0 {
				ok = st.playlist(r, true) && ok
			}
		}
		if ok = ok && (st.dir == "" || st.multivariant()); ok || try == tries-1 {
			return
		}
		select {
		case <-time.After(time.Second):
		case <-st.ctx.Done():
			return
		}
	}
}

// put stores a file, and reports whether that is done.
func (st *hlsStore) put(file string, data ...[]byte) bool {
	size := 0
	for _, b := range data {
		size += len(b)
	}
	ctx, cancel := context.WithTimeout(st.ctx, storeTimeout+time.Duration(size)*time.Second/(64<<10))
	defer cancel()
	err := write(ctx, st.server.HLS.Storage, file, data)
	if err != nil {
		st.report(file, err)
		return false
	}
	if st.failing > 0 {
		st.server.log().Info("deliver: storing again", "stream", st.name, "lost", st.failing)
		st.failing = 0
	}
	return true
}

func write(ctx context.Context, s stream.Storage, file string, data [][]byte) error {
	w, err := s.Create(ctx, file)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, b := range data {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Close()
}

// report tells of a file that is lost. The log gets the first of those in a row.
func (st *hlsStore) report(file string, err error) {
	st.server.Hub.ReportStorageFailure(st.name, file, fmt.Errorf("deliver: cannot store: %w", err))
	if st.failing++; st.failing == 1 {
		st.server.log().Warn("deliver: cannot store", "stream", st.name, "file", file, "err", err)
	}
}

// startStore begins to store a stream; nil if there is nowhere to. It is called
// with the table locked.
func (s *Server) startStore(name string) *hlsStore {
	t := &s.hls
	if s.HLS.Storage == nil {
		return nil
	}
	if t.storage == nil {
		t.storage, t.cutStorage = context.WithCancel(context.Background())
	}
	st := &hlsStore{server: s, name: name, wake: make(chan struct{}, 1), ctx: t.storage}
	t.stores.Go(st.run)
	return st
}

// waitHLS waits until all who waited are answered and everything is stored, or cuts
// that off when ctx ends and returns its error.
func (s *Server) waitHLS(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.hls.parked.Wait()
		s.hls.stores.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.cutStored()
		return ctx.Err()
	}
}

// cutStored gives up what is not stored yet.
func (s *Server) cutStored() {
	s.hls.mu.Lock()
	defer s.hls.mu.Unlock()
	if s.hls.cutStorage != nil {
		s.hls.cutStorage()
	}
}
