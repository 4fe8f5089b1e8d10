package deliver

import (
	"context"
	"errors"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/dash"
	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

// hlsTable is what a Server has packaged, and for whom.
type hlsTable struct {
	started atomic.Int64 // sessions that are open

	mu      sync.RWMutex
	key     []byte // signs tokens; made with the first
	closed  bool
	sweeper *time.Timer           // runs while there is anything
	runs    map[string]*hlsRun    // the newest of each stream, by hub key
	secrets map[string]*hlsRun    // all of them
	tokens  map[string]*hlsViewer // individual viewers by the ID in their token
	shared  map[hlsWho]*hlsViewer // others
	recent  map[hlsWho]*hlsViewer // the individual viewer that an address last had

	parked     sync.WaitGroup  // requests
	stores     sync.WaitGroup  // those that run
	storage    context.Context // theirs
	cutStorage context.CancelFunc
}

// An hlsRun is one stream that is packaged, from its first frame to some time
// after its end.
type hlsRun struct {
	name   string
	stream *stream.Stream
	pack   *hls.Packager
	store  *hlsStore // nil: it is not stored
	ladder ladder
	dub    dubbing
	keys   keyWish
	mpd    dash.Manifest
	cancel context.CancelFunc
	done   chan struct{} // closed when the packager has ended
	hurry  chan struct{} // takes one: the end is waited for

	used    atomic.Int64 // when somebody last asked for something, Unix ns
	watched atomic.Bool  // somebody has
	endedAt atomic.Int64 // 0: it goes on
}

// findHLS returns what is packaged under a name. If nothing is, or the stream
// has ended and there is a new one, packaging begins.
func (s *Server) findHLS(ctx context.Context, name string) (*hlsRun, error) {
	s.hls.mu.RLock()
	run := s.hls.runs[name]
	s.hls.mu.RUnlock()
	if run != nil && run.endedAt.Load() == 0 {
		run.touch()
		return run, nil
	}
	wait := s.Wait
	if run != nil {
		wait = 0 // there is something to show
	}
	fresh, err := s.startHLS(ctx, name, wait)
	switch {
	case err == nil:
		fresh.touch()
		return fresh, nil
	case run != nil && errors.Is(err, stream.ErrNotFound):
		return run, nil
	}
	return nil, err
}

// startHLS begins to package a stream, if that is not done already.
func (s *Server) startHLS(ctx context.Context, name string, wait time.Duration) (*hlsRun, error) {
	sub, err := s.Hub.Subscribe(ctx, name, &stream.SubscribeOptions{Wait: wait})
	if err != nil {
		return nil, err
	}
	t := &s.hls
	for {
		t.mu.Lock()
		old := t.runs[name]
		if old == nil || old.stream != sub.Stream() || old.endedAt.Load() != 0 {
			if old == nil || old.endedAt.Load() != 0 {
				defer t.mu.Unlock()
				if t.closed {
					sub.Close()
					return nil, ErrServerClosed
				}
				return s.addRun(name, sub, old), nil
			}
			t.mu.Unlock()
			select {
			case old.hurry <- struct{}{}:
			default:
			}
			select { // its stream has ended: so will it
			case <-old.done:
				continue
			case <-ctx.Done():
				sub.Close()
				return nil, ctx.Err()
			}
		}
		t.mu.Unlock()
		sub.Close()
		return old, nil
	}
}

// addRun is called with the table locked, and takes sub over. old is what was
// packaged under the name before, or nil.
func (s *Server) addRun(name string, sub *stream.Subscriber, old *hlsRun) *hlsRun {
	t := &s.hls
	ctx, cancel := context.WithCancel(context.Background())
	store := s.startStore(name)
	run := &hlsRun{name: name, stream: sub.Stream(), pack: s.HLS.packager(old, store), store: store, cancel: cancel, done: make(chan struct{}), hurry: make(chan struct{}, 1)}
	run.mpd.Packager, run.mpd.MediaBase = run.pack, mediaBase(path.Base(name))
	run.ladder.stream = run.stream
	run.keys.stream = run.stream
	run.dub = dubbing{
		stream: run.stream, wanted: s.HLS.Audio, patience: settle,
		carries: func(t *stream.Track) bool { return (&mp4Muxer{}).supports(t) == nil },
	}
	run.used.Store(time.Now().UnixNano())
	if t.runs == nil {
		t.runs = make(map[string]*hlsRun)
		t.secrets = make(map[string]*hlsRun)
	}
	t.runs[name] = run
	t.secrets[run.pack.Secret()] = run
	if t.sweeper == nil {
		t.sweeper = time.AfterFunc(sweepInterval, s.sweepHLS)
	}
	go run.follow(ctx, sub, &s.HLS)
	return run
}

// follow packages what sub reads, until the stream or ctx ends, and while somebody
// watches its renditions.
func (r *hlsRun) follow(ctx context.Context, sub *stream.Subscriber, c *HLS) {
	defer close(r.done)
	defer r.cancel()
	defer sub.Close()
	defer r.ladder.close()
	defer r.dub.close()
	var tracks []*stream.Track
	var batch [32]*stream.Frame
	for {
		r.keys.every(orDefault(c.Segment, 2*time.Second))
		n, err := sub.Read(ctx, batch[:])
		now := time.Now()
		r.ladder.climb(now, r.watched.Load() && now.Sub(time.Unix(0, r.used.Load())) < c.linger())
		r.dub.follow()
		if now := withSound(sub.Tracks(), r.dub.from); !slices.Equal(now, tracks) {
			tracks = now
			r.pack.SetTracks(r.ladder.tracks(tracks)...)
		}
		for _, f := range batch[:n] {
			r.keys.saw(f)
			if !r.dub.replaces(f) {
				r.pack.Add(f)
			}
		}
		clear(batch[:n])
		r.dub.read(r.addSound)
		r.ladder.read(r.pack, tracks)
		r.ladder.check(r.pack)
		if err != nil {
			r.dub.rest(ctx, r.addSound)
			break
		}
	}
	r.pack.Flush()
	if r.store != nil {
		r.store.end()
	}
	select {
	case <-time.After(lastCall):
	case <-r.hurry:
	case <-ctx.Done():
	}
	r.pack.End()
	r.endedAt.Store(time.Now().UnixNano())
}

// addSound packages frames of a rendition of the sound.
func (r *hlsRun) addSound(frames []*stream.Frame) {
	for _, f := range frames {
		if f.Track.Kind() == stream.Audio {
			r.pack.Add(f)
		}
	}
}

// lastCall is how long players have to fetch the last part before they are told
// that the stream has ended: hls.js that has not does not always notice the end.
// They are further behind than that, and so do not wait for it.
const lastCall = 800 * time.Millisecond

func (r *hlsRun) touch() {
	r.used.Store(time.Now().UnixNano())
	if !r.watched.Load() {
		r.watched.Store(true)
	}
}

// next returns the Media Sequence Number that follows those of r, which has
// ended or is nil, and how many discontinuities there were up to then.
func (r *hlsRun) next() (seq, discontinuity uint64) {
	if r == nil {
		return 0, 0
	}
	for rendition := range hls.Rendition(hls.Renditions) {
		if segs := r.pack.View(rendition).Segments; len(segs) > 0 {
			last := segs[len(segs)-1]
			seq, discontinuity = max(seq, last.Sequence+1), max(discontinuity, last.DiscontinuitySequence)
		}
	}
	return seq, discontinuity
}

const sweepInterval = time.Second

// sweepHLS closes the sessions of viewers who do not come any more, and forgets
// what nobody needs.
func (s *Server) sweepHLS() {
	t := &s.hls
	now := time.Now()
	var gone []*hlsViewer
	t.mu.RLock()
	for _, viewers := range []func(func(*hlsViewer) bool){eachViewer(t.tokens), eachViewer(t.shared)} {
		for v := range viewers {
			if v.sweep(now) {
				gone = append(gone, v)
			}
		}
	}
	t.mu.RUnlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range gone {
		t.forget(v)
	}
	for secret, run := range t.secrets {
		ended := run.endedAt.Load()
		switch {
		case ended != 0 && now.Sub(time.Unix(0, ended)) >= s.HLS.retention():
		case ended == 0 && s.packagesOnDemand() && now.Sub(time.Unix(0, run.used.Load())) >= s.HLS.linger() && run.pack.Stats().Waiters == 0:
			run.cancel()
		default:
			continue
		}
		delete(t.secrets, secret)
		if t.runs[run.name] == run {
			delete(t.runs, run.name)
		}
	}
	if t.closed || len(t.secrets)+len(t.tokens)+len(t.shared) == 0 {
		t.sweeper = nil
		return
	}
	t.sweeper.Reset(sweepInterval)
}

func eachViewer[K comparable](m map[K]*hlsViewer) func(func(*hlsViewer) bool) {
	return func(yield func(*hlsViewer) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// closeHLS ends all packagers, and with them the requests that wait.
func (s *Server) closeHLS() {
	t := &s.hls
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, run := range t.secrets {
		run.cancel()
	}
	for _, v := range t.tokens {
		v.bar(ErrServerClosed)
	}
	for _, v := range t.shared {
		v.bar(ErrServerClosed)
	}
	clear(t.runs)
	clear(t.secrets)
	clear(t.tokens)
	clear(t.shared)
	clear(t.recent)
	if t.sweeper != nil {
		t.sweeper.Stop()
		t.sweeper = nil
	}
}
