package record

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// gather is how long frames are left to collect before they are taken together.
const gather = 200 * time.Millisecond

// videoGone is after how much sound without a picture a stream is taken to have
// none.
const videoGone = 5 * time.Second

// A session follows one stream. One goroutine reads and never waits for the storage;
// another writes.
type session struct {
	r       *Recorder
	name    string
	rewinds bool
	ctx     context.Context // of reading
	cancel  context.CancelFunc
	wake    chan struct{} // capacity 1
	hurry   chan chan struct{}

	mu          sync.Mutex
	want        bool // to be recorded
	queue       []*stream.Frame
	bytes       int64 // of queue, and of what is being written
	over        bool  // the queue was full: what was in it is lost
	ended       bool
	kept        []*stream.Frame // for Clip
	keptBytes   int64
	current     string             // name of the file that is being written
	progress    Active             // of it
	cut         context.CancelFunc // of the writing
	live        *stream.Stream
	lastTracks  []*stream.Track // of live, when hasVideo was found out
	lastCarries bool

	// owned by read

	shift  time.Duration // from the stream's times to the session's
	newest time.Duration // of the session

	// owned by run

	id       string
	rec      *recording
	segments int
	first    time.Duration // DTS of the first frame
	cutSoon  bool          // at the next key frame
	picture  time.Duration // DTS of the last one
	pictures bool          // there was one
	fresh    bool          // the next frame is one where the hub lets readers begin
	retry    time.Time     // nothing is begun before that
	warned   bool
}

func newSession(r *Recorder, name string, want, rewinds bool) *session {
	s := &session{r: r, name: name, rewinds: rewinds, want: want, wake: make(chan struct{}, 1), hurry: make(chan chan struct{}), fresh: true}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	return s
}

// read moves frames from the stream to the queue until the stream or ctx ends.
func (s *session) read() {
	defer s.cancel()
	defer s.end()
	wait := time.Duration(0)
	for s.ctx.Err() == nil {
		sub, err := s.r.Hub.Subscribe(s.ctx, s.name, &stream.SubscribeOptions{Wait: wait})
		if err != nil {
			return
		}
		s.mu.Lock()
		s.live = sub.Stream()
		s.mu.Unlock()
		s.follow(sub, wait > 0)
		sub.Close()
		if wait = s.r.Resume; wait <= 0 {
			return
		}
	}
}

// follow reads a stream to its end.
func (s *session) follow(sub *stream.Subscriber, again bool) {
	var buf [256]*stream.Frame
	pause := time.NewTimer(gather)
	defer pause.Stop()
	drain := func(n int, err error) error {
		for n > 0 {
			if again {
				s.shift = s.newest + 40*time.Millisecond - buf[0].DTS
			}
			s.push(buf[:n], again)
			again = false
			n, err = sub.TryRead(buf[:])
		}
		clear(buf[:])
		return err
	}
	defer func() { _ = drain(sub.TryRead(buf[:])) }() // what came before ctx ended is recorded
	for {
		if err := drain(sub.Read(s.ctx, buf[:])); err != nil {
			return
		}
		pause.Reset(gather)
		select {
		case <-pause.C:
		case done := <-s.hurry:
			_ = drain(sub.TryRead(buf[:])) // Read tells of the error again
			close(done)
		case <-s.ctx.Done():
		}
	}
}

// catchUp has what is due read now.
func (s *session) catchUp() {
	done := make(chan struct{})
	select {
	case s.hurry <- done:
		<-done
	default: // it waits for frames, or is at it
	}
}

// push queues frames. It never waits.
func (s *session) push(frames []*stream.Frame, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range frames {
		if s.shift != 0 || broken {
			g := *f
			g.DTS, g.PTS = f.DTS+s.shift, f.PTS+s.shift
			g.Discontinuity = g.Discontinuity || broken
			f, broken = &g, false
		}
		s.newest = max(s.newest, f.DTS)
		if s.rewinds {
			s.kept = append(s.kept, f)
			s.keptBytes += int64(len(f.Data))
		}
		if s.want && !s.over {
			s.enqueue(f)
		}
	}
	if s.rewinds {
		s.trim()
	}
	s.signal()
}

// enqueue is called with s.mu held.
func (s *session) enqueue(f *stream.Frame) {
	s.queue = append(s.queue, f)
	s.bytes += int64(len(f.Data)) + frameCost
	if s.bytes <= cmp.Or(s.r.MaxQueue, 16<<20) {
		return
	}
	s.over = true
	s.queue = nil
	if s.cut != nil {
		s.cut()
	}
	s.r.Hub.ReportStorageFailure(s.name, s.current, errSlow)
}

// frameCost is what a frame without a byte costs.
const frameCost = 200

// trim forgets what is kept for Clip and is too old. Called with s.mu held.
func (s *session) trim() {
	limit := cmp.Or(s.r.RewindBytes, 32<<20)
	n := 0
	for i, f := range s.kept {
		if s.keptBytes <= limit && s.newest-f.DTS <= s.r.Rewind {
			break
		}
		s.keptBytes -= int64(len(f.Data))
		n = i + 1
	}
	// What is before a key frame is of use only with the key frame before it.
	s.kept = slices.Delete(s.kept, 0, n)
}

// recent returns what is kept of the last so much.
func (s *session) recent(last time.Duration) []*stream.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(recent(s.kept, last))
}

// record begins or ends the recording.
func (s *session) record(want bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if want && !s.want && !s.over {
		for _, f := range recent(s.kept, 0) {
			s.enqueue(f)
		}
	}
	s.want = want
	if !want && !s.rewinds {
		s.cancel()
	}
	s.signal()
}

