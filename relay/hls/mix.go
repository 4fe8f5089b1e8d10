package hls

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

const (
	// patience is how long one playlist waits for the frames of the other.
	patience = 8 * time.Second
	// Timestamps that step back by maxBack or on by maxGap begin a new timeline.
	maxBack = time.Second
	maxGap  = 10 * time.Second
	// maxLate is how late frames may be before they set the pace anew.
	maxLate = time.Second
	// quantum is what is too short to sleep for.
	quantum = 5 * time.Millisecond
)

// A line is what comes of one playlist.
type line struct {
	*follower
	only   stream.Kind // 0: all
	frames []*stream.Frame
	tracks []*stream.Track
	delay  time.Duration // as the first chunk has it
	done   bool
}

// A mixer puts the frames of one or two playlists into one order, at the speed of
// their timestamps.
type mixer struct {
	w     *relay.Writer
	lines []*line

	tracks []*stream.Track // in force
	begun  bool
	delay  time.Duration // of the first frame
	start  time.Time     // when a frame with the DTS of zero is due
	last   time.Duration
}

// follow has the mixer read a playlist.
func (m *mixer) follow(ctx context.Context, all *sync.WaitGroup, f *follower, p *playlist) {
	f.out = make(chan chunk, 1)
	m.lines = append(m.lines, &line{follower: f})
	all.Go(func() {
		defer close(f.out)
		f.err = f.run(ctx, p)
	})
}

// run writes until all playlists have ended, or one has failed.
func (m *mixer) run(ctx context.Context) error {
	for {
		var next *line
		for _, l := range m.lines {
			if err := l.fill(ctx, m.begun); err != nil {
				return err
			}
			m.delay, l.delay = max(m.delay, l.delay), 0
			if len(l.frames) > 0 && (next == nil || l.frames[0].DTS < next.frames[0].DTS) {
				next = l
			}
		}
		if next == nil {
			if slices.ContainsFunc(m.lines, func(l *line) bool { return !l.done }) {
				continue // they are late, all of them
			}
			return nil
		}
		f := next.frames[0]
		next.frames = next.frames[1:]
		if err := m.pace(ctx, f.DTS, len(next.out) > 0); err != nil {
			return err
		}
		if err := m.announce(f.Track); err != nil {
			return err
		}
		if err := m.w.Write(f); err != nil {
			return err
		}
	}
}

// fill waits for a frame. Once the stream has begun it gives up after a while.
func (l *line) fill(ctx context.Context, begun bool) error {
	if len(l.frames) > 0 || l.done {
		return nil
	}
	var late <-chan time.Time
	for len(l.frames) == 0 {
		var c chunk
		var ok bool
		select {
		case c, ok = <-l.out: // without a timer, mostly
		default:
			if late == nil && begun {
				t := time.NewTimer(patience)
				defer t.Stop()
				late = t.C
			}
			select {
			case c, ok = <-l.out:
			case <-late:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if !ok {
			l.done = true
			return l.err
		}
		l.delay = c.delay
		carries := func(k stream.Kind) bool { return l.only == 0 || k == l.only }
		l.frames = slices.DeleteFunc(c.frames, func(f *stream.Frame) bool { return !carries(f.Track.Kind()) })
		l.tracks = slices.DeleteFunc(slices.Clone(c.tracks), func(t *stream.Track) bool { return !carries(t.Kind()) })
	}
	return nil
}

// pace waits until a frame is due. more tells that the next segment is there
// already: time goes a little faster then, or the clock of a source that is faster
// than ours would leave us behind.
func (m *mixer) pace(ctx context.Context, dts time.Duration, more bool) error {
	now := time.Now()
	step := dts - m.last
	if !m.begun || step < -maxBack || step > maxGap {
		m.begun, m.start, m.delay = true, now.Add(m.delay-dts), 0
	} else if more && step > 0 {
		m.start = m.start.Add(-step / 50)
	}
	m.last = max(dts, m.last)
	if step < -maxBack {
		m.last = dts
	}
	due := m.start.Add(dts)
	if late := now.Sub(due); late > maxLate {
		m.start = m.start.Add(late)
		return nil
	}
	if due.Sub(now) < quantum {
		return nil
	}
	return sleep(ctx, due.Sub(now))
}

// announce states the tracks if t is not among them.
func (m *mixer) announce(t *stream.Track) error {
	if slices.Contains(m.tracks, t) {
		return nil
	}
	tracks := slices.Clone(m.tracks)
	put := func(t *stream.Track) {
		if i := slices.IndexFunc(tracks, func(o *stream.Track) bool { return o.ID == t.ID }); i >= 0 {
			tracks[i] = t
		} else {
			tracks = append(tracks, t)
		}
	}
	if m.tracks == nil {
		for _, l := range m.lines {
			for _, t := range l.tracks {
				put(t)
			}
		}
	}
	put(t)
	m.tracks = tracks
	return m.w.SetTracks(tracks...)
}
