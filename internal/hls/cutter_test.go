package hls

import (
	"context"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// feedPattern feeds the frames of a pattern up to end, the tracks announced.
func (s *session) feedPattern(p *streamtest.Pattern, end time.Duration) {
	s.p.SetTracks(p.Tracks()...)
	s.feed(until(p.Frames(-1), end))
}

func TestKeyIntervals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames int // at 25 a second, between key frames
		want   float64
		target int
	}{
		{"0.5 s", 12, 1.92, 2}, // 12 frames are 480 ms: the fourth is close enough to 2 s
		{"1 s", 25, 2, 2},
		{"1.5 s", 37, 2.96, 3},
		{"2 s", 50, 2, 2},
		{"5 s", 125, 5, 5},
		{"20 s", 500, 20, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
			s.feedPattern(&streamtest.Pattern{KeyInterval: tt.frames}, max(36*time.Second, 4*ms(tt.frames*40)+ms(100)))
			s.end()
			for _, r := range usual {
				d := s.durations(r)
				for _, d := range d[:len(d)-1] {
					require.InDelta(t, tt.want, d, 0.03, "%v: %v", r, s.durations(r))
				}
				require.Equal(t, tt.target, s.playlist(r).TargetDuration)
				require.True(t, s.playlist(r).Ended)
			}
			require.Equal(t, len(s.segments[Video]), len(s.segments[Audio]))
			for i, v := range s.segments[Video] {
				a := s.segments[Audio][i]
				require.Equal(t, v.Sequence, a.Sequence)
				require.InDelta(t, v.Start.Seconds(), a.Start.Seconds(), 0.022)
				require.True(t, v.Independent)
			}
			require.NotZero(t, s.parts)
			require.Equal(t, tt.frames < 100, s.deltas > 0, "delta updates need a window longer than six target durations")
		})
	}
}

// Parts obey Apple's rules with frames of any length, also those of which every
// part could do without, being independent.
func TestPartDurations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      *streamtest.Pattern
		target [2]int // ms, video and audio
	}{
		{"24 fps, AAC at 48 kHz", &streamtest.Pattern{FPS: 24}, [2]int{226, 185}},
		{"25 fps", &streamtest.Pattern{FPS: 25, NoAudio: true}, [2]int{216, 0}},
		{"30 fps, Opus", &streamtest.Pattern{FPS: 30, Audio: stream.Opus}, [2]int{216, 216}},
		{"50 fps, MP3", &streamtest.Pattern{FPS: 50, Audio: stream.MP3}, [2]int{216, 0}},
		{"60 fps", &streamtest.Pattern{FPS: 60, NoAudio: true}, [2]int{216, 0}},
		{"144 fps", &streamtest.Pattern{FPS: 144, NoAudio: true}, [2]int{218, 0}},
		{"15 fps", &streamtest.Pattern{FPS: 15, NoAudio: true}, [2]int{217, 0}},
		{"4 fps", &streamtest.Pattern{FPS: 4, NoAudio: true}, [2]int{270, 0}},
		{"1 fps", &streamtest.Pattern{FPS: 1, NoAudio: true, KeyInterval: 2}, [2]int{1080, 0}},
		{"B-frames", &streamtest.Pattern{FPS: 25, BFrames: 2}, [2]int{216, 185}},
		{"audio only", &streamtest.Pattern{NoVideo: true}, [2]int{0, 185}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, Config{})
			s.feedPattern(tt.p, 11*time.Second)
			s.end()
			for i, r := range []Rendition{Video, Audio} {
				if tt.target[i] > 0 {
					require.InDelta(t, float64(tt.target[i])/1000, s.playlist(r).PartTarget, 0.0011)
				}
				for _, seg := range s.segments[r] {
					for i, part := range seg.Parts {
						target := s.playlist(r).PartTarget
						require.LessOrEqual(t, part.Duration.Seconds(), target)
						if i < len(seg.Parts)-1 {
							require.GreaterOrEqual(t, part.Duration.Seconds(), 0.85*target, "%v %d", r, i)
						}
					}
				}
			}
		})
	}
}

