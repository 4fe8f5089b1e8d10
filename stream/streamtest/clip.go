package streamtest

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/stream"
)

//go:generate ./clip.sh

var (
	//go:embed clip/main.mp4
	mainMP4 []byte
	//go:embed clip/bframes.mp4
	bframesMP4 []byte
)

// The clips are parsed when they are first used. Their frames alias the
// embedded files.
var (
	mainClip    = sync.OnceValue(func() clip { return mustParse(mainMP4) })
	bframesClip = sync.OnceValue(func() clip { return mustParse(bframesMP4) })
)

// A clip is what one of the files holds. Its loops have the same length.
type clip struct{ video, audio *loop }

// A loop is the frames of one track, which play over and over.
type loop struct {
	track  *stream.Track
	rate   int   // clock of the timestamps, Hz
	length int64 // of one turn, ticks
	frames []sample
}

type sample struct {
	dts, pts         int64 // ticks from the start of the turn
	key, discardable bool
	data             []byte
}

// A position is where in the endless repetition of a loop somebody is.
type position struct {
	*loop
	turn  int64 // counted from 0
	index int   // of the next sample in the turn
	shift time.Duration
}

// dts returns the decoding time of the next frame.
func (p *position) dts() time.Duration {
	return stream.FromTicks(p.turn*p.length+p.frames[p.index].dts, p.rate) + p.shift
}

// next returns the next frame, delayed by start, and moves on.
func (p *position) next(start time.Duration) *stream.Frame {
	s := &p.frames[p.index]
	f := &stream.Frame{
		Track:       p.track,
		DTS:         p.dts() + start,
		PTS:         stream.FromTicks(p.turn*p.length+s.pts, p.rate) + p.shift + start,
		Key:         s.key,
		Discardable: s.discardable,
		Data:        s.data,
	}
	if p.index++; p.index == len(p.frames) {
		p.turn, p.index = p.turn+1, 0
	}
	return f
}

// mustParse panics where a file of this package is broken.
func mustParse(file []byte) clip {
	c, err := parse(file)
	if err != nil {
		panic("streamtest: embedded clip: " + err.Error())
	}
	return c
}

// parse reads a fragmented MP4 of at most one H.264 and one AAC track.
func parse(file []byte) (c clip, err error) {
	f, err := mp4.DecodeFile(bytes.NewReader(file))
	if err != nil {
		return c, err
	}
	if f.Init == nil {
		return c, fmt.Errorf("not fragmented")
	}
	for _, trak := range f.Init.Moov.Traks {
		l := &loop{rate: int(trak.Mdia.Mdhd.Timescale)}
		switch stsd := trak.Mdia.Minf.Stbl.Stsd; {
		case stsd.AvcX != nil:
			var config bytes.Buffer
			if err := stsd.AvcX.AvcC.DecConfRec.Encode(&config); err != nil {
				return c, err
			}
			l.track = &stream.Track{ID: 1, Codec: stream.H264, Config: config.Bytes()}
			c.video = l
		case stsd.Mp4a != nil:
			l.track = &stream.Track{
				ID: 2, Codec: stream.AAC,
				Rate:     int(stsd.Mp4a.SampleRate),
				Channels: int(stsd.Mp4a.ChannelCount),
				Config:   stsd.Mp4a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig,
			}
			c.audio = l
		default:
			return c, fmt.Errorf("unknown codec")
		}
		trex, _ := f.Init.Moov.Mvex.GetTrex(trak.Tkhd.TrackID)
		for _, segment := range f.Segments {
			for _, fragment := range segment.Fragments {
				samples, err := fragment.GetFullSamples(trex)
				if err != nil {
					return c, err
				}
				l.add(samples)
			}
		}
	}
	return c, nil
}

func (l *loop) add(samples []mp4.FullSample) {
	for _, s := range samples {
		l.frames = append(l.frames, sample{
			dts:         int64(s.DecodeTime),
			pts:         s.PresentationTime(),
			key:         s.IsSync(),
			discardable: l.track.Codec == stream.H264 && unreferenced(s.Data),
			data:        s.Data,
		})
		l.length += int64(s.Dur)
	}
}

// unreferenced reports whether no picture refers to that of an access unit:
// nal_ref_idc of its slices is 0 (ITU-T H.264, 7.4.1).
func unreferenced(au []byte) bool {
	for len(au) > 4 {
		size := min(int(binary.BigEndian.Uint32(au)), len(au)-4)
		if typ := au[4] & 0x1f; typ >= 1 && typ <= 5 {
			return au[4]>>5&3 == 0
		}
		au = au[4+size:]
	}
	return false
}
