package streamtest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// TB is the part of testing.TB that the checks use; *testing.T has it.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Collect reads n frames, or all up to the end of the stream if n is negative,
// and closes sub. An end that comes earlier, ctx's end and any other error are
// fatal to the test.
func Collect(ctx context.Context, t TB, sub *stream.Subscriber, n int) []*stream.Frame {
	t.Helper()
	defer sub.Close()
	var frames []*stream.Frame
	var batch [16]*stream.Frame
	for n < 0 || len(frames) < n {
		room := batch[:]
		if n >= 0 {
			room = batch[:min(len(batch), n-len(frames))]
		}
		got, err := sub.Read(ctx, room)
		frames = append(frames, room[:got]...)
		if err == nil {
			continue
		}
		if n >= 0 || !errors.Is(err, io.EOF) {
			t.Fatalf("streamtest: read %d frames, then: %v", len(frames), err)
		}
		break
	}
	return frames
}

// CheckTimeline fails the test if frames, in the order in which a player got
// them, are not what a player can use: DTS must grow on each track and PTS not
// lie before it, video must begin with a key frame, and if maxGap is not 0, DTS
// may not step by more than that on a track. A frame that is marked as a
// Discontinuity may step forward as far as it likes.
func CheckTimeline(t TB, frames []*stream.Frame, maxGap time.Duration) {
	t.Helper()
	last := make(map[uint8]*stream.Frame)
	for i, f := range frames {
		prev := last[f.Track.ID]
		last[f.Track.ID] = f
		if f.PTS < f.DTS {
			t.Errorf("streamtest: frame %d, track %d: PTS %v before DTS %v", i, f.Track.ID, f.PTS, f.DTS)
		}
		if prev == nil {
			if f.Track.Kind() == stream.Video && !f.Key {
				t.Errorf("streamtest: frame %d, track %d: the first is no key frame", i, f.Track.ID)
			}
			continue
		}
		switch step := f.DTS - prev.DTS; {
		case step <= 0:
			t.Errorf("streamtest: frame %d, track %d: DTS %v after %v", i, f.Track.ID, f.DTS, prev.DTS)
		case maxGap > 0 && step > maxGap && !f.Discontinuity:
			t.Errorf("streamtest: frame %d, track %d: DTS %v leaves a gap of %v", i, f.Track.ID, f.DTS, step)
		}
	}
}