// The last part of a segment is not very short where that can be helped.
func TestFramesPerPart(t *testing.T) {
	aac := stream.FromTicks(1024, 48000)
	for _, tt := range []struct {
		want, step, segment time.Duration
		frames              int
	}{
		{ms(200), ms(40), 2 * time.Second, 5},
		{ms(200), aac, time.Second, 8},     // and 6 or 7 more, rather than 9 with 1 or 2
		{ms(200), aac, 2 * time.Second, 8}, // and 5 or 6
		{ms(200), ms(20), 2 * time.Second, 10},
		{ms(200), time.Second, 2 * time.Second, 1},
		{ms(500), aac, 6 * time.Second, 23}, // and 5 or 6
	} {
		require.EqualValues(t, tt.frames, framesPerPart(tt.want, tt.step, tt.segment), "%+v", tt)
	}
}

// Timestamps in milliseconds, as RTMP has them, and a little early or late.
func TestUnevenFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name   string
		jitter int // ms
		lax    bool
	}{{"whole milliseconds", 0, false}, {"a little uneven", 6, false}, {"very uneven", 60, true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, Config{})
			s.lax, s.untimed = tt.lax, true
			p := &streamtest.Pattern{FPS: 30, KeyInterval: 60}
			s.p.SetTracks(p.Tracks()...)
			last := time.Duration(0)
			for f := range until(p.Frames(-1), 20*time.Second) {
				f.DTS = f.DTS.Truncate(time.Millisecond)
				if tt.jitter > 0 && f.Track.Kind() == stream.Video {
					f.DTS = max(last, f.DTS+ms(random.IntN(tt.jitter))) + time.Millisecond
					last = f.DTS
				}
				f.PTS = f.DTS
				s.add(f)
			}
			s.end()
			require.InDelta(t, 2, s.segments[Video][3].Duration.Seconds(), 0.1)
		})
	}
}

func TestAudioOnly(t *testing.T) {
	for _, announced := range []bool{true, false} {
		s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
		p := &streamtest.Pattern{NoVideo: true}
		if announced {
			s.p.SetTracks(p.Tracks()...)
		}
		s.feed(until(p.Frames(-1), 21*time.Second))
		s.end()
		require.Empty(t, s.segments[Video])
		require.Zero(t, s.segments[Audio][0].Start, "nothing is lost by the wait for a picture")
		for _, r := range []Rendition{Audio, TS} {
			require.GreaterOrEqual(t, len(s.segments[r]), 10)
			for _, d := range s.durations(r)[:9] {
				require.InDelta(t, 2, d, 0.021)
			}
		}
		require.Equal(t, 2, s.playlist(Audio).TargetDuration)
		_, err := s.p.Playlist(t.Context(), Video, Directives{}, netip.Addr{})
		require.ErrorIs(t, err, stream.ErrNotFound)
		require.NotContains(t, s.text(Audio), "REPORT")
	}
}

func TestVideoOnly(t *testing.T) {
	s := newSession(t, Config{})
	s.feedPattern(&streamtest.Pattern{NoAudio: true}, 21*time.Second)
	s.end()
	require.Len(t, s.segments[Video], 11)
	require.Empty(t, s.segments[Audio])
}

