package dash

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"iter"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

var update = flag.Bool("update", false, "write the golden files")

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// until cuts frames off at a time.
func until(frames iter.Seq[*stream.Frame], end time.Duration) iter.Seq[*stream.Frame] {
	return func(yield func(*stream.Frame) bool) {
		for f := range frames {
			if f.DTS >= end || !yield(f) {
				return
			}
		}
	}
}

// A feed gives frames to a Packager and lets a viewer look after each second of
// them. The wall clock runs with the frames.
type feed struct {
	*viewer
	wall  time.Time
	every time.Duration
	last  time.Time
}

func newFeed(t testing.TB, c hls.Config) *feed {
	return &feed{viewer: &viewer{t: t, m: &Manifest{Packager: hls.New(c), MediaBase: "cam/_hls/"}}, wall: epoch, every: 500 * time.Millisecond}
}

// play feeds the frames of a pattern up to a DTS of end.
func (f *feed) play(p *streamtest.Pattern, end time.Duration) {
	f.t.Helper()
	pack := f.m.Packager
	pack.SetTracks(p.Tracks()...)
	begun := f.wall
	for frame := range until(p.Frames(-1), end) {
		f.wall = begun.Add(frame.DTS - p.Start)
		frame.Time = f.wall
		pack.Add(frame)
		if f.wall.Sub(f.last) >= f.every && ready(pack) {
			f.last = f.wall
			f.look(f.wall)
		}
	}
	f.wall = f.wall.Add(ms(40))
}

// away lets time pass without a publisher.
func (f *feed) away(d time.Duration) { f.wall = f.wall.Add(d) }

// ready reports whether there is an MPD without waiting.
func ready(p *hls.Packager) bool {
	return p.View(hls.Video).TargetDuration+p.View(hls.Audio).TargetDuration > 0
}

func (f *feed) end() {
	f.m.Packager.End()
	f.look(f.wall)
}

func TestGolden(t *testing.T) {
	for name, p := range map[string]*streamtest.Pattern{
		"av":    {FPS: 30, BFrames: 2},
		"audio": {NoVideo: true, Audio: stream.Opus},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, hls.Config{Window: 6 * time.Second})
			f.play(p, ms(12300))
			compare(t, name+"-live.mpd", f)
			f.away(3 * time.Second)
			next := &streamtest.Pattern{FPS: p.FPS, BFrames: p.BFrames, NoVideo: p.NoVideo, Audio: p.Audio, Start: time.Hour}
			f.play(next, time.Hour+ms(5100))
			f.end()
			compare(t, name+"-end.mpd", f)
		})
	}
}

func compare(t *testing.T, file string, f *feed) {
	got := strings.ReplaceAll(f.text, f.m.Packager.Secret(), "SECRET")
	file = "testdata/" + file
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// Whatever a segment's length, the times of the MPD are those of the media.
func TestTimes(t *testing.T) {
	for name, p := range map[string]*streamtest.Pattern{
		"25 fps":      {},
		"24 fps":      {FPS: 24, KeyInterval: 37},
		"B-frames":    {BFrames: 3, KeyInterval: 40},
		"picture":     {NoAudio: true},
		"sound":       {NoVideo: true},
		"MP3":         {NoVideo: true, Audio: stream.MP3},
		"HEVC, Opus":  {Video: stream.H265, Audio: stream.Opus},
		"AV1":         {Video: stream.AV1, NoAudio: true},
		"a day later": {Start: 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, hls.Config{Window: 10 * time.Second})
			f.play(p, p.Start+40*time.Second)
			require.Len(t, f.doc.Periods, 1)
			require.Len(t, f.periods, 1)
			require.InDelta(t, 10, f.doc.TimeShiftBufferDepth.Seconds(), 3)
			require.InDelta(t, 0, f.start.Sub(epoch).Seconds(), 0.1)
			require.Equal(t, p.NoVideo, f.set(hls.Video) == nil)
			require.Equal(t, p.NoAudio, f.set(hls.Audio) == nil)
			f.end()
			require.Equal(t, "static", *f.doc.Type)
			require.InDelta(t, 40, f.doc.MediaPresentationDuration.Seconds(), 0.05)
		})
	}
}

