package record

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Recorder writes live streams to a storage. Set its fields, then Run it; Start,
// Stop and Clip may be called from any goroutine while it runs.
//
// A recording begins and is cut at key frames, and nothing is lost between two
// segments. It is a reader of its stream like any other: one that Hub.Source fetches
// goes on for as long as it is recorded. It never holds the live stream up: when the storage cannot keep up or
// fails, the recording ends with what there is, a stream.StorageFailed event tells,
// and another begins after Retry.
//
// Where the storage is a DraftStorage, as Dir is, what is written outlives this
// process: Repair makes files of it. Elsewhere an unfinished recording is lost, and
// so is a file that could not be written to its end.
type Recorder struct {
	Hub     *stream.Hub
	Storage stream.Storage
	Log     *slog.Logger // nil: slog.Default()

	// Match chooses the streams to record when they come up; see Pattern. nil:
	// only what Start says.
	Match func(streamName string) bool

	Format Format

	// Name is the template of the names, without extension, with slashes. Its
	// words are {stream}, the whole name of the stream; {app} and {name}, its
	// parts before and behind the last slash; {start}, when the first frame came,
	// {start:LAYOUT} with a layout of package time, {unix}, the same in milliseconds
	// since 1970; {segment} or {segment:4}, with so many digits; {session}, a random
	// word for each recording. Colons of times become dashes. A name that is taken
	// gets "-2", "-3". "": DefaultName.
	Name     string
	Location *time.Location // of {start}; nil: UTC

	Segment      time.Duration // begin another file at the first key frame after so much media; 0: never
	SegmentBytes int64         // the same by size; 0: never

	// Resume is how long a recording waits for its stream to come back, to go on
	// in the same file without a gap. 0: it ends with the stream. For a publisher
	// that is back within Hub.Grace the stream has not ended.
	Resume time.Duration

	// Rewind is how much of each stream is kept in memory for Clip, and at most
	// RewindBytes (0: 32 MiB). 0: nothing, and Clip has what the hub keeps for
	// late joiners. Rewinds chooses the streams; nil: all.
	Rewind      time.Duration
	RewindBytes int64
	Rewinds     func(streamName string) bool

	Fragment time.Duration // of media that is held back before it is written; 0: 500 ms
	MaxQueue int64         // bytes that may wait for the storage; 0: 16 MiB
	Retry    time.Duration // before the next recording after a failure; 0: 10 s
	Drain    time.Duration // for what is unfinished when Run's ctx ends; 0: 30 s

	// Fragmented leaves MP4 and FLV files as they were written: less work, and
	// with a storage elsewhere they are not sent twice. Players seek less well.
	Fragmented bool

	// Signer signs the manifest of each recording. nil: there is no signature.
	Signer *Signer

	// Keep bounds what is kept. It is enforced every minute; that of Age not within
	// an hour after the clock has jumped. Audit is that of the Library which does so.
	Keep  Retention
	Audit func(ctx context.Context, d Deletion) error

	mu        sync.Mutex
	template  template
	ctx       context.Context // of Run; nil before
	writing   context.Context // ends when what is unfinished must be
	sessions  map[string]*session
	wanted    map[string]bool     // by Start and Stop, whatever Match says
	names     map[string]struct{} // of files that are being written
	active    sync.WaitGroup      // sessions, and files that are being completed
	finishing chan struct{}       // slots for files that are being completed
}

var (
	errNotRunning = errors.New("record: the Recorder does not run")
	errSlow       = errors.New("record: the storage is too slow")
)

// Run records until ctx ends or the hub is closed, completes what is unfinished,
// and returns ctx's error, or nil. It can be called once.
func (r *Recorder) Run(ctx context.Context) error {
	t, err := parseTemplate(cmp.Or(r.Name, DefaultName))
	if err != nil {
		return err
	}
	if r.Hub == nil || r.Storage == nil {
		return errors.New("record: Recorder without a Hub or a Storage")
	}
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	running, stop := context.WithCancel(ctx)
	defer stop()
	events := r.Hub.Events(ctx)
	r.mu.Lock()
	if r.ctx != nil {
		r.mu.Unlock()
		return errors.New("record: Recorder is already running, or has been")
	}
	r.template, r.ctx, r.writing = t, running, writing
	r.finishing = make(chan struct{}, 2)
	r.mu.Unlock()
	if r.Keep.bounds() {
		r.active.Go(func() { r.retain(running) })
	}

	r.scan()
	for e := range events {
		switch e := e.(type) {
		case stream.StreamStarted:
			r.consider(e.Stream)
		case stream.StreamEnded:
			r.forget(e.Stream)
		case stream.EventsLost:
			r.scan()
		}
	}
	stop()
	r.mu.Lock() // who has seen ctx alive has added to active by now
	r.mu.Unlock()
	timer := time.AfterFunc(cmp.Or(r.Drain, 30*time.Second), cancel)
	defer timer.Stop()
	r.active.Wait()
	return ctx.Err()
}