// A track that comes late all the time loses nothing.
func TestInterleaving(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind stream.Kind
		late time.Duration
	}{
		{"audio 800 ms late", stream.Audio, ms(800)},
		{"audio 2.5 s late, more than a segment", stream.Audio, ms(2500)},
		{"video 800 ms late", stream.Video, ms(800)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
			s.untimed = true // the clock of one is not the other's
			p := &streamtest.Pattern{}
			s.p.SetTracks(p.Tracks()...)
			var want int
			all := slices.Collect(until(p.Frames(-1), 20*time.Second))
			for f := range delayed(slices.Values(all), tt.kind, tt.late) {
				s.add(f)
				want++
			}
			s.end()
			require.Zero(t, s.p.Stats().Dropped)
			require.Equal(t, len(s.segments[Video]), len(s.segments[Audio]))
			for i, v := range s.segments[Video] {
				require.InDelta(t, v.Start.Seconds(), s.segments[Audio][i].Start.Seconds(), 0.022)
				require.False(t, v.Gap || s.segments[Audio][i].Gap)
				require.False(t, v.Discontinuity)
			}
			got := 0
			for _, seg := range s.segments[TS] {
				data := string(slices.Concat(seg.Content().Data...))
				require.True(t, strings.HasPrefix(data, "TABLES;video "), "%.40s", data)
				got += strings.Count(data, "audio ") + strings.Count(data, "video ")
			}
			require.Equal(t, want, got)
		})
	}
}

// Audio that stops leaves a gap, which new players are not offered; it comes back.
func TestAudioStops(t *testing.T) {
	s := newSession(t, Config{Segment: time.Second})
	s.untimed = true
	p := &streamtest.Pattern{}
	s.p.SetTracks(p.Tracks()...)
	silent := func(f *stream.Frame) bool {
		return f.Track.Kind() == stream.Video || f.DTS < ms(10300) || f.DTS >= ms(20700)
	}
	s.feed(until(only(p.Frames(-1), silent), ms(18500)))
	m, err := s.p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{})
	require.NoError(t, err)
	require.NotContains(t, string(m), "a.m3u8")
	s.feed(from(until(only(p.Frames(-1), silent), ms(30500)), ms(18500)))
	m, err = s.p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{})
	require.NoError(t, err)
	require.Contains(t, string(m), "a.m3u8")
	s.end()

	require.Equal(t, len(s.segments[Video]), len(s.segments[Audio]))
	for i, a := range s.segments[Audio] {
		require.Equal(t, i > 10 && i < 20, a.Gap, "segment %d", i)
		require.Equal(t, s.segments[Video][i].Sequence, a.Sequence)
		if i < 30 {
			require.InDelta(t, 1, a.Duration.Seconds(), 0.03, "segment %d", i)
		}
	}
	require.Contains(t, s.text(Audio), "#EXT-X-GAP\n#EXTINF:1.00000,\n")
	_, err = s.p.Open(t.Context(), s.p.Secret()+"/a15.m4s", netip.Addr{})
	require.ErrorIs(t, err, stream.ErrNotFound)
}

// Without pictures the sound goes on in segments of its own; the picture comes
// back with a key frame.
func TestVideoStops(t *testing.T) {
	s := newSession(t, Config{Segment: time.Second})
	s.grows, s.untimed = true, true // a segment lasts until it is clear that no picture comes
	p := &streamtest.Pattern{}
	s.p.SetTracks(p.Tracks()...)
	s.feed(until(only(p.Frames(-1), func(f *stream.Frame) bool {
		return f.Track.Kind() == stream.Audio || f.DTS < ms(10300) || f.DTS >= ms(20700)
	}), ms(30500)))
	s.end()
	require.Equal(t, len(s.segments[Video]), len(s.segments[Audio]))
	gaps := 0
	for i, v := range s.segments[Video] {
		require.False(t, s.segments[Audio][i].Gap)
		require.True(t, v.Independent)
		if v.Gap {
			gaps++
		} else if v.Sequence > 10 {
			require.GreaterOrEqual(t, v.Start, 21*time.Second)
		}
	}
	require.InDelta(t, 9, gaps, 2)
}

// from leaves out what was before.
func from(frames iter.Seq[*stream.Frame], start time.Duration) iter.Seq[*stream.Frame] {
	return only(frames, func(f *stream.Frame) bool { return f.DTS >= start })
}