func (s *session) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want && !s.ended
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.signal()
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes what is queued until the end.
func (s *session) run() {
	for {
		s.mu.Lock()
		batch, over, ended, want := s.queue, s.over, s.ended, s.want
		s.queue = nil
		s.mu.Unlock()
		switch {
		case over:
			s.fail(errSlow)
			s.mu.Lock()
			s.over, s.bytes, s.queue = false, 0, nil
			s.mu.Unlock()
		case len(batch) > 0:
			bytes := int64(0)
			for _, f := range batch {
				bytes += int64(len(f.Data)) + frameCost
				s.frame(f)
			}
			clear(batch)
			s.mu.Lock()
			if !s.over { // else nothing counts any more
				s.bytes -= bytes
			}
			if s.rec != nil {
				s.progress.Duration, s.progress.Size = s.rec.end-s.rec.start, s.rec.written()
			}
			s.mu.Unlock()
		case ended:
			s.finish(0, nil)
			s.r.left(s)
			return
		case !want && s.rec != nil:
			s.finish(0, nil)
		default:
			<-s.wake
		}
	}
}

// frame writes a frame, to another file if it is time for one.
func (s *session) frame(f *stream.Frame) {
	access := s.access(f)
	if s.rec != nil {
		switch s.rec.takes(f) {
		case skip:
			return
		case cut:
			if !access {
				s.cutSoon = true
				return
			}
			s.finish(f.DTS, nil)
		default:
			if access && (s.cutSoon || s.rec.due(f)) {
				s.finish(f.DTS, nil)
			}
		}
	}
	if s.rec == nil {
		if !access || !s.carries(f.Track) || time.Now().Before(s.retry) {
			return
		}
		if err := s.begin(f); err != nil {
			s.fail(err)
			return
		}
		if s.rec.takes(f) != take {
			return
		}
	}
	if err := s.rec.write(f); err != nil {
		s.fail(err)
	}
}

// access reports whether a file may begin with a frame.
func (s *session) access(f *stream.Frame) bool {
	fresh := s.fresh
	s.fresh = false
	switch f.Track.Kind() {
	case stream.Video:
		s.pictures, s.picture = true, f.DTS
		return f.Key
	case stream.Audio:
		return fresh || !s.hasVideo() || f.DTS-s.picture > videoGone
	}
	return false
}

// hasVideo reports whether the stream announces a picture that the format carries.
func (s *session) hasVideo() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tracks := s.live.Tracks()
	if len(tracks) == 0 || len(s.lastTracks) > 0 && &tracks[0] == &s.lastTracks[0] {
		return s.lastCarries
	}
	s.lastTracks, s.lastCarries = tracks, false
	for _, t := range tracks {
		if t.Kind() == stream.Video && carries(s.r.Format, t) {
			s.lastCarries = true
		}
	}
	return s.lastCarries
}

// carries reports whether the format can have a track, and says so once if not.
func (s *session) carries(t *stream.Track) bool {
	if carries(s.r.Format, t) {
		return true
	}
	if !s.warned {
		s.warned = true
		s.r.log().Warn("record: track cannot be recorded", "stream", s.name, "format", s.r.Format, "codec", t.Codec)
	}
	return false
}

func carries(format Format, t *stream.Track) bool {
	if format == FLV {
		return (&flvWriter{}).takes(&stream.Frame{Track: t}) == take
	}
	_, err := fmp4.Init(t)
	return err == nil
}

func (s *session) begin(f *stream.Frame) error {
	if s.id == "" {
		s.id, s.first = sessionID(), f.DTS
	}
	ctx, cancel := context.WithCancel(s.r.writing)
	s.mu.Lock()
	live, over := s.live, s.over
	s.cut, s.current = cancel, ""
	s.mu.Unlock()
	if over {
		cancel()
	}
	rec, err := s.r.begin(ctx, &Info{
		Stream: s.name, Session: s.id, Segment: s.segments, Start: f.Time, Offset: f.DTS - s.first,
	}, f, live)
	if err != nil {
		cancel()
		return err
	}
	s.rec, s.cutSoon = rec, false
	rec.cancel = cancel
	s.segments++
	s.mu.Lock()
	s.current = rec.info.Name
	s.progress = Active{Name: rec.info.Name, Session: rec.info.Session, Segment: rec.info.Segment, Start: rec.info.Start}
	s.mu.Unlock()
	return nil
}

// fail ends the recording because of the storage.
func (s *session) fail(err error) {
	slow := errors.Is(err, errSlow)
	s.mu.Lock()
	cut := s.over && !slow
	s.mu.Unlock()
	if cut {
		return // this comes of that; run sees to it
	}
	s.retry = time.Now().Add(cmp.Or(s.r.Retry, 10*time.Second))
	name := ""
	if s.rec != nil {
		name = s.rec.info.Name
	}
	if !slow { // that has been told
		s.r.Hub.ReportStorageFailure(s.name, name, err)
	}
	s.r.log().Error("record: recording failed", "stream", s.name, "file", name, "err", err)
	s.finish(0, err)
	s.id, s.segments = "", 0 // what comes next does not go on from there
}

// finish completes the file in the background. next is the DTS of what follows in
// another one.
func (s *session) finish(next time.Duration, failed error) {
	rec := s.rec
	if rec == nil {
		return
	}
	s.rec = nil
	s.mu.Lock()
	s.cut, s.current, s.progress = nil, "", Active{}
	s.mu.Unlock()
	s.r.active.Go(func() {
		s.r.finishing <- struct{}{}
		defer func() { <-s.r.finishing }()
		defer rec.cancel()
		_, _ = rec.complete(s.r.writing, next, failed)
	})
}
