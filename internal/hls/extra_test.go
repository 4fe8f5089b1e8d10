package hls

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// ladder is a stream of several tracks of video, and sound. What comes at the same
// time comes in the order of seed, for publishers differ.
func ladder(videos int, length time.Duration, seed int) (tracks []*stream.Track, frames []*stream.Frame) {
	audio := &streamtest.Pattern{NoVideo: true}
	type placed struct {
		f     *stream.Frame
		order int
	}
	var all []placed
	for i := range videos {
		p := &streamtest.Pattern{NoAudio: true, FrameSize: 4000 >> i}
		t := *p.Tracks()[0]
		t.ID = uint8(1 + 10*i)
		tracks = append(tracks, &t)
		for f := range until(p.Frames(-1), length) {
			f.Track = &t
			all = append(all, placed{f, (i*7 + seed) % 5})
		}
	}
	tracks = append(tracks, audio.Tracks()...)
	for f := range until(audio.Frames(-1), length) {
		all = append(all, placed{f, 9})
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.f.DTS, b.f.DTS), cmp.Compare(a.order, b.order))
	})
	for _, p := range all {
		frames = append(frames, p.f)
	}
	return tracks, frames
}

// Several tracks of video are cut at the same places, and a player may choose.
func TestLadder(t *testing.T) {
	for seed := range 4 {
		tracks, frames := ladder(3, ms(11000), seed)
		s := newSession(t, Config{TS: newFakeTS, TSAlways: true})
		s.p.SetTracks(tracks...)
		s.feed(slices.Values(frames))
		text, err := s.p.Multivariant(t.Context(), noAddr, MultivariantOptions{})
		require.NoError(t, err)
		variants, media, found := hlscheck.Multivariant(text)
		require.Empty(t, found, "%s", text)
		require.Len(t, variants, 3)
		require.Len(t, media, 1)
		for i, want := range []string{"v.m3u8", "w.m3u8", "x.m3u8"} {
			require.Equal(t, want, variants[i].URI)
			require.Equal(t, "audio", variants[i].Attributes["AUDIO"])
		}
		s.end()
		for _, r := range []Rendition{Video2, Video3} {
			require.Len(t, s.segments[r], len(s.segments[Video]))
			for i, seg := range s.segments[r] {
				v := s.segments[Video][i]
				require.Equal(t, v.Sequence, seg.Sequence)
				require.Equal(t, v.Start, seg.Start)
				require.Equal(t, v.Duration, seg.Duration)
				require.Equal(t, v.Time, seg.Time)
				require.True(t, seg.Independent)
				require.Len(t, seg.Parts, len(v.Parts))
				require.Less(t, seg.Content().Size, v.Content().Size)
			}
		}
		require.Empty(t, s.segments[Video4])
		require.Zero(t, s.p.Stats().Dropped)
		require.Len(t, s.segments[TS], len(s.segments[Video]), "the first alone is in MPEG-TS")
	}
}

// A track that goes, comes back, or is cut elsewhere has gaps, and the others go
// on.
func TestLadderWithGaps(t *testing.T) {
	tracks, frames := ladder(3, ms(30000), 0)
	for name, keep := range map[string]func(f *stream.Frame) bool{
		"silent": func(f *stream.Frame) bool { return f.Track != tracks[1] || f.DTS < ms(7500) || f.DTS > ms(18500) },
		"late":   func(f *stream.Frame) bool { return f.Track != tracks[1] || f.DTS > ms(12300) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, Config{Segment: time.Second})
			s.lax, s.untimed = true, true
			s.p.SetTracks(tracks...)
			for _, f := range frames {
				if keep(f) {
					s.add(f)
				}
			}
			s.end()
			require.Equal(t, 30, len(s.segments[Video]))
			require.Len(t, s.segments[Video3], 30)
			gaps := 0
			first := s.segments[Video2][0].Sequence
			for _, seg := range s.segments[Video2] {
				if seg.Gap {
					gaps++
					continue
				}
				require.True(t, seg.Independent)
				require.InDelta(t, s.segments[Video][seg.Sequence].Start.Seconds(), seg.Start.Seconds(), 0.001)
			}
			if name == "silent" {
				require.Zero(t, first)
				require.InDelta(t, 11, gaps, 1)
			} else {
				require.EqualValues(t, 13, first)
				require.Zero(t, gaps)
			}
		})
	}
	t.Run("key frames elsewhere", func(t *testing.T) {
		s := newSession(t, Config{Segment: time.Second})
		s.p.SetTracks(tracks...)
		for _, f := range frames {
			if f.Track == tracks[1] {
				f.Key = (f.DTS-ms(480))%time.Second == 0
			}
			s.add(f)
		}
		s.end()
		require.Empty(t, s.segments[Video2], "it cannot begin")
		require.Len(t, s.segments[Video3], 30)
	})
}

// More tracks than there is room for, and those that nobody announced.
func TestLadderBounds(t *testing.T) {
	tracks, frames := ladder(6, ms(5000), 0)
	s := newSession(t, Config{Segment: time.Second})
	s.p.SetTracks(tracks...)
	s.feed(slices.Values(frames))
	s.end()
	for r, segs := range s.segments {
		require.Len(t, segs, map[bool]int{true: 0, false: 5}[Rendition(r) == TS], Rendition(r))
	}
	_, frames = ladder(2, ms(5000), 0)
	s = newSession(t, Config{Segment: time.Second})
	s.feed(slices.Values(frames))
	s.end()
	require.Empty(t, s.segments[Video2])
}

// A republish is a discontinuity for all.
func TestLadderRepublish(t *testing.T) {
	tracks, frames := ladder(2, ms(4300), 0)
	s := newSession(t, Config{Segment: time.Second})
	s.untimed = true
	s.p.SetTracks(tracks...)
	s.feed(slices.Values(frames))
	s.p.Flush()
	s.look()
	tracks, frames = ladder(2, ms(4300), 1)
	s.p.SetTracks(tracks...)
	s.shift = 2 * time.Second
	seen := map[uint8]bool{}
	for _, f := range frames {
		f.DTS, f.PTS = f.DTS+ms(4340), f.PTS+ms(4340)
		f.Discontinuity = !seen[f.Track.ID]
		seen[f.Track.ID] = true
		s.add(f)
	}
	s.end()
	require.Len(t, s.segments[Video2], len(s.segments[Video]))
	for i, seg := range s.segments[Video2] {
		v := s.segments[Video][i]
		require.Equal(t, v.DiscontinuitySequence, seg.DiscontinuitySequence)
		require.Equal(t, v.Discontinuity, seg.Discontinuity)
		require.Equal(t, v.Start, seg.Start)
	}
}