// The picture appears when the sound has been on for a while.
func TestVideoJoins(t *testing.T) {
	s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
	s.grows, s.untimed = true, true
	p := &streamtest.Pattern{}
	s.feed(until(only(p.Frames(-1), func(f *stream.Frame) bool { return f.Track.Kind() == stream.Audio || f.DTS >= ms(7500) }), 20*time.Second))
	s.end()
	v := s.segments[Video]
	require.Equal(t, 8*time.Second, v[0].Start)
	require.EqualValues(t, 4, v[0].Sequence)
	require.False(t, v[0].Discontinuity)
	for _, a := range s.segments[Audio] {
		if a.Sequence == v[0].Sequence {
			require.InDelta(t, 8, a.Start.Seconds(), 0.022)
		}
	}
	// In TS a new track is a new file.
	i := slices.IndexFunc(s.segments[TS], func(seg *Segment) bool { return seg.Discontinuity })
	require.Positive(t, i)
	require.Contains(t, string(slices.Concat(s.segments[TS][i].Content().Data...)), "video ")
}

// A picture that was announced but never comes is not waited for for ever.
func TestMissingVideo(t *testing.T) {
	s := newSession(t, Config{})
	p := &streamtest.Pattern{}
	s.p.SetTracks(p.Tracks()...)
	s.feed(until(only(p.Frames(-1), func(f *stream.Frame) bool { return f.Track.Kind() == stream.Audio }), 20*time.Second))
	s.end()
	require.Zero(t, s.segments[Audio][0].Start)
	require.Len(t, s.segments[Audio], 10)
	require.Empty(t, s.segments[Video])
}

// A stream that is joined between key frames begins with the next.
func TestBeginsWithKeyFrame(t *testing.T) {
	s := newSession(t, Config{})
	p := &streamtest.Pattern{}
	s.feed(from(until(p.Frames(-1), 10*time.Second), ms(300)))
	s.end()
	require.Equal(t, time.Second, s.segments[Video][0].Start)
	require.InDelta(t, 1, s.segments[Audio][0].Start.Seconds(), 0.022)
}

// A publisher came back: the hub continues the timeline and marks the frame.
func TestRepublish(t *testing.T) {
	for _, r := range []Rendition{Video, Audio} {
		t.Run("marked on "+r.String(), func(t *testing.T) {
			s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
			s.untimed = true
			s.feedPattern(&streamtest.Pattern{}, ms(7300))
			again := &streamtest.Pattern{Start: ms(7340)}
			s.p.SetTracks(again.Tracks()...)
			s.shift = 9 * time.Second // it was away for a while
			marked := false
			for f := range until(again.Frames(-1), 20*time.Second) {
				if !marked && (f.Track.Kind() == stream.Audio) == (r == Audio) {
					f.Discontinuity, marked = true, true
				}
				s.add(f)
			}
			s.end()
			for _, r := range []Rendition{Video, Audio, TS} {
				p := s.playlist(r)
				var broken []uint64
				for _, seg := range p.Segments {
					if seg.Discontinuity {
						broken = append(broken, seg.Sequence)
					}
				}
				if r == Video {
					// The video is marked before the cut, the audio after it, and so
					// the next key frame is where it shows.
					require.Len(t, broken, 1)
				}
				require.Equal(t, broken, sequences(s.segments[Video], func(seg *Segment) bool { return seg.Discontinuity }))
			}
			v := s.segments[Video]
			i := slices.IndexFunc(v, func(seg *Segment) bool { return seg.Discontinuity })
			away := v[i].Time.Sub(v[i-1].Time.Add(v[i-1].Duration))
			require.InDelta(t, 9, away.Seconds(), 0.1, "the clock shows the absence")
			require.Equal(t, v[i-1].Init, v[i].Init, "nothing else has changed")
			require.Equal(t, 1, strings.Count(s.text(Video), "#EXT-X-MAP"))
		})
	}
}