// scan looks at all streams.
func (r *Recorder) scan() {
	for s := range r.Hub.Streams() {
		r.consider(s.Name())
	}
}

// forget ends a Stop with the stream that it was for.
func (r *Recorder) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if want, ok := r.wanted[name]; ok && !want {
		delete(r.wanted, name)
	}
}

// consider follows a stream that is live if it is to be recorded or rewound.
func (r *Recorder) consider(name string) {
	match := r.Match != nil && r.Match(name)
	rewinds := r.Rewind > 0 && (r.Rewinds == nil || r.Rewinds(name))
	r.mu.Lock()
	defer r.mu.Unlock()
	if want, ok := r.wanted[name]; ok {
		match = want
	}
	if r.ctx == nil || r.ctx.Err() != nil || !match && !rewinds {
		return
	}
	if s := r.sessions[name]; s != nil {
		s.record(match)
		return
	}
	s := newSession(r, name, match, rewinds)
	if r.sessions == nil {
		r.sessions = make(map[string]*session)
	}
	r.sessions[name] = s
	r.active.Go(s.read)
	r.active.Go(s.run)
}

// left is told that a session has ended.
func (r *Recorder) left(s *session) {
	r.mu.Lock()
	delete(r.sessions, s.name)
	r.mu.Unlock()
	if r.Hub.Stream(s.name) != nil { // it came back, or was started, meanwhile
		r.consider(s.name)
	}
}

// Start records a stream, now and whenever it is live, until Stop, whatever Match
// says. It begins with the newest key frame that there is.
func (r *Recorder) Start(name string) error {
	if err := r.want(name, true); err != nil {
		return err
	}
	if r.Hub.Stream(name) != nil {
		r.consider(name)
	}
	return nil
}

// Stop completes the recording of a stream. Match's choice counts again when the
// stream has ended.
func (r *Recorder) Stop(name string) error {
	if err := r.want(name, false); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[name]; s != nil {
		s.record(false)
	}
	return nil
}

func (r *Recorder) want(name string, want bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil || r.ctx.Err() != nil {
		return errNotRunning
	}
	if r.wanted == nil {
		r.wanted = make(map[string]bool)
	}
	r.wanted[name] = want
	return nil
}

// Recording reports whether a stream is being recorded.
func (r *Recorder) Recording(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[name]
	return s != nil && s.wanted()
}

// Clip writes the last so much of a live stream to a file, from the key frame at or
// before that on, as far as it is still there (see Rewind), and returns what has
// been written. It does not disturb a recording.
func (r *Recorder) Clip(ctx context.Context, name string, last time.Duration) (*Info, error) {
	r.mu.Lock()
	s, running := r.sessions[name], r.ctx != nil
	r.mu.Unlock()
	if !running {
		return nil, errNotRunning
	}
	var frames []*stream.Frame
	if s != nil {
		s.catchUp()
		frames = s.recent(last)
	}
	sub, err := r.Hub.Subscribe(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	if len(frames) == 0 {
		if frames, err = cached(sub, last); err != nil {
			return nil, err
		}
	}
	if len(frames) == 0 {
		return nil, fmt.Errorf("record: nothing of %s to make a clip of yet", name)
	}
	rec, err := r.begin(ctx, &Info{Stream: name, Session: sessionID(), Start: frames[0].Time}, frames[0], sub.Stream())
	if err != nil {
		return nil, err
	}
	for _, f := range frames {
		if rec.takes(f) != take {
			continue
		}
		if err = rec.write(f); err != nil {
			break
		}
	}
	return rec.complete(ctx, 0, err)
}

// cached returns what the hub has of a stream.
func cached(sub *stream.Subscriber, last time.Duration) (frames []*stream.Frame, err error) {
	var buf [64]*stream.Frame
	for {
		n, err := sub.TryRead(buf[:])
		frames = append(frames, buf[:n]...)
		if n == 0 {
			if len(frames) > 0 {
				err = nil
			}
			return recent(frames, last), err
		}
	}
}

// recent returns the frames from the last key frame on that is at least so far back,
// or from the oldest.
func recent(frames []*stream.Frame, last time.Duration) []*stream.Frame {
	if len(frames) == 0 {
		return nil
	}
	video := false
	for _, f := range frames {
		video = video || f.Track.Kind() == stream.Video
	}
	newest, from := frames[len(frames)-1].DTS, -1
	for i, f := range frames {
		if f.Track.Kind() == stream.Data || video && !(f.Key && f.Track.Kind() == stream.Video) {
			continue
		}
		if from < 0 || newest-f.DTS >= last {
			from = i
		}
	}
	if from < 0 {
		return nil
	}
	return frames[from:]
}

func sessionID() string { return strings.ToLower(rand.Text()[:16]) }

func (r *Recorder) log() *slog.Logger {
	if r.Log != nil {
		return r.Log
	}
	return slog.Default()
}
