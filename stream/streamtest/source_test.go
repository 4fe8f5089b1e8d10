package streamtest_test

import (
	"context"
	"io"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

const (
	picture = time.Second / 25
	packet  = 1024 * time.Second / 48000 // rounded down
)

func TestSourceFrames(t *testing.T) {
	for name, tt := range map[string]struct {
		src          streamtest.Source
		video, audio int
		delay        time.Duration // of the first PTS
	}{
		"both":       {src: streamtest.Source{}, video: 500, audio: 938},
		"no video":   {src: streamtest.Source{NoVideo: true}, audio: 938},
		"no audio":   {src: streamtest.Source{NoAudio: true}, video: 500},
		"b-frames":   {src: streamtest.Source{BFrames: true}, video: 500, audio: 938, delay: picture},
		"b no video": {src: streamtest.Source{BFrames: true, NoVideo: true}, audio: 938},
		"start":      {src: streamtest.Source{Start: 1 << 32 * time.Millisecond}, video: 500, audio: 938},
		"nothing":    {src: streamtest.Source{NoVideo: true, NoAudio: true}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.src.Duration = 20 * time.Second // two and a half turns
			tracks := tt.src.Tracks()
			var all []*stream.Frame
			n := map[stream.Kind]int{}
			pts := map[time.Duration]bool{}
			discardable := 0
			for f := range tt.src.Frames() {
				i := n[f.Track.Kind()]
				n[f.Track.Kind()]++
				require.Contains(t, tracks, f.Track)
				require.NotEmpty(t, f.Data)
				switch f.Track.Kind() {
				case stream.Video:
					require.Equal(t, i%25 == 0, f.Key, "picture %d", i)
					require.Equal(t, tt.src.Start+time.Duration(i)*picture, f.DTS)
					require.False(t, pts[f.PTS], "PTS %v again", f.PTS)
					pts[f.PTS] = true
					if f.Discardable {
						discardable++
					}
				case stream.Audio:
					require.Equal(t, f.DTS, f.PTS)
					require.Equal(t, tt.src.Start+tt.delay+stream.FromTicks(int64(i)*1024, 48000), f.DTS)
				}
				if len(all) > 0 {
					require.LessOrEqual(t, all[len(all)-1].DTS, f.DTS)
				}
				all = append(all, f)
			}
			require.Equal(t, tt.video, n[stream.Video])
			require.Equal(t, tt.audio, n[stream.Audio])
			for i := range tt.video { // each is shown, one after the other
				require.True(t, pts[tt.src.Start+tt.delay+time.Duration(i)*picture], "picture %d", i)
			}
			require.Equal(t, tt.src.BFrames && !tt.src.NoVideo, discardable > 0)
			streamtest.CheckTimeline(t, all, picture)
		})
	}
}

func TestSourceTracks(t *testing.T) {
	for _, tt := range []struct {
		src           streamtest.Source
		width, height int
	}{
		{streamtest.Source{}, 640, 360},
		{streamtest.Source{BFrames: true}, 320, 180},
	} {
		tracks := tt.src.Tracks()
		require.Len(t, tracks, 2)
		require.Same(t, tracks[0], tt.src.Tracks()[0])
		video, err := tracks[0].Video()
		require.NoError(t, err)
		require.Equal(t, "High", video.Profile)
		require.Equal(t, []int{tt.width, tt.height}, []int{video.Width, video.Height})
		require.InDelta(t, 25, video.FPS, 0.001)
		require.Equal(t, stream.AAC, tracks[1].Codec)
		require.Equal(t, []int{48000, 2}, []int{tracks[1].Rate, tracks[1].Channels})
		require.Equal(t, "mp4a.40.2", tracks[1].CodecString())
	}
}

// Frames come when they are due, to the nanosecond, two minutes on as well.
func TestSourceKeepsTime(t *testing.T) {
	for _, speed := range []float64{0, 1, 2, 0.5} {
		synctest.Test(t, func(t *testing.T) {
			var hub stream.Hub
			defer hub.Close()
			start := time.Now()
			src := &streamtest.Source{Duration: 2 * time.Minute, Speed: speed}
			done := make(chan error, 1)
			go func() { done <- src.Run(t.Context(), &hub, "live/clip") }()
			synctest.Wait()
			sub, err := hub.Subscribe(t.Context(), "live/clip", nil)
			require.NoError(t, err)
			frames := 0
			for f, err := range sub.Frames(t.Context()) {
				require.NoError(t, err)
				if speed == 0 {
					require.Equal(t, f.DTS, time.Since(start))
				}
				require.Zero(t, time.Since(f.Time))
				frames++
			}
			require.NoError(t, <-done)
			require.Equal(t, 2*60*25+2*60*48000/1024, frames)
			want := 2 * time.Minute
			if speed != 0 {
				want = time.Duration(float64(want) / speed)
			}
			require.InDelta(t, want, time.Since(start), float64(2*picture))
		})
	}
}

func TestSourceUnpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		defer hub.Close()
		start := time.Now()
		p, err := hub.Publish(t.Context(), "live/clip", nil)
		require.NoError(t, err)
		sub, err := hub.Subscribe(t.Context(), "live/clip", nil)
		require.NoError(t, err)
		src := &streamtest.Source{Duration: time.Second, Speed: math.Inf(1), Metadata: stream.Metadata{"title": "mine"}}
		require.NoError(t, src.Feed(t.Context(), p))
		require.Equal(t, src.Metadata, sub.Metadata())
		require.NoError(t, p.Close())
		frames := streamtest.Collect(t.Context(), t, sub, -1)
		require.Len(t, frames, 25+47)
		streamtest.CheckTimeline(t, frames, picture)
		require.Zero(t, time.Since(start))
	})
}

func TestSourceEnds(t *testing.T) {
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var hub stream.Hub
			defer hub.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := new(streamtest.Source).Run(ctx, &hub, "live/clip")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Nil(t, hub.Stream("live/clip"))
			require.ErrorIs(t, new(streamtest.Source).Run(ctx, &hub, "live/clip"), context.DeadlineExceeded)
		})
	})
	t.Run("replaced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var hub stream.Hub
			defer hub.Close()
			done := make(chan error, 1)
			go func() { done <- new(streamtest.Source).Run(t.Context(), &hub, "live/clip") }()
			time.Sleep(time.Second)
			require.ErrorIs(t, new(streamtest.Source).Run(t.Context(), &hub, "live/clip"), stream.ErrBusy)
			src := &streamtest.Source{Duration: time.Second, Options: &stream.PublishOptions{Replace: true}}
			require.NoError(t, src.Run(t.Context(), &hub, "live/clip"))
			require.ErrorIs(t, <-done, stream.ErrReplaced)
		})
	})
	t.Run("writer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			require.Equal(t, io.ErrShortWrite, new(streamtest.Source).Feed(t.Context(), &brokenWriter{after: 10}))
			require.Equal(t, io.ErrShortWrite, new(streamtest.Source).Feed(t.Context(), &brokenWriter{after: -1}))
		})
	})
}

type brokenWriter struct{ after int }

func (w *brokenWriter) SetMetadata(stream.Metadata) {}

func (w *brokenWriter) SetTracks(...*stream.Track) error {
	if w.after < 0 {
		return io.ErrShortWrite
	}
	return nil
}

func (w *brokenWriter) Write(*stream.Frame) error {
	if w.after--; w.after < 0 {
		return io.ErrShortWrite
	}
	return nil
}

func BenchmarkSource(b *testing.B) {
	b.ReportAllocs()
	src := new(streamtest.Source)
	n := 0
	for range src.Frames() {
		if n++; n == b.N {
			return
		}
	}
}
