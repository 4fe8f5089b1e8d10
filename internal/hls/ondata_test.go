package hls

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/streamtest"
)

// Who takes the bytes of segments as they are made gets those that others Open, and
// the Packager keeps what playlists say and no media.
func TestOnData(t *testing.T) {
	const frames = 72 * 30
	p := &streamtest.Pattern{}
	var want [renditions][]*Segment
	kept := New(Config{Part: -1, TS: newFakeTS, TSAlways: true, OnSegment: func(s *Segment) {
		want[s.Rendition] = append(want[s.Rendition], s)
	}})
	kept.SetTracks(p.Tracks()...)
	for f := range p.Frames(frames) {
		kept.Add(f)
	}
	kept.End()

	var got [renditions]map[uint64][]byte
	s := newSession(t, Config{Part: -1, TS: newFakeTS, TSAlways: true, OnData: func(s *Segment, data []byte) {
		if got[s.Rendition] == nil {
			got[s.Rendition] = make(map[uint64][]byte)
		}
		got[s.Rendition][s.Sequence] = append(got[s.Rendition][s.Sequence], data...)
	}})
	s.p.SetTracks(p.Tracks()...)
	for f := range p.Frames(frames) {
		s.add(f)
		require.Zero(t, s.p.Stats().Bytes)
	}
	s.end()
	for _, r := range usual {
		require.GreaterOrEqual(t, len(want[r]), 15)
		require.Len(t, s.segments[r], len(want[r]))
		for i, seg := range want[r] {
			var b bytes.Buffer
			_, err := seg.Content().WriteTo(&b)
			require.NoError(t, err)
			require.True(t, bytes.Equal(b.Bytes(), got[r][seg.Sequence]), "%v %d", r, i)
			require.EqualValues(t, b.Len(), s.segments[r][i].Content().Size)
		}
	}
	v := s.p.View(Video)
	require.Greater(t, len(v.Segments), 3)
	require.Positive(t, v.Average)
}