// A publisher that comes back soon, and one that does not.
func TestRepublish(t *testing.T) {
	f := newFeed(t, hls.Config{Segment: time.Second, Window: 20 * time.Second})
	f.play(&streamtest.Pattern{}, ms(7300))
	f.away(5 * time.Second)
	f.play(&streamtest.Pattern{Start: time.Hour}, time.Hour+ms(6100))
	require.Len(t, f.doc.Periods, 2)
	require.InDelta(t, 7.34, f.doc.Periods[1].Start.Seconds(), 0.03)
	require.Equal(t, "8", f.doc.Periods[1].Id)
	require.InDelta(t, 5, f.lag.Seconds(), 0.1)
	f.away(80 * time.Second)
	f.play(&streamtest.Pattern{BFrames: 2}, ms(4100))
	require.Len(t, f.doc.Periods, 3)
	require.InDelta(t, 7.34+5+6.12+80, f.doc.Periods[2].Start.Seconds(), 0.1)
	require.InDelta(t, 0.08*90000, float64(*f.set(hls.Video).SegmentTemplate.PresentationTimeOffset), 7200)
	f.end()
	require.Len(t, f.doc.Periods, 3)
}

// The first Period leaves the window, and comes back to nobody's mind.
func TestPeriodsLeave(t *testing.T) {
	f := newFeed(t, hls.Config{Segment: time.Second, Window: 5 * time.Second})
	f.play(&streamtest.Pattern{}, 8*time.Second)
	for i := range 4 {
		f.play(&streamtest.Pattern{Start: time.Duration(i+1) * time.Hour}, time.Duration(i+1)*time.Hour+8*time.Second)
	}
	require.Len(t, f.periods, 5)
	require.LessOrEqual(t, len(f.doc.Periods), 2)
	require.LessOrEqual(t, len(f.m.timeline.periods), 2)
	require.InDelta(t, 32, f.doc.Periods[len(f.doc.Periods)-1].Start.Seconds(), 0.2)
}

// A track that is described anew as it was is no reason for a new Period.
func TestSameAgain(t *testing.T) {
	f := newFeed(t, hls.Config{Segment: time.Second})
	f.play(&streamtest.Pattern{}, ms(4300))
	f.play(&streamtest.Pattern{Start: ms(4320)}, ms(9000)) // with tracks of its own
	require.Len(t, f.doc.Periods, 1)
}

// What is left of a publisher that was lost right after a key frame, a picture
// without sound, is left out: a Period of its own would be one that nobody can
// play.
func TestScrap(t *testing.T) {
	for _, back := range []bool{true, false} {
		f := newFeed(t, hls.Config{Segment: time.Second})
		f.play(&streamtest.Pattern{}, 4*time.Second)
		p := &streamtest.Pattern{NoAudio: true, Start: 4 * time.Second}
		for frame := range until(p.Frames(-1), ms(4300)) {
			frame.Time = f.wall
			f.m.Packager.Add(frame)
		}
		f.m.Packager.Flush()
		f.look(f.wall)
		f.away(5 * time.Second)
		want := []string{"0"}
		if back {
			f.play(&streamtest.Pattern{Start: time.Hour}, time.Hour+ms(5100))
			want = append(want, "5")
		}
		f.end()
		ids := []string{}
		for _, p := range f.doc.Periods {
			ids = append(ids, p.Id)
		}
		require.Equal(t, want, ids)
	}
}

// Other codecs: a new Period with a new initialization segment.
func TestCodecChange(t *testing.T) {
	f := newFeed(t, hls.Config{Segment: time.Second})
	f.play(&streamtest.Pattern{}, ms(4300))
	f.play(&streamtest.Pattern{Video: stream.H265, Audio: stream.Opus, Start: ms(4340)}, ms(9000))
	require.Len(t, f.doc.Periods, 2)
	require.Contains(t, f.text, `codecs="opus"`)
	require.Contains(t, f.text, `codecs="hvc1.`)
	require.Contains(t, f.text, `codecs="avc1.`)
	require.InDelta(t, 4.34, f.doc.Periods[1].Start.Seconds(), 0.05)
}

// The picture is away for a while: Periods with the sound alone.
func TestSilence(t *testing.T) {
	f := newFeed(t, hls.Config{Segment: time.Second})
	p := &streamtest.Pattern{}
	f.m.Packager.SetTracks(p.Tracks()...)
	for frame := range until(p.Frames(-1), 30*time.Second) {
		if frame.Track.Kind() == stream.Video && frame.DTS > 8*time.Second && frame.DTS < 17*time.Second {
			continue
		}
		f.wall = epoch.Add(frame.DTS)
		frame.Time = f.wall
		f.m.Packager.Add(frame)
		if f.wall.Sub(f.last) >= f.every && ready(f.m.Packager) {
			f.last = f.wall
			f.look(f.wall)
		}
	}
	f.end()
	sets := []int{}
	for _, p := range f.doc.Periods {
		sets = append(sets, len(p.AdaptationSets))
	}
	require.Equal(t, []int{2, 1, 2}, sets, f.text)
}

