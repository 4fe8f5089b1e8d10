package streamtest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestPatternDefaults(t *testing.T) {
	p := new(streamtest.Pattern)
	frames := slices.Collect(p.Frames(719)) // 10 s
	streamtest.CheckTimeline(t, frames, picture)
	video, audio := 0, 0
	for _, f := range frames {
		if f.Track == p.Tracks()[0] {
			require.Equal(t, time.Duration(video)*picture, f.DTS)
			require.Equal(t, f.DTS, f.PTS)
			require.Equal(t, video%25 == 0, f.Key)
			want := 1000
			if f.Key {
				want = 8000
			}
			require.Len(t, f.Data, want)
			video++
			continue
		}
		require.Same(t, p.Tracks()[1], f.Track)
		require.Equal(t, stream.FromTicks(int64(audio)*1024, 48000), f.DTS)
		require.True(t, f.Key)
		require.Len(t, f.Data, 200)
		audio++
	}
	require.Equal(t, 250, video)
	require.Equal(t, 469, audio)
	require.Equal(t, frames, slices.Collect(p.Frames(719)))
}

func TestPatternFields(t *testing.T) {
	p := &streamtest.Pattern{NoAudio: true, FPS: 50, KeyInterval: 10, KeySize: 3, FrameSize: 60, Start: time.Hour}
	frames := slices.Collect(p.Frames(100))
	require.Len(t, p.Tracks(), 1)
	for i, f := range frames {
		require.Equal(t, time.Hour+time.Duration(i)*20*time.Millisecond, f.DTS)
		require.Equal(t, i%10 == 0, f.Key)
		if f.Key {
			require.Len(t, f.Data, 6) // length, NAL header, slice header
		} else {
			require.Len(t, f.Data, 60)
		}
	}
	require.Empty(t, slices.Collect((&streamtest.Pattern{NoVideo: true, NoAudio: true}).Frames(-1)))
	n := 0
	for range new(streamtest.Pattern).Frames(-1) {
		if n++; n == 5000 {
			break
		}
	}
}

func TestPatternBFrames(t *testing.T) {
	for b := 1; b <= 4; b++ {
		for interval := 1; interval <= 12; interval++ {
			t.Run(fmt.Sprintf("%d in %d", b, interval), func(t *testing.T) {
				p := &streamtest.Pattern{NoAudio: true, BFrames: b, KeyInterval: interval}
				frames := slices.Collect(p.Frames(3 * interval))
				streamtest.CheckTimeline(t, frames, picture)
				var pts []time.Duration
				highest := time.Duration(-1)
				for _, f := range frames {
					require.Equal(t, f.PTS < highest, f.Discardable) // shown before one that is decoded earlier
					highest = max(highest, f.PTS)
					pts = append(pts, f.PTS)
				}
				slices.Sort(pts)
				for i, v := range pts {
					require.Equal(t, time.Duration(i+1)*picture, v)
				}
			})
		}
	}
}

func TestPatternCodecs(t *testing.T) {
	for _, codec := range []stream.Codec{stream.H264, stream.H265, stream.AV1, stream.VP8, stream.VP9} {
		p := &streamtest.Pattern{Video: codec, NoAudio: true, FrameSize: 500, BFrames: 1}
		track := p.Tracks()[0]
		require.Equal(t, codec, track.Codec)
		if codec != stream.VP8 && codec != stream.VP9 { // theirs is in the frames
			info, err := track.Video()
			require.NoError(t, err, "%v", codec)
			require.Equal(t, []int{320, 180}, []int{info.Width, info.Height}, "%v", codec)
		}
		for f := range p.Frames(30) {
			if !f.Key {
				require.Len(t, f.Data, 500, "%v", codec)
			}
		}
	}
	for codec, frame := range map[stream.Codec]time.Duration{
		stream.AAC:  packet,
		stream.MP3:  24 * time.Millisecond,
		stream.Opus: 20 * time.Millisecond,
		stream.AC3:  32 * time.Millisecond,
		stream.PCMA: 20 * time.Millisecond,
		stream.PCMU: 20 * time.Millisecond,
	} {
		p := &streamtest.Pattern{Audio: codec, NoVideo: true}
		track := p.Tracks()[0]
		frames := slices.Collect(p.Frames(100))
		streamtest.CheckTimeline(t, frames, frame+1)
		require.InDelta(t, 99*frame, frames[99].DTS, 99)
		require.NotZero(t, track.Rate)
		if codec == stream.AAC || codec == stream.Opus {
			info, err := track.Audio()
			require.NoError(t, err)
			require.Equal(t, []int{track.Rate, track.Channels}, []int{info.Rate, info.Channels})
		}
	}
}

// What a container needs to know of a frame is in its bytes: frames that have
// been through FLV, which keeps no more than those, are the same again.
func TestPatternThroughFLV(t *testing.T) {
	for _, p := range []*streamtest.Pattern{
		{},
		{BFrames: 2, Audio: stream.MP3},
		{Video: stream.H265, Audio: stream.Opus, BFrames: 1},
		{Video: stream.AV1, Audio: stream.AC3},
		{Video: stream.VP8, NoAudio: true},
		{Video: stream.VP9, Audio: stream.PCMA},
		{NoVideo: true, Audio: stream.PCMU},
	} {
		sent := slices.Collect(p.Frames(100))
		var back sink
		demuxer := &flv.Demuxer{Sink: &back}
		for _, track := range p.Tracks() {
			config, err := flv.AppendConfigBody(nil, track)
			require.NoError(t, err)
			require.NoError(t, demuxer.Tag(flv.TagType(track), 0, config, time.Time{}))
		}
		for _, f := range sent {
			body, err := flv.AppendFrameHeader(nil, f)
			require.NoError(t, err)
			body = append(body, f.Data...)
			require.NoError(t, demuxer.Tag(flv.TagType(f.Track), stream.Ticks(f.DTS, 1000), body, time.Time{}))
		}
		require.Zero(t, demuxer.Dropped())
		require.Len(t, back.frames, len(sent))
		for i, f := range sent {
			got := back.frames[i]
			require.Equal(t, f.Data, got.Data, "%v, frame %d", f.Track.Codec, i)
			require.Equal(t, f.Track.Codec, got.Track.Codec)
			require.Equal(t, f.Key, got.Key, "%v, frame %d", f.Track.Codec, i)
			require.InDelta(t, f.DTS, got.DTS, float64(time.Millisecond))
			require.InDelta(t, f.PTS, got.PTS, float64(time.Millisecond))
		}
	}
}

// sink keeps the frames that it is given.
type sink struct{ frames []*stream.Frame }

func (s *sink) SetTracks(...*stream.Track) error { return nil }
func (s *sink) SetMetadata(stream.Metadata)      {}
func (s *sink) Write(f *stream.Frame) error      { s.frames = append(s.frames, f); return nil }