func sequences(list []*Segment, keep func(*Segment) bool) (n []uint64) {
	for _, s := range list {
		if keep(s) {
			n = append(n, s.Sequence)
		}
	}
	return n
}

// Timestamps that nobody repaired: an hour forward, then back.
func TestJumps(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start []time.Duration
	}{
		{"forward", []time.Duration{0, time.Hour}},
		{"back", []time.Duration{time.Hour, 0}},
		{"wraps", []time.Duration{26*time.Hour + ms(1843717), 0, time.Hour}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
			s.untimed = true
			wall := time.Duration(0)
			for _, start := range tt.start {
				p := &streamtest.Pattern{Start: start}
				s.p.SetTracks(p.Tracks()...)
				s.shift = wall - start
				s.feed(until(p.Frames(-1), start+ms(7300)))
				wall += ms(7300)
			}
			s.end()
			for _, r := range usual {
				broken := sequences(s.segments[r], func(seg *Segment) bool { return seg.Discontinuity })
				require.Len(t, broken, len(tt.start)-1, "%v", r)
				require.Equal(t, sequences(s.segments[Video], func(seg *Segment) bool { return seg.Discontinuity }), broken)
				total := time.Duration(0)
				for _, seg := range s.segments[r] {
					total += seg.Duration
				}
				require.InDelta(t, wall.Seconds(), total.Seconds(), 0.15)
			}
		})
	}
}

// A new configuration is a new initialization segment.
func TestCodecChange(t *testing.T) {
	s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
	s.untimed = true
	first := &streamtest.Pattern{}
	s.feedPattern(first, ms(7300))
	// HEVC and another sample rate under the same IDs.
	next := &streamtest.Pattern{Video: stream.H265, Audio: stream.Opus, Start: ms(7340)}
	s.feedPattern(next, ms(14300))
	s.feedPattern(&streamtest.Pattern{Audio: stream.Opus, Start: ms(14340)}, ms(22000)) // H.264 again
	s.end()
	text := s.text(Video)
	require.Equal(t, 2, strings.Count(text, "#EXT-X-DISCONTINUITY\n"), text)
	require.Equal(t, 3, strings.Count(text, "#EXT-X-MAP:"), text)
	require.Equal(t, 2, strings.Count(s.text(Audio), "#EXT-X-MAP:"))
	require.Equal(t, 2, strings.Count(s.text(Audio), "#EXT-X-DISCONTINUITY\n"), "the numbers match those of the picture")
	for _, seg := range s.segments[Video] {
		require.Equal(t, seg.Init.Track.Codec == stream.H265, seg.Start > ms(7300) && seg.Start < ms(14300))
	}
	m, err := s.p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{})
	require.NoError(t, err)
	require.Contains(t, string(m), "avc1.")
	require.Contains(t, string(m), "opus")
}

// Only the sound changes: the new sound waits for the next key frame.
func TestAudioChange(t *testing.T) {
	s := newSession(t, Config{})
	s.untimed = true
	a := &streamtest.Pattern{}
	b := &streamtest.Pattern{Audio: stream.Opus}
	s.p.SetTracks(a.Tracks()...)
	s.feed(until(only(merge(a.Frames(1200), b.Frames(1200)), func(f *stream.Frame) bool {
		switch f.Track {
		case a.Tracks()[0]:
			return true
		case a.Tracks()[1]:
			return f.DTS < ms(6400)
		case b.Tracks()[1]:
			return f.DTS >= ms(6400)
		}
		return false
	}), 12*time.Second))
	s.end()
	i := slices.IndexFunc(s.segments[Audio], func(seg *Segment) bool { return seg.Init.Track.Codec == stream.Opus })
	require.Positive(t, i)
	require.InDelta(t, 7, s.segments[Audio][i].Start.Seconds(), 0.022)
	require.True(t, s.segments[Audio][i].Discontinuity)
	require.InDelta(t, 1, s.segments[Audio][i-1].Duration.Seconds(), 0.05)
}

