package transcode

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
)

// live is a hub with one stream, which goes on until the test ends.
func live(t *testing.T, source *streamtest.Source) (*stream.Hub, *stream.Stream) {
	t.Helper()
	hub := &stream.Hub{}
	t.Cleanup(func() { hub.Close() })
	pub, err := hub.Publish(t.Context(), "live/cam", nil)
	require.NoError(t, err)
	fed := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(fed)
		_ = source.Feed(ctx, pub)
	}()
	t.Cleanup(func() {
		cancel()
		<-fed
	})
	return hub, pub.Stream()
}

// start runs something that follows the hub until the test ends.
func start(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
	})
}

func all(string) bool { return true }

// read reads a rendition until it has so many frames.
func read(t *testing.T, s *stream.Stream, name string, n int) []*stream.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var r *stream.Rendition
	peer.Eventually(t, 30*time.Second, "rendition "+name, func() bool {
		r = s.Rendition(name)
		return r != nil
	})
	sub, err := r.Subscribe(nil)
	require.NoError(t, err)
	return streamtest.Collect(ctx, t, sub, n)
}

// TestCodecs: in each codec the pictures have the size, and the times and key frames of
// the source.
func TestCodecs(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	for _, codec := range []stream.Codec{stream.H264, stream.H265, stream.VP8, stream.VP9, stream.AV1} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			hub, s := live(t, &streamtest.Source{BFrames: true})
			start(t, (&transcode.Ladder{
				Hub: hub, Match: all,
				Steps: []transcode.Step{
					{Name: "small", Codec: codec, Height: 90, BitRate: 60e3},
					{Name: "large", Height: 2160},
				},
			}).Run)
			source, err := hub.Subscribe(t.Context(), "live/cam", nil)
			require.NoError(t, err)
			defer source.Close()
			frames := read(t, s, "small", 60)
			require.Nil(t, s.Rendition("large"), "nothing is enlarged")
			streamtest.CheckTimeline(t, frames, 45*time.Millisecond)
			info := s.Rendition("small").Info()
			require.Equal(t, 160, info.Width)

			at := make(map[time.Duration]*stream.Frame)
			keys := 0
			for at[frames[len(frames)-1].PTS] == nil {
				f, err := next(t, source)
				require.NoError(t, err)
				if f.Track.Kind() == stream.Video {
					at[f.PTS] = f
				}
			}
			for _, f := range frames {
				of := at[f.PTS]
				require.NotNil(t, of, "the source has a picture at %v", f.PTS)
				require.Equal(t, of.Key, f.Key, "at %v", f.PTS)
				require.Equal(t, of.Time, f.Time)
				if f.Key {
					keys++
				}
			}
			require.GreaterOrEqual(t, keys, 2)
			if codec != stream.VP8 && codec != stream.VP9 {
				video, err := frames[0].Track.Video()
				require.NoError(t, err)
				require.Equal(t, []int{160, 90}, []int{video.Width, video.Height})
			}
		})
	}
}

func next(t *testing.T, sub *stream.Subscriber) (*stream.Frame, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var one [1]*stream.Frame
	_, err := sub.Read(ctx, one[:])
	return one[0], err
}
