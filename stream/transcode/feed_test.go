package transcode

import (
	"bytes"
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// What comes back out of a feed has the times of the stream, to the nanosecond, though
// it began late and went through clocks of 90 kHz; and what the source said of it.
func TestFeed(t *testing.T) {
	for _, codec := range []stream.Codec{stream.H264, stream.H265, stream.VP9} {
		t.Run(codec.String(), func(t *testing.T) {
			p := &streamtest.Pattern{Video: codec, NoAudio: true, Start: 30*time.Hour + 7*time.Nanosecond}
			if codec == stream.H264 {
				p.BFrames = 2
			}
			var frames []*stream.Frame
			for f := range p.Frames(60) {
				f.Time = time.Unix(int64(len(frames)), 0)
				f.Discontinuity = len(frames) == 25
				frames = append(frames, f)
			}
			in, err := newFeed(frames[0].Track, nil, frames[0].DTS)
			require.NoError(t, err)
			var ts times
			ts.reset(in.base)
			var b []byte
			for _, f := range frames {
				require.True(t, in.takes(f))
				ts.add(f)
				b = in.append(b, f)
			}
			require.Equal(t, codec == stream.VP9, in.format() == "ivf")
			var out reel
			require.NoError(t, readOutput(bytes.NewReader(b), codec, &out))
			require.Len(t, out.frames, len(frames))
			for i, f := range out.frames {
				ts.restore(f)
				require.Equal(t, frames[i].PTS, f.PTS)
				require.InDelta(t, frames[i].DTS, f.DTS, float64(12*time.Microsecond))
				require.Equal(t, frames[i].Time, f.Time)
				require.Equal(t, frames[i].Discontinuity, f.Discontinuity)
			}
		})
	}
}

func TestFeedTakes(t *testing.T) {
	p := &streamtest.Pattern{Audio: stream.Opus}
	video, audio := p.Tracks()[0], p.Tracks()[1]
	in, err := newFeed(video, audio, 0)
	require.NoError(t, err)
	require.NotNil(t, in.audio)
	again := *video
	other := *video
	other.Config = append(bytes.Clone(video.Config), 0)
	elsewhere := other
	elsewhere.ID = 9
	require.True(t, in.takes(&stream.Frame{Track: audio}))
	require.True(t, in.takes(&stream.Frame{Track: &again}), "configured alike")
	require.False(t, in.takes(&stream.Frame{Track: &elsewhere}))
	require.False(t, in.stale)
	require.NotEmpty(t, in.append(nil, &stream.Frame{Track: &again, Key: true, Data: []byte{0, 0, 0, 2, 0x65, 1}}))
	require.False(t, in.takes(&stream.Frame{Track: &other}))
	require.True(t, in.stale)

	in, err = newFeed(video, &stream.Track{ID: 2, Codec: stream.PCMA}, 0)
	require.NoError(t, err)
	require.Nil(t, in.audio, "not in MPEG-TS")
	_, err = newFeed(&stream.Track{ID: 1, Codec: stream.PCMA}, nil, 0)
	require.ErrorIs(t, err, stream.ErrUnsupported)
}

// Pictures of an encoder that does not reorder have, at key frames, the DTS of a
// source that does: outputs cut all renditions there.
func TestTapLead(t *testing.T) {
	var hub stream.Hub
	defer hub.Close()
	pub, err := hub.Publish(t.Context(), "live/a", &stream.PublishOptions{Jitter: stream.JitterOff})
	require.NoError(t, err)
	sub, err := hub.Subscribe(t.Context(), "live/a", nil)
	require.NoError(t, err)
	p := &streamtest.Pattern{BFrames: 2, NoAudio: true, Start: time.Hour}
	tap := &tap{out: pub, times: &times{}, progress: func() {}}
	require.NoError(t, tap.SetTracks(p.Tracks()...))
	var shown []*stream.Frame
	for f := range p.Frames(100) {
		if len(shown) == 0 {
			tap.times.reset(f.DTS)
		}
		tap.times.add(f)
		shown = append(shown, f)
	}
	keys := make(map[time.Duration]time.Duration) // DTS by PTS
	slices.SortFunc(shown, func(a, b *stream.Frame) int { return cmp.Compare(a.PTS, b.PTS) })
	for _, f := range shown {
		if f.Key {
			keys[f.PTS] = f.DTS
			require.Less(t, f.DTS, f.PTS)
		}
		at := f.PTS - tap.times.base + offset
		require.NoError(t, tap.Write(&stream.Frame{Track: f.Track, Key: f.Key, DTS: at, PTS: at, Data: []byte{1}}))
	}
	require.GreaterOrEqual(t, len(keys), 2)
	var got []*stream.Frame
	var frames [32]*stream.Frame
	for {
		n, err := sub.TryRead(frames[:])
		require.NoError(t, err)
		if n == 0 {
			break
		}
		got = append(got, frames[:n]...)
	}
	require.NotEmpty(t, got)
	last := time.Duration(0)
	for _, f := range got {
		if f.Key {
			require.Equal(t, keys[f.PTS], f.DTS)
			delete(keys, f.PTS)
		}
		require.LessOrEqual(t, f.DTS, f.PTS)
		require.Greater(t, f.DTS, last)
		last = f.DTS
	}
	require.Empty(t, keys)
}

// A restarted encoder begins with a DTS that lies before what was written last.
func TestTap(t *testing.T) {
	var hub stream.Hub
	defer hub.Close()
	pub, err := hub.Publish(t.Context(), "live/a", &stream.PublishOptions{Jitter: stream.JitterOff})
	require.NoError(t, err)
	sub, err := hub.Subscribe(t.Context(), "live/a", nil)
	require.NoError(t, err)
	fed := 0
	tap := &tap{out: pub, times: &times{}, progress: func() { fed++ }}
	video := (&streamtest.Pattern{}).Tracks()[0]
	write := func(track *stream.Track, dts, pts time.Duration) {
		require.NoError(t, tap.SetTracks(track))
		require.NoError(t, tap.Write(&stream.Frame{Track: track, Key: true, DTS: mpegts.Offset + dts, PTS: mpegts.Offset + pts, Data: []byte{1}}))
	}
	write(video, 100*time.Millisecond, 200*time.Millisecond)
	again := *video
	write(&again, 60*time.Millisecond, 240*time.Millisecond)
	var frames [3]*stream.Frame
	n, err := sub.TryRead(frames[:])
	require.NoError(t, err)
	require.Equal(t, 2, fed)
	frame := frames[n-1]
	require.Greater(t, frame.DTS, 100*time.Millisecond)
	require.Equal(t, 240*time.Millisecond, frame.PTS)
	require.Same(t, video, frame.Track, "the track is the one from before")
}