// merge interleaves two sequences by DTS.
func merge(a, b iter.Seq[*stream.Frame]) iter.Seq[*stream.Frame] {
	all := slices.Collect(a)
	all = slices.AppendSeq(all, b)
	slices.SortStableFunc(all, func(x, y *stream.Frame) int { return int(x.DTS - y.DTS) })
	return slices.Values(all)
}

// Key frames come further apart than the first two did.
func TestTargetDurationGrows(t *testing.T) {
	s := newSession(t, Config{})
	s.grows, s.untimed = true, true
	s.feedPattern(&streamtest.Pattern{}, ms(6000))
	require.Equal(t, 2, s.playlist(Video).TargetDuration)
	p := &streamtest.Pattern{KeyInterval: 125, Start: ms(6000)}
	s.feed(sameTracks(until(p.Frames(-1), ms(40000)), s.p.announced))
	s.end()
	require.Equal(t, 5, s.playlist(Video).TargetDuration)
	require.Equal(t, 5, s.playlist(Audio).TargetDuration)
	require.Zero(t, s.p.discSeq)
}

// sameTracks gives frames tracks of another pattern.
func sameTracks(frames iter.Seq[*stream.Frame], tracks []*stream.Track) iter.Seq[*stream.Frame] {
	return func(yield func(*stream.Frame) bool) {
		for f := range frames {
			for _, t := range tracks {
				if t.ID == f.Track.ID {
					f.Track = t
				}
			}
			if !yield(f) {
				return
			}
		}
	}
}

// No key frame for ever: segments end all the same, by time or by size.
func TestNoKeyFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		max  time.Duration
	}{
		{"time", Config{MaxSegment: 10 * time.Second}, 10 * time.Second},
		{"bytes", Config{MaxBytes: 1 << 20}, 9 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, tt.c)
			s.grows, s.untimed = true, true
			s.quiet = tt.name == "bytes" // the window is less than three target durations
			s.feedPattern(&streamtest.Pattern{KeyInterval: 1 << 20}, 60*time.Second)
			for i, seg := range s.segments[Video] {
				require.LessOrEqual(t, seg.Duration, tt.max)
				require.Equal(t, i == 0, seg.Independent)
				require.LessOrEqual(t, seg.Content().Size, s.p.cfg.MaxBytes/4+2000)
			}
			require.GreaterOrEqual(t, len(s.segments[Video]), 5)
			m, err := s.p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{})
			require.NoError(t, err)
			require.NotContains(t, string(m), "INDEPENDENT-SEGMENTS")
		})
	}
}

func TestMemoryCap(t *testing.T) {
	s := newSession(t, Config{MaxBytes: 1 << 20, TS: newFakeTS, TSAlways: true})
	s.quiet = true
	p := &streamtest.Pattern{KeySize: 20000, FrameSize: 4000}
	s.p.SetTracks(p.Tracks()...)
	most := int64(0)
	for f := range until(p.Frames(-1), 60*time.Second) {
		s.add(f)
		most = max(most, s.p.Stats().Bytes)
	}
	require.LessOrEqual(t, most, int64(1<<20))
	require.Greater(t, most, int64(900<<10), "the room is used")
	held := int64(0)
	for _, r := range usual {
		snap := s.p.out[r].snap.Load()
		for _, seg := range append(slices.Clone(snap.segs), s.p.out[r].cur) {
			held += seg.held
			require.GreaterOrEqual(t, seg.held, seg.size)
		}
	}
	require.Equal(t, s.p.Stats().Bytes, held)
}

