package hls

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/streamtest"
)

// A Packager that forgets keeps what playlists say, and no more media than what is in
// the making.
func TestForget(t *testing.T) {
	s := newSession(t, Config{Forget: true, Part: -1})
	p := &streamtest.Pattern{}
	s.p.SetTracks(p.Tracks()...)
	most := int64(0)
	for f := range p.Frames(72 * 30) {
		s.add(f)
		most = max(most, s.p.Stats().Bytes)
	}
	s.end()
	require.GreaterOrEqual(t, len(s.segments[Video]), 15)
	size := 0
	for _, seg := range s.segments[Video] {
		content := seg.Content()
		require.Positive(t, content.Size, "who was told has its bytes")
		size = max(size, int(content.Size))
	}
	require.Less(t, most, int64(2*size))
	require.Zero(t, s.p.Stats().Bytes)
	v := s.p.View(Video)
	require.Greater(t, len(v.Segments), 3)
	require.Positive(t, v.Average)
}
