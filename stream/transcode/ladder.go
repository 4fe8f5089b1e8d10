package transcode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Ladder adds renditions of other sizes, rates and codecs to streams of video: one
// ffmpeg for each stream decodes its pictures once and makes all renditions, with the
// timestamps of the source and key frames where the source has them, so that players
// can go from one to another. It runs from the first reader of a rendition until
// Linger after the last.
//
// An ffmpeg that is too slow is fed less: whole groups of pictures are left out. One
// that fails or hangs is killed, and another begins with the next key frame. Neither
// holds the live stream up, which only gives its frames to one reader more.
type Ladder struct {
	Hub *stream.Hub
	Log *slog.Logger // nil: slog.Default()

	Match  func(streamName string) bool // which streams; nil: none
	Steps  []Step
	FFmpeg FFmpeg

	// Enlarge keeps steps that are larger than the source, which are left out
	// otherwise.
	Enlarge bool

	Linger  time.Duration // how long it runs on without a reader; 0: 10 s
	MaxLag  time.Duration // of media that may wait for ffmpeg; 0: 5 s
	MaxLife time.Duration // of media after which an ffmpeg is replaced, at a key frame; 0: 12 h
}

// Check says what is wrong with the fields, as Run would.
func (l *Ladder) Check() error {
	if l.Hub == nil || len(l.Steps) == 0 {
		return errors.New("transcode: Ladder without a Hub or Steps")
	}
	for i := range l.Steps {
		if err := l.Steps[i].check(); err != nil {
			return err
		}
		if slices.ContainsFunc(l.Steps[:i], func(s Step) bool { return s.Name == l.Steps[i].Name }) {
			return fmt.Errorf("transcode: two renditions of the name %q", l.Steps[i].Name)
		}
	}
	return nil
}

// Run adds the renditions to the streams of Hub that there are, and come, until ctx
// ends, whose error it returns, or the hub is closed, and all
// ffmpegs are gone.
func (l *Ladder) Run(ctx context.Context) error {
	if err := l.Check(); err != nil {
		return err
	}
	rungs, at := make(map[*stream.Stream]*rungs), &work{}
	f := &follower{hub: l.Hub, match: l.Match,
		seen: func(s *stream.Stream) { l.consider(rungs, at, s) },
		gone: func(name string) {
			for s := range rungs {
				if s.Name() == name && l.Hub.Stream(name) != s {
					delete(rungs, s)
				}
			}
		},
	}
	f.run(ctx)
	for _, r := range rungs {
		r.remove()
	}
	at.end()
	return ctx.Err()
}

// work is what runs, for who waits for its end.
type work struct {
	mu    sync.Mutex
	over  bool
	count sync.WaitGroup
}

// begin reports whether something may begin, which is to call count.Done then.
func (w *work) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.count.Add(1)
	}
	return !w.over
}

// end lets nothing begin any more, and waits for what runs.
func (w *work) end() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.count.Wait()
}

// rungs are the renditions that have been added to a stream.
type rungs struct {
	names  string
	remove func()
}

// consider adds renditions to a stream, or exchanges them if its pictures have become
// larger or smaller than some.
func (l *Ladder) consider(all map[*stream.Stream]*rungs, at *work, s *stream.Stream) {
	video := videoOf(s.Tracks())
	if video == nil {
		return
	}
	source, _ := video.Video() // unknown: every step is made
	var steps []Step
	var names []string
	for _, step := range l.Steps {
		if l.Enlarge || !step.enlarges(source) {
			steps, names = append(steps, step), append(names, step.Name)
		}
	}
	old := all[s]
	key := strings.Join(names, "/")
	if old != nil {
		if old.names == key {
			return
		}
		old.remove()
		delete(all, s)
	}
	if len(steps) == 0 {
		return
	}
	lag := l.MaxLag
	if lag <= 0 {
		lag = 5 * time.Second
	}
	d := &stream.Derivation{
		Linger: l.Linger,
		Source: stream.SubscribeOptions{MaxLag: lag},
		Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
			if !at.begin() {
				return context.Canceled
			}
			defer at.count.Done()
			return (&climb{ladder: l, steps: steps, src: src, log: logger(l.Log).With("stream", s.Name())}).run(ctx, outs)
		},
	}
	for i := range steps {
		d.Renditions = append(d.Renditions, steps[i].info(source))
	}
	remove, err := s.Derive(d)
	if err != nil {
		if !errors.Is(err, stream.ErrClosed) {
			logger(l.Log).Warn("transcode: renditions", "stream", s.Name(), "err", err)
		}
		return
	}
	all[s] = &rungs{names: key, remove: remove}
}