func TestWindow(t *testing.T) {
	s := newSession(t, Config{Window: 10 * time.Second})
	p := &streamtest.Pattern{}
	s.p.SetTracks(p.Tracks()...)
	first := map[string]time.Duration{} // when a segment was listed first
	gone := map[string]time.Duration{}
	for f := range until(p.Frames(-1), 60*time.Second) {
		s.add(f)
		if s.full[Video] == nil || f.Track.Kind() != stream.Video {
			continue
		}
		for _, seg := range s.playlist(Video).Segments {
			if _, ok := first[seg.URI]; !ok && seg.Complete() {
				first[seg.URI] = f.DTS
			}
		}
		if d := s.playlist(Video).Duration(); f.DTS > 15*time.Second {
			require.GreaterOrEqual(t, d, 10.0)
			require.Less(t, d, 12.01)
		}
		for uri := range first {
			if _, err := s.p.Open(t.Context(), uri, netip.Addr{}); err != nil && gone[uri] == 0 {
				gone[uri] = f.DTS
			}
		}
	}
	require.Greater(t, len(gone), 15)
	for uri, at := range gone {
		// bis 6.2.2: its duration and that of the longest playlist.
		require.GreaterOrEqual(t, at-first[uri], ms(13900), uri)
		require.LessOrEqual(t, at-first[uri], 18*time.Second, uri)
	}
	require.Less(t, len(s.p.out[Video].snap.Load().segs), 10)
}

// The TS rendition begins when somebody asks for it.
func TestTSOnDemand(t *testing.T) {
	s := newSession(t, Config{TS: newFakeTS, FirstSequence: 100})
	p := &streamtest.Pattern{}
	s.feedPattern(p, ms(7100))
	require.Empty(t, s.segments[TS])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.p.Playlist(ctx, TS, Directives{}, netip.Addr{})
	require.ErrorIs(t, err, context.Canceled)
	s.feed(from(until(p.Frames(-1), 20*time.Second), ms(7100)))
	s.end()
	require.EqualValues(t, 104, s.segments[TS][0].Sequence)
	require.Equal(t, 8*time.Second, s.segments[TS][0].Start)
	require.False(t, s.segments[TS][0].Discontinuity)
	require.Contains(t, s.text(TS), "#EXT-X-VERSION:3\n")
	require.NotContains(t, s.text(TS), "PART")
	m, err := s.p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{TS: true, Prefix: "cam/", Suffix: "?x"})
	require.NoError(t, err)
	require.Contains(t, string(m), "\ncam/ts.m3u8?x\n")
	require.NotContains(t, string(m), "AUDIO=")

	_, err = New(Config{}).Playlist(t.Context(), TS, Directives{}, netip.Addr{})
	require.ErrorIs(t, err, stream.ErrNotFound)
}

// What a container cannot carry is left out of it.
func TestUnsupported(t *testing.T) {
	s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
	s.feedPattern(&streamtest.Pattern{Video: stream.VP8, Audio: stream.PCMU}, 10*time.Second)
	for _, r := range []Rendition{Video, Audio} {
		_, err := s.p.Playlist(t.Context(), r, Directives{}, netip.Addr{})
		require.ErrorIs(t, err, stream.ErrUnsupported)
	}
	_, err := s.p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{})
	require.ErrorIs(t, err, stream.ErrUnsupported)
	_, err = s.p.Playlist(t.Context(), TS, Directives{}, netip.Addr{})
	require.NoError(t, err)

	s = newSession(t, Config{TS: newFakeTS, TSAlways: true})
	s.feedPattern(&streamtest.Pattern{Video: stream.AV1, NoAudio: true}, 10*time.Second)
	_, err = s.p.Playlist(t.Context(), TS, Directives{}, netip.Addr{})
	require.ErrorIs(t, err, stream.ErrUnsupported)
	_, err = s.p.Playlist(t.Context(), Video, Directives{}, netip.Addr{})
	require.NoError(t, err)

	s = newSession(t, Config{TS: newFakeTS, TSAlways: true})
	s.feedPattern(&streamtest.Pattern{Video: stream.AV1}, 10*time.Second)
	s.end()
	require.False(t, strings.Contains(string(slices.Concat(s.segments[TS][0].Content().Data...)), "video"))
}