// Who looks only now and then gets the same picture.
func TestSeldom(t *testing.T) {
	f := newFeed(t, hls.Config{Segment: time.Second, Window: 5 * time.Second})
	f.every = 47 * time.Second
	f.play(&streamtest.Pattern{}, 200*time.Second)
	require.Len(t, f.periods, 1)
	f.play(&streamtest.Pattern{Start: time.Hour}, time.Hour+100*time.Second)
	require.Len(t, f.periods, 2)
	f.end()
}

// A publisher's clock that is wrong does not put segments into the future, nor
// out of the window.
func TestWrongClock(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour, ms(300)} {
		f := newFeed(t, hls.Config{Segment: time.Second})
		p := &streamtest.Pattern{}
		f.m.Packager.SetTracks(p.Tracks()...)
		for frame := range until(p.Frames(-1), 10*time.Second) {
			frame.Time = epoch.Add(frame.DTS + skew)
			f.m.Packager.Add(frame)
			if ready(f.m.Packager) {
				f.look(epoch.Add(frame.DTS))
			}
		}
		require.InDelta(t, 0, f.start.Sub(epoch).Seconds(), 0.05, "%v", skew)
	}
}

// TestLive is a session as players have it: the viewer comes before the first
// segment, and asks again when the MPD says so.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pack := hls.New(hls.Config{Segment: time.Second, Window: 10 * time.Second})
		v := &viewer{t: t, m: &Manifest{Packager: pack, MediaBase: "a$b&/"}}
		publish := func(p *streamtest.Pattern, length time.Duration) {
			pack.SetTracks(p.Tracks()...)
			w := packagerWriter{pack}
			if err := streamtest.Feed(t.Context(), w, until(p.Frames(-1), p.Start+length), 1); err != nil && t.Context().Err() == nil {
				t.Error(err)
			}
		}
		go func() {
			publish(&streamtest.Pattern{BFrames: 2}, ms(33300))
			time.Sleep(7 * time.Second)
			publish(&streamtest.Pattern{Start: ms(500)}, ms(15200))
			time.Sleep(3 * time.Second)
			pack.End()
		}()
		begun := time.Now()
		for n := 0; ; n++ {
			v.look(time.Now())
			if n == 0 {
				require.InDelta(t, 1, time.Since(begun).Seconds(), 0.1, "the first segment is waited for")
			}
			if *v.doc.Type == "static" {
				break
			}
			if t.Failed() || n > 1000 {
				return
			}
			time.Sleep(time.Duration(*v.doc.MinimumUpdatePeriod))
		}
		require.Len(t, v.periods, 2)
		require.InDelta(t, 7, v.lag.Seconds(), 0.1)
		require.InDelta(t, 33.3+15.2, v.doc.MediaPresentationDuration.Seconds(), 0.1)
		require.InDelta(t, 59, time.Since(begun).Seconds(), 1)
	})
}

type packagerWriter struct{ *hls.Packager }

func (w packagerWriter) Write(f *stream.Frame) error {
	w.Add(f)
	return nil
}

func TestErrors(t *testing.T) {
	p := &streamtest.Pattern{}
	c := hls.New(hls.Config{Encrypt: true})
	c.SetTracks(p.Tracks()...)
	for f := range until(p.Frames(-1), 5*time.Second) {
		c.Add(f)
	}
	_, err := (&Manifest{Packager: c}).MPD(t.Context(), netip.Addr{}, epoch)
	require.ErrorIs(t, err, stream.ErrUnsupported)

	c = hls.New(hls.Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	_, err = (&Manifest{Packager: c}).MPD(ctx, netip.Addr{}, epoch)
	require.ErrorIs(t, err, context.Canceled)
	c.End()
	_, err = (&Manifest{Packager: c}).MPD(t.Context(), netip.Addr{}, epoch)
	require.ErrorIs(t, err, stream.ErrNotFound)

	c = hls.New(hls.Config{})
	p = &streamtest.Pattern{Video: stream.VP8, Audio: stream.PCMU}
	for f := range until(p.Frames(-1), 5*time.Second) {
		c.Add(f)
	}
	_, err = (&Manifest{Packager: c}).MPD(t.Context(), netip.Addr{}, epoch)
	require.ErrorIs(t, err, stream.ErrUnsupported)
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "PT0S", -time.Second: "PT0S", time.Nanosecond: "PT0.001S", time.Second: "PT1S", ms(1500): "PT1.5S",
		ms(2002): "PT2.002S", 36 * time.Hour: "PT129600S", ms(50): "PT0.05S", 2*time.Second + 1: "PT2.001S",
	} {
		require.Equal(t, want, string((&writer{}).duration(d).b))
	}
}

