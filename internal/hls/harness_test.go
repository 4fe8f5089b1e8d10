package hls

import (
	"bytes"
	"context"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/hls-m3u8/m3u8"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
)

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// usual are the renditions of a stream with one picture and one sound.
var usual = []Rendition{Video, Audio, TS}

// A session feeds a Packager and looks at every state of its playlists as players
// do.
type session struct {
	t testing.TB
	p *Packager

	grows   bool // allow the target duration to grow
	lax     bool // allow parts of any length: the frames come unevenly
	untimed bool // do not ask for a new part in time
	quiet   bool // do not look

	full, delta [renditions]*hlscheck.Reloads
	seen        [renditions]uint64
	segments    [renditions][]*Segment
	looks       int
	parts       int // seen in playlists
	deltas      int // delta updates that skipped something
	shift       time.Duration
}

func newSession(t testing.TB, c Config) *session {
	s := &session{t: t}
	c.OnSegment = func(seg *Segment) { s.segments[seg.Rendition] = append(s.segments[seg.Rendition], seg) }
	s.p = New(c)
	return s
}

// feed adds frames. They were captured at epoch + shift + DTS, if they do not say.
func (s *session) feed(frames iter.Seq[*stream.Frame]) {
	for f := range frames {
		s.add(f)
	}
}

func (s *session) add(f *stream.Frame) {
	if f.Time.IsZero() {
		f.Time = epoch.Add(s.shift + f.DTS)
	}
	s.p.Add(f)
	s.look()
}

func (s *session) end() {
	s.p.End()
	s.look()
}

// look checks what has changed.
func (s *session) look() {
	if s.quiet {
		return
	}
	var all []*hlscheck.Playlist
	for r := range renditions {
		snap := s.p.out[r].snap.Load()
		if ok, _ := snap.there(); !ok {
			continue
		}
		if s.full[r] == nil {
			s.full[r], s.delta[r] = &hlscheck.Reloads{Grows: s.grows, Slack: 50 * time.Millisecond}, &hlscheck.Reloads{Grows: s.grows}
		} else if s.seen[r] == snap.version {
			if r != TS {
				all = append(all, s.full[r].Playlist())
			}
			continue
		}
		s.seen[r] = snap.version
		at := epoch.Add(s.p.newest)
		if s.untimed {
			at = time.Time{}
		}
		text := snap.page(false).Text
		s.accept(s.full[r].Add(at, text), text)
		s.parse(text)
		p := s.full[r].Playlist()
		if r != TS {
			all = append(all, p)
		}

		short := snap.page(true).Text
		if strings.Contains(string(short), "EXT-X-SKIP") {
			s.deltas++
			require.Less(s.t, len(short), len(text))
			s.accept(s.delta[r].Add(time.Time{}, short), short)
		} else {
			s.delta[r].Add(time.Time{}, text)
		}
		require.Equal(s.t, placeless(p), placeless(s.delta[r].Playlist()), "%s\n%s", text, short)
	}
	if len(all) > 1 && !slices.Contains(all, nil) {
		s.accept(hlscheck.Siblings(all...), []byte(s.text(Video)+s.text(Audio)))
	}
}

// placeless leaves out where things were written.
func placeless(p *hlscheck.Playlist) hlscheck.Playlist {
	c := *p
	c.Segments = slices.Clone(p.Segments)
	c.Version = 0
	for i := range c.Segments {
		c.Segments[i].Line = 0
		c.Segments[i].Parts = slices.Clone(c.Segments[i].Parts)
		for k := range c.Segments[i].Parts {
			c.Segments[i].Parts[k].Line = 0
		}
		if len(c.Segments[i].Parts) == 0 {
			c.Segments[i].Parts = nil
		}
	}
	return c
}

func (s *session) accept(found []error, text []byte) {
	s.t.Helper()
	for _, err := range found {
		if s.lax && strings.Contains(err.Error(), "a part lasts at") {
			continue
		}
		require.NoError(s.t, err, "%s", text)
	}
}