func TestEnd(t *testing.T) {
	t.Run("nothing came", func(t *testing.T) {
		p := New(Config{TS: newFakeTS})
		p.End()
		p.End()
		for _, r := range usual {
			_, err := p.Playlist(t.Context(), r, Directives{}, netip.Addr{})
			require.ErrorIs(t, err, stream.ErrNotFound)
		}
		_, err := p.Multivariant(t.Context(), netip.Addr{}, MultivariantOptions{})
		require.ErrorIs(t, err, stream.ErrNotFound)
		p.Add(&stream.Frame{Track: (&streamtest.Pattern{}).Tracks()[0], Key: true, Data: []byte{1}})
	})
	for _, length := range []time.Duration{ms(10), ms(300), ms(1500), ms(2100), ms(9900)} {
		t.Run(length.String(), func(t *testing.T) {
			s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
			s.feedPattern(&streamtest.Pattern{}, length)
			s.end()
			for _, r := range usual {
				p := s.playlist(r)
				require.True(t, p.Ended)
				require.InDelta(t, length.Seconds(), p.Duration(), 0.05, "%v", r)
				require.Empty(t, p.Hints)
			}
			d, err := ParseDirectives("_HLS_msn=99999&_HLS_part=3&_HLS_skip=YES")
			require.NoError(t, err)
			pl, err := s.p.Playlist(t.Context(), Video, d, netip.Addr{})
			require.NoError(t, err)
			require.Equal(t, s.text(Video), string(pl.Text), "directives are ignored at the end")
		})
	}
	t.Run("a sound too short to be sure that there is no picture", func(t *testing.T) {
		s := newSession(t, Config{})
		s.feed(until((&streamtest.Pattern{NoVideo: true}).Frames(-1), ms(200)))
		s.end()
		require.InDelta(t, 0.21, s.playlist(Audio).Duration(), 0.022)
	})
}

// Dates follow the publisher's clock, slowly.
func TestProgramDateTime(t *testing.T) {
	s := newSession(t, Config{Window: time.Hour})
	random := rand.New(rand.NewPCG(3, 4))
	for f := range until((&streamtest.Pattern{}).Frames(-1), 120*time.Second) {
		drift := f.DTS / 2000 // 0.5 ms a second
		f.Time = epoch.Add(f.DTS + drift + ms(random.IntN(40)))
		s.p.Add(f)
	}
	s.end()
	for i, seg := range s.segments[Video] {
		require.InDelta(t, (seg.Start + seg.Start/2000).Seconds(), seg.Time.Sub(epoch).Seconds(), 0.08)
		if i > 0 {
			before := s.segments[Video][i-1]
			require.InDelta(t, 0, seg.Time.Sub(before.Time.Add(before.Duration)).Seconds(), 0.0051)
		}
	}
}

// Frames of other tracks do no harm.
func TestForeignTracks(t *testing.T) {
	s := newSession(t, Config{})
	p := &streamtest.Pattern{}
	s.p.SetTracks(p.Tracks()...)
	second := &stream.Track{ID: 7, Codec: stream.AAC, Rate: 44100, Config: p.Tracks()[1].Config}
	data := &stream.Track{ID: 9, Codec: stream.AMF0}
	for f := range until(p.Frames(-1), 10*time.Second) {
		s.add(f)
		s.add(&stream.Frame{Track: second, DTS: f.DTS, PTS: f.PTS, Data: []byte("xx")})
		s.add(&stream.Frame{Track: data, DTS: f.DTS, PTS: f.PTS, Data: []byte("yy")})
	}
	s.end()
	require.Len(t, s.segments[Audio], 5)
	for _, seg := range s.segments[Audio] {
		require.Equal(t, p.Tracks()[1], seg.Init.Track)
	}
}
