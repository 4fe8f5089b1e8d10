package hls

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// maxChunk is the size at which the bytes of a segment in the making are put
// away, so that what is put away wastes little and nothing is copied twice.
const maxChunk = 256 << 10

// A tsPacker makes segments of MPEG-TS.
type tsPacker struct {
	*output
	mux    TSMuxer
	tracks []*stream.Track // configured; the slice is replaced, not modified
	reject *stream.Track   // seen last that cannot be carried
	buf    []byte          // bytes that are not put away yet
	sounds []*stream.Frame // of one track: they are to share packets
	any    bool
	sealer *sealer
	newest time.Duration
	step   time.Duration
}

// wanted returns the tracks that a segment which begins now should carry: those
// that there are, and at the stream's start those that are announced.
func (t *tsPacker) wanted() (want []*stream.Track) {
	c := &t.p.cutter
	add := func(track *stream.Track) {
		if track == nil || track.Kind() == stream.Data || slices.ContainsFunc(want, func(w *stream.Track) bool { return w.Kind() == track.Kind() }) {
			return
		}
		if slices.Contains(t.tracks, track) || t.p.cfg.TS().Configure([]*stream.Track{track}) == nil {
			want = append(want, track)
		}
	}
	for _, l := range []*lane{&c.video, &c.audio} {
		// With a break the announcement may be newer than what came last.
		for _, a := range c.announced {
			if c.broken && l.track != nil && a.ID == l.track.ID && a.Kind() == l.track.Kind() {
				add(a)
			}
		}
		add(l.track)
	}
	if t.tracks == nil {
		for _, a := range c.announced {
			add(a)
		}
	}
	for _, old := range t.tracks { // one that has gone silent may come back
		add(old)
	}
	return want
}

// configure sets the muxer up for the segment that begins. It reports whether
// the tracks are other ones than before.
func (t *tsPacker) configure() (changed bool) {
	want := t.wanted()
	if len(want) == 0 {
		t.err = fmt.Errorf("%w: %w", errNoTracks, stream.ErrUnsupported)
		return false
	}
	if slices.Equal(want, t.tracks) {
		return false
	}
	if t.mux == nil {
		t.mux = t.p.cfg.TS()
	}
	if err := t.mux.Configure(want); err != nil {
		if t.tracks == nil {
			t.err = err
		}
		return false
	}
	changed = t.tracks != nil && !slices.EqualFunc(want, t.tracks, (*stream.Track).Same)
	t.tracks, t.err = want, nil
	return changed
}

// accepts reports whether the track is one that the segment's tables name. A
// new one is waited for with a discontinuity.
func (t *tsPacker) accepts(f *stream.Frame) bool {
	if slices.Contains(t.tracks, f.Track) {
		return true
	}
	for i, old := range t.tracks {
		if old.Same(f.Track) {
			tracks := slices.Clone(t.tracks)
			tracks[i] = f.Track
			t.join() // of the old one
			if t.mux.Configure(tracks) == nil {
				t.tracks = tracks
				return true
			}
			return false
		}
	}
	if t.reject != f.Track {
		if t.p.cfg.TS().Configure([]*stream.Track{f.Track}) == nil {
			t.p.cutter.broken = true
		} else {
			t.reject = f.Track
		}
	}
	return false
}

func (t *tsPacker) begin() {
	t.any = false
	if t.cur.Key != nil {
		t.sealer = newSealer(t.cur.Key, t.cur.Sequence)
	}
}

func (t *tsPacker) empty() bool { return !t.any }

func (t *tsPacker) frame(f *stream.Frame) {
	if !t.any {
		t.any, t.newest = true, f.DTS
		t.buf = t.mux.AppendTables(t.buf[:0])
	} else if f.DTS > t.newest {
		t.step = f.DTS - t.newest
	}
	t.newest = max(t.newest, f.DTS)
	if n := len(t.sounds); n > 0 {
		first := t.sounds[0]
		if last := t.sounds[n-1]; f.DTS-first.DTS+(f.DTS-last.DTS) > maxJoint && f.Track == first.Track ||
			f.Track != first.Track && (f.Track.Kind() == stream.Audio || f.DTS-first.DTS > maxJoint) {
			t.join()
		}
	}
	if f.Track.Kind() == stream.Audio {
		t.sounds = append(t.sounds, f)
	} else {
		one := [1]*stream.Frame{f}
		t.buf = t.mux.AppendFrames(t.buf, one[:])
	}
	if len(t.buf) >= maxChunk {
		t.flush(false)
	}
}

// maxJoint is how much sound shares packets: receivers expect a clock that often.
const maxJoint = 100 * time.Millisecond

// join writes the sound that has been collected.
func (t *tsPacker) join() {
	if len(t.sounds) > 0 {
		t.buf = t.mux.AppendFrames(t.buf, t.sounds)
		clear(t.sounds)
		t.sounds = t.sounds[:0]
	}
}

func (t *tsPacker) flush(last bool) {
	if len(t.buf) > 0 || last && t.sealer != nil {
		var b []byte
		if t.sealer != nil {
			b = t.sealer.seal(t.buf, last)
		} else {
			b = bytes.Clone(t.buf)
		}
		t.append(b)
	}
	t.buf = t.buf[:0]
	if last {
		t.sealer = nil
	}
}

func (t *tsPacker) end(time.Duration, bool) {
	t.join()
	t.flush(true)
}

func (t *tsPacker) naturalEnd() time.Duration { return t.newest + max(t.step, time.Millisecond) }

func (t *tsPacker) carries() []*stream.Track { return t.tracks }
