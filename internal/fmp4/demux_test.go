package fmp4

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// What is written is read back as it was.
func TestDemuxer(t *testing.T) {
	for _, codecs := range [][2]stream.Codec{{stream.H264, stream.AAC}, {stream.H265, stream.Opus}, {stream.AV1, stream.MP3}, {stream.VP9, stream.Opus}} {
		t.Run(codecs[0].String(), func(t *testing.T) {
			p := &streamtest.Pattern{Video: codecs[0], Audio: codecs[1], FPS: 30}
			tracks := p.Tracks()
			init, err := Init(tracks...)
			require.NoError(t, err)
			var d Demuxer
			require.NoError(t, d.Init(init))
			require.Len(t, d.Tracks(), 2)
			want := map[stream.Kind][]*stream.Frame{}
			for f := range p.Frames(60) {
				want[f.Track.Kind()] = append(want[f.Track.Kind()], f)
			}
			var b []byte
			const half = 20
			for i, frames := range [][2][]*stream.Frame{
				{want[stream.Video][:half], want[stream.Audio][:half]}, {want[stream.Video][half:], want[stream.Audio][half:]},
			} {
				b = AppendPart(b, uint32(i), Run{Track: tracks[0], Frames: frames[0]}, Run{Track: tracks[1], Frames: frames[1]})
			}
			got, err := d.Segment(b)
			require.NoError(t, err)
			n := map[stream.Kind]int{}
			last := time.Duration(-1)
			for _, f := range got {
				k := f.Track.Kind()
				w := want[k][n[k]]
				n[k]++
				require.GreaterOrEqual(t, f.DTS, last)
				last = f.DTS
				tick := time.Second / time.Duration(Timescale(w.Track))
				require.InDelta(t, w.DTS, f.DTS, float64(tick))
				require.InDelta(t, w.PTS, f.PTS, float64(2*tick))
				require.Equal(t, w.Data, f.Data)
				require.Equal(t, w.Track.Codec, f.Track.Codec)
				if k == stream.Video {
					require.Equal(t, w.Key, f.Key)
					if codecs[0] != stream.VP9 {
						require.Equal(t, w.Track.Config, f.Track.Config)
					}
				}
			}
			require.Equal(t, len(want[stream.Video]), n[stream.Video])
			require.Equal(t, len(want[stream.Audio]), n[stream.Audio])
		})
	}
}

func TestDemuxerRefuses(t *testing.T) {
	var d Demuxer
	require.ErrorIs(t, d.Init(nil), ErrMalformed)
	require.ErrorIs(t, d.Init([]byte{0, 0, 0, 9, 'm', 'o', 'o', 'v'}), ErrMalformed)
	init, err := Init(videoTrack())
	require.NoError(t, err)
	require.NoError(t, d.Init(init))
	part := AppendPart(nil, 1, Run{Track: videoTrack(), Frames: frames(videoTrack(), time.Second, 3)})
	got, err := d.Segment(part)
	require.NoError(t, err)
	require.Len(t, got, 3)
	for n := range len(part) {
		if got, err := d.Segment(part[:n]); err == nil {
			require.Less(t, len(got), 3, "cut to %d bytes", n)
		}
	}
}

func FuzzDemuxer(f *testing.F) {
	p := &streamtest.Pattern{Video: stream.H264, Audio: stream.Opus}
	init, err := Init(p.Tracks()...)
	require.NoError(f, err)
	var run []*stream.Frame
	for frame := range p.Frames(3) {
		if frame.Track.Kind() == stream.Video {
			run = append(run, frame)
		}
	}
	f.Add(init, AppendPart(nil, 1, Run{Track: p.Tracks()[0], Frames: run}))
	init, err = Init(audioTrack())
	require.NoError(f, err)
	f.Add(init, AppendPart(nil, 1, Run{Track: audioTrack(), Frames: frames(audioTrack(), time.Second, 2)}))
	f.Fuzz(func(t *testing.T, init, segment []byte) {
		var d Demuxer
		if d.Init(init) != nil {
			return
		}
		require.LessOrEqual(t, len(d.Tracks()), 2)
		frames, err := d.Segment(segment)
		if err != nil {
			return
		}
		size := 0
		for _, f := range frames {
			size += len(f.Data)
			require.NotEmpty(t, f.Data)
		}
		require.LessOrEqual(t, len(frames), maxSegmentFrames)
	})
}
