package hls

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// Whatever publishers come after one another, playlists stay consistent.
func TestChaos(t *testing.T) {
	for seed := range uint64(12) {
		chaos(t, seed)
	}
}

func chaos(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 5))
	s := newSession(t, Config{
		TS: newFakeTS, TSAlways: seed%2 == 0, Encrypt: seed%3 == 0,
		Segment: time.Second, MaxSegment: 6 * time.Second,
	})
	s.grows, s.lax, s.untimed = true, true, true
	at := time.Duration(0)
	for range 10 {
		p := &streamtest.Pattern{
			Start: at, FPS: []int{5, 25, 30}[random.IntN(3)], KeyInterval: 1 + random.IntN(200),
			NoVideo: random.IntN(4) == 0, Video: []stream.Codec{stream.H264, stream.H265, stream.AV1, stream.VP8}[random.IntN(4)],
			Audio: []stream.Codec{stream.AAC, stream.Opus, stream.MP3}[random.IntN(3)],
		}
		p.NoAudio = !p.NoVideo && random.IntN(4) == 0
		length := ms(random.IntN(6000))
		var second []*stream.Frame // a further track of video, cut elsewhere at times
		switch {
		case !p.NoVideo && random.IntN(2) == 0:
			q := &streamtest.Pattern{Start: at, FPS: p.FPS, KeyInterval: p.KeyInterval, NoAudio: true, Video: p.Video}
			track := *q.Tracks()[0]
			track.ID = 9
			s.p.SetTracks(append(slices.Clone(p.Tracks()), &track)...)
			skip := random.IntN(3) * random.IntN(50)
			for f := range until(q.Frames(-1), at+length) {
				if f.Track = &track; skip > 0 {
					skip--
					continue
				}
				second = append(second, f)
			}
		case random.IntN(2) == 0:
			s.p.SetTracks(p.Tracks()...)
		}
		marked, lost := random.IntN(2) == 0, random.IntN(3) == 0
		frames := until(p.Frames(-1), at+length)
		if random.IntN(2) == 0 {
			frames = delayed(frames, stream.Audio, ms(random.IntN(4000)))
		}
		for f := range frames {
			f.Discontinuity, marked = marked, false
			for len(second) > 0 && second[0].DTS <= f.DTS {
				s.add(second[0])
				second = second[1:]
			}
			if lost && random.IntN(10) == 0 {
				continue
			}
			s.add(f)
		}
		at += length + ms(40)
		switch random.IntN(6) {
		case 0:
			at += time.Duration(random.IntN(int(time.Minute)))
		case 1:
			at = time.Duration(random.IntN(int(time.Minute)))
		}
		s.shift += ms(random.IntN(5000))
	}
	s.end()
	s.consistent()
}

// consistent checks the segments that came out.
func (s *session) consistent() {
	for r := range renditions {
		for i, seg := range s.segments[r] {
			require.Positive(s.t, seg.Duration)
			require.Equal(s.t, seg.Gap, seg.size == 0, "%v %d: %+v", r, i, seg)
			for _, part := range seg.Parts {
				require.Positive(s.t, part.Duration)
				require.False(s.t, part.Gap && part.data != nil)
			}
			if i > 0 {
				require.Equal(s.t, s.segments[r][i-1].Sequence+1, seg.Sequence)
			}
		}
	}
	require.GreaterOrEqual(s.t, s.p.Stats().Bytes, int64(0))
}

// FuzzAdd lets the input choose the frames: no timestamps, flags or tracks that a
// publisher sends may break anything.
func FuzzAdd(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("\x01\x10\x02\x10\x00\x10\x02\x10\x00\x10\x02\x10\x00\x10\x02\x10\x00\x10\x02\x10\x01\x10"), uint8(0))
	f.Add([]byte("\x08\x01\x0f\x00\x01\x08\x00\x08\x07\x00\x07\x08\x00\x00\x48\x04\x0f\x00\x00\x08\x07\x08\x40\x10\x0f\x08\x1f\x01\x48\x02\x0f\x00"), uint8(16))
	f.Add([]byte("\x05\xff\x06\xff\x05\xff\x06\xff\x05\x80\x46\xff\x85\xff\x86\xff\x25\x01\x45\x01\x01\x00"), uint8(7))
	tracks := append((&streamtest.Pattern{}).Tracks(), (&streamtest.Pattern{Video: stream.H265, Audio: stream.Opus}).Tracks()...)
	tracks = append(tracks, &stream.Track{ID: 1, Codec: stream.H264}, &stream.Track{ID: 9, Codec: stream.AAC, Rate: 8000}, &stream.Track{ID: 2, Codec: stream.MP3, Rate: 48000})
	second := *tracks[0]
	second.ID = 5
	tracks = append(tracks, &second)
	f.Fuzz(func(t *testing.T, in []byte, options uint8) {
		s := &session{t: t}
		c := Config{
			Encrypt: options&1 > 0, TSAlways: options&2 > 0, TS: newFakeTS, MaxBytes: 1 << 16, KeySegments: 2,
			OnSegment: func(seg *Segment) { s.segments[seg.Rendition] = append(s.segments[seg.Rendition], seg) },
		}
		if options&4 > 0 {
			c.Part = -1
		}
		s.p = New(c)
		if options&8 > 0 {
			s.p.SetTracks(tracks[:2]...)
		}
		if options&16 > 0 {
			s.p.SetTracks(tracks[0], tracks[1], &second)
		}
		at := time.Duration(0)
		for ; len(in) >= 2 && len(in) < 4096; in = in[2:] {
			// The first byte is the track, its flags, and in which unit the second
			// counts the step of time.
			step := time.Duration(int8(in[1]))
			switch in[0] >> 6 {
			case 0:
				step *= 5 * time.Millisecond
			case 1:
				step *= 500 * time.Millisecond
			case 2:
				step *= time.Hour
			}
			at += step
			track := tracks[int(in[0]&7)%len(tracks)]
			s.p.Add(&stream.Frame{
				Track: track, DTS: at, PTS: at + step, Time: epoch.Add(at), Data: make([]byte, 1000),
				Key: in[0]&8 > 0, Discontinuity: in[0]&16 > 0,
			})
			for _, o := range s.p.out {
				if snap := o.snap.Load(); snap.conf != nil && snap.live {
					if p, _ := hlscheck.Media(snap.page(false).Text); p == nil {
						t.Fatal("not a playlist")
					}
				}
			}
		}
		s.p.End()
		s.consistent()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, _ = s.p.Multivariant(ctx, netip.Addr{}, MultivariantOptions{})
	})
}
