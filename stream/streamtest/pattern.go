package streamtest

import (
	"cmp"
	"iter"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Pattern makes frames of any codec for tests that look at their timing,
// order, size and flags rather than into them. Configurations and the first
// bytes of the frames are those of the codec, so that parsers and containers
// take them (a picture of 320x180); a decoder would not. The zero value is
// H.264 at 25 frames a second, a key frame each second, with AAC at 48 kHz.
// Its fields are set before the first call; methods are safe for concurrent
// use.
type Pattern struct {
	Video, Audio     stream.Codec // 0: stream.H264, stream.AAC
	NoVideo, NoAudio bool

	FPS         int // 0: 25
	KeyInterval int // frames from key frame to key frame; 0: one second of them
	BFrames     int // between two pictures that others refer to

	// Bytes of Data. Codecs with a fixed frame size (MP3, AC-3, G.711) have
	// theirs. A size too small for the codec's first bytes is raised.
	KeySize   int // 0: 8000
	FrameSize int // 0: 1000
	AudioSize int // 0: 200

	Start time.Duration // of the timestamps

	once         sync.Once
	video, audio *stream.Track // nil: none
}

// Tracks returns the tracks of the frames: ID 1 is the video, ID 2 the audio.
// They are the same pointers at each call.
func (p *Pattern) Tracks() []*stream.Track {
	p.once.Do(p.makeTracks)
	var tracks []*stream.Track
	for _, t := range []*stream.Track{p.video, p.audio} {
		if t != nil {
			tracks = append(tracks, t)
		}
	}
	return tracks
}

func (p *Pattern) makeTracks() {
	if !p.NoVideo {
		codec := cmp.Or(p.Video, stream.H264)
		p.video = &stream.Track{ID: 1, Codec: codec, Config: configs[codec]}
	}
	if !p.NoAudio {
		codec := cmp.Or(p.Audio, stream.AAC)
		shape := audioShapes[codec]
		p.audio = &stream.Track{ID: 2, Codec: codec, Rate: shape.rate, Channels: shape.channels, Config: configs[codec]}
	}
}

// Frames yields the first n frames in order of DTS, or frames without end if n
// is negative. Each is a new one with Data of its own; the same call yields
// the same frames again.
func (p *Pattern) Frames(n int) iter.Seq[*stream.Frame] {
	p.once.Do(p.makeTracks)
	return func(yield func(*stream.Frame) bool) {
		var videos, audios int64
		for ; n != 0; n-- {
			var f *stream.Frame
			switch {
			case p.video != nil && (p.audio == nil || p.videoDTS(videos) <= p.audioDTS(audios)):
				f = p.videoFrame(videos)
				videos++
			case p.audio != nil:
				f = p.audioFrame(audios)
				audios++
			default:
				return
			}
			if !yield(f) {
				return
			}
		}
	}
}

func (p *Pattern) videoDTS(i int64) time.Duration {
	return p.Start + stream.FromTicks(i, cmp.Or(p.FPS, 25))
}

func (p *Pattern) audioDTS(i int64) time.Duration {
	shape := audioShapes[p.audio.Codec]
	return p.Start + stream.FromTicks(i*shape.samples, shape.rate)
}

// videoFrame returns the i-th picture in decoding order.
func (p *Pattern) videoFrame(i int64) *stream.Frame {
	interval := int64(cmp.Or(p.KeyInterval, cmp.Or(p.FPS, 25)))
	at := i % interval // in the group of pictures, which is closed
	display, b := reorder(at, int64(p.BFrames), interval)
	f := &stream.Frame{
		Track:       p.video,
		DTS:         p.videoDTS(i),
		PTS:         p.videoDTS(i - at + display),
		Key:         at == 0,
		Discardable: b,
	}
	size := cmp.Or(p.FrameSize, 1000)
	if f.Key {
		size = cmp.Or(p.KeySize, 8000)
	}
	f.Data = videoData(p.video.Codec, f, size)
	return f
}

// reorder returns the place in display order of the i-th picture of a group
// that is n long, and whether it is a B picture. Each run of b of those is
// decoded after the picture that ends it, and so displayed one frame late.
func reorder(i, b, n int64) (display int64, isB bool) {
	if b <= 0 {
		return i, false
	}
	const delay = 1
	if i == 0 {
		return delay, false
	}
	before := (i - 1) / (b + 1) * (b + 1) // pictures that complete runs have, beside the key frame
	run := min(b+1, n-1-before)
	if in := i - 1 - before; in > 0 {
		return before + in + delay, true
	}
	return before + run + delay, false
}

func (p *Pattern) audioFrame(i int64) *stream.Frame {
	dts := p.audioDTS(i)
	return &stream.Frame{
		Track: p.audio,
		DTS:   dts,
		PTS:   dts,
		Key:   true,
		Data:  audioData(p.audio.Codec, cmp.Or(p.AudioSize, 200)),
	}
}