func TestFrameRate(t *testing.T) {
	for fps, want := range map[float64]string{
		25: "25", 30000.0 / 1001: "30000/1001", 23.976: "24000/1001", 59.94: "60000/1001", 12.5: "12500/1000", 0.5: "500/1000", 0.0001: "1/1000",
	} {
		require.Equal(t, want, string((&writer{}).frameRate(fps).b))
	}
}

func FuzzEscaped(f *testing.F) {
	for _, s := range []string{"plain/", `<a&"b'>`, "\x00\x1f\n", "ü\xff\ufffe", "]]>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w := writer{}
		w.text(`<a b="`).escaped(s).text(`"/>`)
		var v struct {
			B string `xml:"b,attr"`
		}
		require.NoError(t, xml.Unmarshal(w.b, &v))
		require.Equal(t, strings.Map(func(c rune) rune {
			if c < ' ' || c == 0xfffe || c == 0xffff {
				return -1
			}
			return c
		}, strings.ToValidUTF8(s, "\ufffd")), v.B)
	})
}

func BenchmarkMPD(b *testing.B) {
	pack := hls.New(hls.Config{})
	p := &streamtest.Pattern{}
	pack.SetTracks(p.Tracks()...)
	for f := range until(p.Frames(-1), time.Minute) {
		pack.Add(f)
	}
	m := &Manifest{Packager: pack, MediaBase: "cam/_hls/"}
	for _, fresh := range []bool{false, true} {
		name := map[bool]string{true: "fresh", false: "cached"}[fresh]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if fresh {
					m.text = nil
				}
				if _, err := m.MPD(b.Context(), netip.Addr{}, epoch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Tracks of video in one codec are Representations of one AdaptationSet, with the
// same segments; another codec has its own.
func TestLadder(t *testing.T) {
	f := newFeed(t, hls.Config{Window: 10 * time.Second})
	pack := f.m.Packager
	patterns := []*streamtest.Pattern{
		{FrameSize: 4000},
		{NoAudio: true, FrameSize: 2000},
		{NoAudio: true, Video: stream.H265, FrameSize: 1000},
	}
	var tracks []*stream.Track
	var nexts []func() (*stream.Frame, bool)
	for i, p := range patterns {
		next, stop := iter.Pull(p.Frames(-1))
		defer stop()
		video := *p.Tracks()[0]
		video.ID += uint8(10 * i)
		tracks = append(tracks, &video)
		nexts = append(nexts, func() (*stream.Frame, bool) {
			frame, ok := next()
			if frame.Track.Kind() == stream.Video {
				frame.Track = &video
			}
			return frame, ok
		})
	}
	pack.SetTracks(append(tracks, patterns[0].Tracks()[1])...)
	for f.wall.Before(epoch.Add(20 * time.Second)) {
		frame, _ := nexts[0]()
		f.wall = epoch.Add(frame.DTS)
		frame.Time = f.wall
		pack.Add(frame)
		if frame.Track.Kind() == stream.Video {
			for _, next := range nexts[1:] {
				frame, _ := next()
				pack.Add(frame)
			}
		}
		if f.wall.Sub(f.last) >= f.every && ready(pack) {
			f.last = f.wall
			f.look(f.wall)
		}
	}
	require.Len(t, f.doc.Periods, 1)
	sets := f.doc.Periods[0].AdaptationSets
	require.Len(t, sets, 3)
	require.Len(t, sets[0].Representations, 2)
	first, second := sets[0].Representations[0], sets[0].Representations[1]
	require.Equal(t, "v", first.Id)
	require.Equal(t, "w", second.Id)
	require.Greater(t, first.Bandwidth, second.Bandwidth)
	require.Equal(t, first.SegmentTemplate.SegmentTimeline, second.SegmentTemplate.SegmentTimeline)
	require.Equal(t, first.SegmentTemplate.StartNumber, second.SegmentTemplate.StartNumber)
	require.Equal(t, "x", sets[1].Representations[0].Id)
	require.Contains(t, sets[1].Representations[0].Codecs, "hvc1")
	require.EqualValues(t, "audio", sets[2].ContentType)
}