// parse reads a playlist with somebody else's parser, which cannot take parts
// before the first whole segment.
func (s *session) parse(text []byte) {
	if s.looks++; s.looks%5 != 1 {
		return // it is slow
	}
	whole := bytes.Index(text, []byte("#EXTINF"))
	if whole < 0 {
		return
	}
	var kept []byte
	for line := range bytes.Lines(text[:whole]) {
		if !bytes.HasPrefix(line, []byte("#EXT-X-PART:")) {
			kept = append(kept, line...)
		}
	}
	text = append(kept, text[whole:]...)
	pl, kind, err := m3u8.DecodeFrom(bytes.NewReader(text), true)
	require.NoError(s.t, err, "%s", text)
	require.Equal(s.t, m3u8.MEDIA, kind)
	media := pl.(*m3u8.MediaPlaylist)
	require.NotZero(s.t, media.TargetDuration)
	require.EqualValues(s.t, strings.Count(string(text), "#EXTINF"), media.Count())
	s.parts += len(media.PartialSegments)
}

func (s *session) playlist(r Rendition) *hlscheck.Playlist {
	require.NotNil(s.t, s.full[r], "%v has no playlist", r)
	return s.full[r].Playlist()
}

func (s *session) text(r Rendition) string {
	return string(s.p.out[r].snap.Load().page(false).Text)
}

// open reads media by the URI of a playlist.
func (s *session) open(uri string) []byte {
	c, err := s.p.Open(context.Background(), strings.TrimPrefix(uri, s.p.cfg.MediaPrefix), netip.Addr{})
	require.NoError(s.t, err, uri)
	var b bytes.Buffer
	n, err := c.WriteTo(&b)
	require.NoError(s.t, err)
	require.Equal(s.t, c.Size, n)
	require.NotEmpty(s.t, c.Type)
	require.NotEmpty(s.t, c.ETag)
	return b.Bytes()
}

// durations returns the lengths of the segments, rounded to 10 ms.
func (s *session) durations(r Rendition) (d []float64) {
	for _, seg := range s.segments[r] {
		d = append(d, seg.Duration.Round(10*time.Millisecond).Seconds())
	}
	return d
}

// delayed lets the frames of a kind come late by d, with their timestamps as they
// are.
func delayed(frames iter.Seq[*stream.Frame], kind stream.Kind, d time.Duration) iter.Seq[*stream.Frame] {
	return func(yield func(*stream.Frame) bool) {
		var late []*stream.Frame
		for f := range frames {
			if f.Track.Kind() == kind {
				late = append(late, f)
				continue
			}
			for len(late) > 0 && late[0].DTS+d <= f.DTS {
				if !yield(late[0]) {
					return
				}
				late = late[1:]
			}
			if !yield(f) {
				return
			}
		}
		for _, f := range late {
			if !yield(f) {
				return
			}
		}
	}
}

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

// only leaves out frames.
func only(frames iter.Seq[*stream.Frame], keep func(*stream.Frame) bool) iter.Seq[*stream.Frame] {
	return func(yield func(*stream.Frame) bool) {
		for f := range frames {
			if keep(f) && !yield(f) {
				return
			}
		}
	}
}

// fakeTS is a muxer whose packets say which frame they carry.
type fakeTS struct{ tracks []*stream.Track }

func (m *fakeTS) Configure(tracks []*stream.Track) error {
	for _, t := range tracks {
		if t.Codec == stream.AV1 {
			return stream.ErrUnsupported
		}
	}
	m.tracks = tracks
	return nil
}

func (m *fakeTS) AppendTables(dst []byte) []byte { return append(dst, "TABLES;"...) }

func (m *fakeTS) AppendFrames(dst []byte, frames []*stream.Frame) []byte {
	if last := frames[len(frames)-1]; last.DTS-frames[0].DTS >= ms(100) {
		panic("frames that last too long together")
	}
	for _, f := range frames {
		if !slices.Contains(m.tracks, f.Track) {
			panic("frame of a track that was not configured")
		}
		dst = append(dst, f.Track.Kind().String()...)
		dst = append(dst, ' ')
		dst = append(dst, f.DTS.String()...)
		dst = append(dst, ';')
		dst = append(dst, f.Data...)
	}
	return dst
}

func newFakeTS() TSMuxer { return &fakeTS{} }

// needTools skips the test if a program is missing, unless the machine is to have
// them all.
func needTools(t *testing.T, found func(string) (string, error), tools ...string) {
	for _, tool := range tools {
		if _, err := found(tool); err != nil {
			if os.Getenv("RUNNEL_E2E") == "1" {
				t.Fatal(err)
			}
			t.Skip("needs ", tool, ": ", err)
		}
	}
}

var noAddr netip.Addr

func partURIs(parts []hlscheck.Part) (uris []string) {
	for _, part := range parts {
		if !part.Gap {
			uris = append(uris, part.URI)
		}
	}
	return uris
}
