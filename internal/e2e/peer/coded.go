package peer

import (
	"cmp"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4/seekablebuffer"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"
	"github.com/stretchr/testify/require"
)

// Coded is media that was not decoded: what a foreign RTMP peer sends or
// received.
type Coded struct {
	Tracks []codecs.Codec
	Frames []CodedFrame // in the order of DTS
}

// A CodedFrame holds its bytes as MP4 does: NAL units behind their lengths,
// OBUs with sizes.
type CodedFrame struct {
	Track    int // index of Coded.Tracks
	DTS, PTS time.Duration
	Key      bool
	Data     []byte
}

// fragmented makes ffmpeg write an MP4 file that ReadMP4 can read.
const fragmented = "-movflags frag_keyframe+delay_moov+default_base_moof"

// The clips of codecs that only enhanced RTMP carries, for ReadMP4.
var (
	HEVC = &Clip{Name: "hevc.mp4", Seconds: 3, Container: fragmented, Audio: libopus,
		Video: "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params log-level=error:keyint=50:scenecut=0:bframes=2"}
	AV1 = &Clip{Name: "av1.mp4", Seconds: 3, Container: fragmented, Audio: libopus,
		Video: "-c:v libaom-av1 -cpu-used 8 -usage realtime -row-mt 1 -pix_fmt yuv420p -b:v 300k -g 50"}
	VP9 = &Clip{Name: "vp9.mp4", Seconds: 3, Container: fragmented, Audio: libopus,
		Video: "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p -b:v 300k -g 50"}
)

const libopus = "-c:a libopus -b:a 64k"

// ReadMP4 reads a fragmented MP4 file.
func ReadMP4(t testing.TB, path string) *Coded {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var init fmp4.Init
	require.NoError(t, init.Unmarshal(f))
	var parts fmp4.Parts
	require.NoError(t, parts.Unmarshal(b))

	c := &Coded{}
	index := map[int]int{} // of track IDs
	for i, track := range init.Tracks {
		c.Tracks = append(c.Tracks, track.Codec)
		index[track.ID] = i
	}
	for _, part := range parts {
		for _, track := range part.Tracks {
			i := index[track.ID]
			ticks := func(n int64) time.Duration {
				return time.Duration(n) * time.Second / time.Duration(init.Tracks[i].TimeScale)
			}
			at := int64(track.BaseTime)
			for _, s := range track.Samples {
				c.Frames = append(c.Frames, CodedFrame{
					Track: i, DTS: ticks(at), PTS: ticks(at + int64(s.PTSOffset)), Key: !s.IsNonSyncSample, Data: s.Payload,
				})
				at += int64(s.Duration)
			}
		}
	}
	slices.SortStableFunc(c.Frames, func(a, b CodedFrame) int { return cmp.Compare(a.DTS, b.DTS) })
	return c
}

// WriteMP4 writes a fragmented MP4 file, for ffmpeg to decode.
func (c *Coded) WriteMP4(t testing.TB, path string) {
	t.Helper()
	const scale = 90000
	ticks := func(d time.Duration) int64 { return int64(d.Round(time.Millisecond) / time.Millisecond * scale / 1000) }
	var head, body seekablebuffer.Buffer
	init := fmp4.Init{}
	for i, codec := range c.Tracks {
		init.Tracks = append(init.Tracks, &fmp4.InitTrack{ID: i + 1, TimeScale: scale, Codec: codec})
	}
	require.NoError(t, init.Marshal(&head))
	part := fmp4.Part{SequenceNumber: 1}
	for i := range c.Tracks {
		frames := c.Of(i)
		if len(frames) == 0 {
			continue
		}
		track := &fmp4.PartTrack{ID: i + 1, BaseTime: uint64(ticks(frames[0].DTS))}
		for j, frame := range frames {
			next := frame.DTS + 40*time.Millisecond
			if j+1 < len(frames) {
				next = frames[j+1].DTS
			}
			track.Samples = append(track.Samples, &fmp4.Sample{
				Duration:  uint32(ticks(next) - ticks(frame.DTS)),
				PTSOffset: int32(ticks(frame.PTS) - ticks(frame.DTS)), IsNonSyncSample: !frame.Key, Payload: frame.Data,
			})
		}
		part.Tracks = append(part.Tracks, track)
	}
	require.NoError(t, part.Marshal(&body))
	require.NoError(t, os.WriteFile(path, append(head.Bytes(), body.Bytes()...), 0o644))
}

// Of returns the frames of a track.
func (c *Coded) Of(track int) (frames []CodedFrame) {
	for _, f := range c.Frames {
		if f.Track == track {
			frames = append(frames, f)
		}
	}
	return frames
}

// Repeat returns the media so many times in a row.
func (c *Coded) Repeat(times int) *Coded {
	last := c.Frames[len(c.Frames)-1].DTS
	out := &Coded{Tracks: c.Tracks}
	for i := range times {
		shift := time.Duration(i) * (last + 40*time.Millisecond).Round(40*time.Millisecond)
		for _, f := range c.Frames {
			f.DTS, f.PTS = f.DTS+shift, f.PTS+shift
			out.Frames = append(out.Frames, f)
		}
	}
	return out
}
