package transcode

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A stage is a hub with a stream whose frames a test writes.
type stage struct {
	hub *stream.Hub
	pub *stream.Publisher
	log logBuffer
	all []*stream.Frame
}

// climbing starts a ladder with a fake ffmpeg.
func climbing(t *testing.T, l *Ladder) *stage {
	t.Helper()
	// The media goes by faster than time: on a busy machine nothing is to be left out.
	s := &stage{hub: &stream.Hub{Log: quiet, Cache: stream.Cache{Frames: 1e6, Bytes: 1 << 30, Time: time.Hour}}}
	l.MaxLag = time.Hour
	l.Hub, l.Log = s.hub, s.log.logger()
	l.Match = func(name string) bool { return name == "live/a" }
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	pub, err := s.hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	s.pub = pub
	go func() { ran <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
		require.Empty(t, pub.Stream().Renditions(), "Run takes them away")
		s.hub.Close()
	})
	return s
}

// write writes n frames of video, a key frame every fifth, at the speed of the media or
// faster.
func (s *stage) write(t *testing.T, n int) {
	t.Helper()
	p := &streamtest.Pattern{NoAudio: true, KeyInterval: 5}
	if len(s.all) == 0 {
		require.NoError(t, s.pub.SetTracks(p.Tracks()...))
	}
	track := s.pub.Stream().Tracks()[0]
	shift := time.Duration(0)
	if len(s.all) > 0 {
		shift = s.all[len(s.all)-1].DTS + 40*time.Millisecond
	}
	for f := range p.Frames(n) {
		f.Track = track
		f.DTS, f.PTS = f.DTS+shift, f.PTS+shift
		s.all = append(s.all, f)
		require.NoError(t, s.pub.Write(f))
	}
}

func (s *stage) rendition(t *testing.T, name string) *stream.Subscriber {
	t.Helper()
	eventually(t, "the rendition", func() bool { return s.pub.Stream().Rendition(name) != nil })
	sub, err := s.pub.Stream().Rendition(name).Subscribe(nil)
	require.NoError(t, err)
	t.Cleanup(func() { sub.Close() })
	return sub
}

// drip writes groups of pictures until n frames have come of a rendition.
func (s *stage) drip(t *testing.T, sub *stream.Subscriber, n int) (frames []*stream.Frame) {
	t.Helper()
	eventually(t, "frames", func() bool {
		s.write(t, 5)
		var some [64]*stream.Frame
		got, err := sub.TryRead(some[:])
		require.NoError(t, err)
		frames = append(frames, some[:got]...)
		return len(frames) >= n
	})
	return frames
}

// Renditions are there with the stream's first picture, those that would be larger are
// not, and all have the source's times.
func TestLadder(t *testing.T) {
	l := &Ladder{
		Steps:  []Step{{Name: "a", Height: 90, BitRate: 1000}, {Name: "b"}, {Name: "huge", Height: 4320}},
		FFmpeg: fakeFFmpeg("copy"), Linger: 50 * time.Millisecond,
	}
	s := climbing(t, l)
	_, err := s.hub.Publish(t.Context(), "live/other", nil)
	require.NoError(t, err)
	require.Empty(t, s.pub.Stream().Renditions())
	s.write(t, 7)
	a := s.rendition(t, "a")
	require.Equal(t, stream.RenditionInfo{
		Name: "a", Tracks: []*stream.Track{{ID: 1, Codec: stream.H264}}, Bandwidth: 1000, Width: 160, Height: 90,
		FPS: s.pub.Stream().Rendition("a").Info().FPS,
	}, s.pub.Stream().Rendition("a").Info())
	require.Nil(t, s.pub.Stream().Rendition("huge"))
	b := s.rendition(t, "b")
	for _, sub := range []*stream.Subscriber{a, b} {
		frames := s.drip(t, sub, 30)
		require.Equal(t, s.all[5].PTS, frames[0].PTS, "from the newest key frame on")
		for i, f := range frames {
			require.Equal(t, s.all[5+i].PTS, f.PTS)
			require.Equal(t, s.all[5+i].DTS, f.DTS)
			require.Equal(t, s.all[5+i].Key, f.Key)
			require.Equal(t, s.all[5+i].Time, f.Time)
		}
	}
	require.Empty(t, s.log.String())
}

