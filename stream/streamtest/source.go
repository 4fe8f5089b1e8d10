package streamtest

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Source publishes the embedded clip: a moving picture (H.264 High, 640x360,
// 25 frames a second, a key frame each second) with a soft chord and a bell
// (AAC-LC, 48 kHz, stereo), about 300 kbit/s. It is 8 s long and loops without
// a seam in picture, sound or timestamps. At every full second a dot lights up
// and a note is struck, so that one sees and hears whether they are in time.
//
// The zero value publishes both tracks in real time until the context ends.
type Source struct {
	Duration time.Duration // of media to publish; 0: without end
	Speed    float64       // media seconds a second; 0: 1, real time; math.Inf(1): as fast as the reader of the frames goes
	Start    time.Duration // of the timestamps

	// BFrames selects a variant of the picture at 320x180 and 40 kbit/s with
	// B-frames, whose PTS are not in the order of their DTS. The first PTS
	// of the picture is then 40 ms, and of the sound too.
	BFrames bool

	NoVideo, NoAudio bool

	Metadata stream.Metadata        // nil: a title
	Options  *stream.PublishOptions // for Run; nil: none
}

// A Writer takes what a Source produces: a *stream.Publisher, or what sends it
// over a protocol.
type Writer interface {
	SetTracks(tracks ...*stream.Track) error
	SetMetadata(m stream.Metadata)
	Write(f *stream.Frame) error
}

// Run publishes under name until the media of Duration is through (it returns
// nil), ctx ends (its error), or the publisher was ended by somebody else
// (stream.ErrReplaced and the like). It blocks.
func (s *Source) Run(ctx context.Context, hub *stream.Hub, name string) error {
	p, err := hub.Publish(ctx, name, s.Options)
	if err != nil {
		return err
	}
	defer p.Close()
	return s.Feed(ctx, p)
}

// Feed is Run for any Writer. It does not close w.
func (s *Source) Feed(ctx context.Context, w Writer) error {
	if err := w.SetTracks(s.Tracks()...); err != nil {
		return err
	}
	m := maps.Clone(s.Metadata)
	if m == nil {
		m = stream.Metadata{"title": "Runnel test clip"}
	}
	w.SetMetadata(m)
	return Feed(ctx, w, s.Frames(), s.Speed)
}

// Tracks returns the tracks of the frames: ID 1 is the picture, ID 2 the
// sound. They are the same pointers at each call.
func (s *Source) Tracks() []*stream.Track {
	var tracks []*stream.Track
	for _, l := range s.loops() {
		tracks = append(tracks, l.track)
	}
	return tracks
}

// Frames yields the frames in order of DTS, each a new one that the caller may
// give to a Publisher. Their Data is shared and must not be modified.
func (s *Source) Frames() iter.Seq[*stream.Frame] {
	return func(yield func(*stream.Frame) bool) {
		shift := time.Duration(0) // the sound waits for the picture
		var tracks []*position
		for _, l := range s.loops() {
			if l.track.Kind() == stream.Video {
				shift = stream.FromTicks(l.frames[0].pts, l.rate)
				tracks = append(tracks, &position{loop: l})
			} else {
				tracks = append(tracks, &position{loop: l, shift: shift})
			}
		}
		ended := func(p *position) bool { return s.Duration > 0 && p.dts()-p.shift >= s.Duration }
		for {
			tracks = slices.DeleteFunc(tracks, ended)
			if len(tracks) == 0 {
				return
			}
			p := slices.MinFunc(tracks, func(a, b *position) int { return cmp.Compare(a.dts(), b.dts()) })
			if !yield(p.next(s.Start)) {
				return
			}
		}
	}
}

func (s *Source) loops() []*loop {
	main := mainClip()
	var loops []*loop
	switch {
	case s.NoVideo:
	case s.BFrames:
		loops = append(loops, bframesClip().video)
	default:
		loops = append(loops, main.video)
	}
	if !s.NoAudio {
		loops = append(loops, main.audio)
	}
	return loops
}

// Feed writes frames to w when they are due: f.DTS after the first one's, as
// measured by a clock that runs speed times as fast as time does (0: 1;
// math.Inf(1): every frame is due at once). Frame.Time is set to that moment
// where it is zero. It returns nil after the last frame, ctx's error when that
// ends, and what w.Write fails with.
func Feed(ctx context.Context, w interface{ Write(*stream.Frame) error }, frames iter.Seq[*stream.Frame], speed float64) error {
	if speed == 0 {
		speed = 1
	}
	paced := !math.IsInf(speed, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	start, first, begun := time.Now(), time.Duration(0), false
	for f := range frames {
		if !begun {
			first, begun = f.DTS, true
		}
		if paced {
			due := start.Add(time.Duration(float64(f.DTS-first) / speed)) // from the start, so that errors do not add up
			timer.Reset(time.Until(due))
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			if f.Time.IsZero() {
				f.Time = due
			}
		} else if f.Time.IsZero() {
			f.Time = time.Now()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.Write(f); err != nil {
			return err
		}
	}
	return nil
}