// An ffmpeg that crashes is followed by another, and its readers stay.
func TestLadderCrash(t *testing.T) {
	s := climbing(t, &Ladder{Steps: []Step{{Name: "a"}}, FFmpeg: fakeFFmpeg("once", "ONCE="+filepath.Join(t.TempDir(), "x"))})
	s.write(t, 5)
	l := s.rendition(t, "a")
	frames := s.drip(t, l, 200)
	require.Contains(t, s.log.String(), "exit status 3")
	require.Equal(t, 1, strings.Count(s.log.String(), "failed"))
	streamtest.CheckTimeline(t, frames, 0)
	for _, f := range frames[1:] {
		require.Same(t, frames[0].Track, f.Track, "the second makes what the first did")
	}
}

// One that takes nothing, and one that says nothing, is killed; the live stream does not
// notice.
func TestLadderHangs(t *testing.T) {
	for _, mode := range []string{"deaf", "dumb"} {
		t.Run(mode, func(t *testing.T) {
			f := fakeFFmpeg(mode)
			f.Stall = 200 * time.Millisecond
			s := climbing(t, &Ladder{Steps: []Step{{Name: "a"}}, FFmpeg: f})
			s.write(t, 5)
			s.rendition(t, "a")
			eventually(t, "its death", func() bool {
				began := time.Now()
				s.write(t, 5)
				require.Less(t, time.Since(began), 5*time.Second)
				return strings.Contains(s.log.String(), "hangs")
			})
		})
	}
}

// Pictures of another configuration are for another ffmpeg, which begins at once.
func TestLadderChange(t *testing.T) {
	s := climbing(t, &Ladder{Steps: []Step{{Name: "a"}}, FFmpeg: fakeFFmpeg("copy")})
	s.write(t, 5)
	a := s.rendition(t, "a")
	before := s.drip(t, a, 10)
	h265 := (&streamtest.Pattern{Video: stream.H265, NoAudio: true}).Tracks()[0]
	require.NoError(t, s.pub.SetTracks(h265))
	last := s.all[len(s.all)-1].DTS
	n := 0
	for f := range (&streamtest.Pattern{Video: stream.H265, NoAudio: true, KeyInterval: 5, Start: last + 40*time.Millisecond}).Frames(50) {
		f.Track = h265
		require.NoError(t, s.pub.Write(f))
		n++
	}
	after := before
	eventually(t, "H.265", func() bool {
		var some [64]*stream.Frame
		got, err := a.TryRead(some[:])
		require.NoError(t, err)
		after = append(after, some[:got]...)
		return after[len(after)-1].Track.Codec == stream.H265
	})
	streamtest.CheckTimeline(t, after, 45*time.Millisecond)
	require.Empty(t, s.log.String(), "and that is no failure")
}

// After a while of media an ffmpeg is replaced, without a hole.
func TestLadderLife(t *testing.T) {
	s := climbing(t, &Ladder{Steps: []Step{{Name: "a"}}, FFmpeg: fakeFFmpeg("copy"), MaxLife: time.Second})
	s.write(t, 5)
	frames := s.drip(t, s.rendition(t, "a"), 100)
	streamtest.CheckTimeline(t, frames, 45*time.Millisecond)
	require.Empty(t, s.log.String())
}

func TestLadderRefuses(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	for what, l := range map[string]*Ladder{
		"no hub":   {Steps: []Step{{Name: "a"}}},
		"no steps": {Hub: hub},
		"bad step": {Hub: hub, Steps: []Step{{Name: "../a"}}},
		"twice":    {Hub: hub, Steps: []Step{{Name: "a"}, {Name: "a"}}},
	} {
		require.Error(t, l.Run(t.Context()), what)
	}
}

// What ffmpeg is told: all of it comes from the host, nothing from a peer.
func TestLadderCommand(t *testing.T) {
	l := &Ladder{Steps: []Step{{Name: "a", Height: 90}, {Name: "b", Codec: stream.VP9}}, FFmpeg: FFmpeg{Input: []string{"-hwaccel", "vaapi"}}}
	in, err := newFeed((&streamtest.Pattern{}).Tracks()[0], nil, 0)
	require.NoError(t, err)
	c := (&climb{ladder: l, steps: l.Steps}).command(in)
	args := strings.Join(c.args, " ")
	require.Equal(t, "ffmpeg", c.path)
	require.Equal(t, 2, c.outputs)
	require.True(t, c.feed)
	require.False(t, c.files)
	require.Contains(t, args, "-protocol_whitelist pipe ")
	require.Contains(t, args, " -hwaccel vaapi -f mpegts -i pipe:0 -filter_complex [0:v:0]split=2[s0][s1];[s0]scale=w=160:h=90,format=yuv420p[v0];[s1]scale=w=320:h=180,format=yuv420p[v1] ")
	require.Contains(t, args, " pipe:1 -map [v1] ")
	require.True(t, strings.HasSuffix(args, " -f ivf pipe:3"))
}
