package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// TestEnhancedRTMP: another implementation publishes and plays the codecs that
// only enhanced RTMP carries. Debian's ffmpeg can't, but decodes what came out,
// and what the fragmented MP4 of the page's player holds.
func TestEnhancedRTMP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clip   *peer.Clip
		codecs []string
	}{
		{peer.HEVC, []string{"hevc", "opus"}},
		{peer.AV1, []string{"av1", "opus"}},
		{peer.VP9, []string{"opus", "vp9"}},
	} {
		t.Run(strings.Join(c.codecs, "+"), func(t *testing.T) {
			t.Parallel()
			sent := peer.ReadMP4(t, lab.Clip(t, c.clip))
			s := startServer(t, &stream.Hub{})
			publisher := peer.PublishForeign(t, s.rtmp+"/live#a", sent)
			s.waitFor(t, "a", nil)
			player := peer.PlayForeign(t, s.rtmp+"/live#a")
			page := peer.Probe(t, live, s.http+"/live/a.mp4")
			_, err := publisher.Wait(t, live)
			require.NoError(t, err)
			got, err := player.Wait(t, live)
			require.NoError(t, err)
			require.Len(t, got.Tracks, len(sent.Tracks))
			file := filepath.Join(t.TempDir(), "played.mp4")
			got.WriteMP4(t, file)
			source := peer.Probe(t, live, lab.Clip(t, c.clip))
			for from, m := range map[string]*peer.Media{"RTMP": peer.Probe(t, live, file), "MP4": page} {
				t.Logf("%s: %d pictures of %d, %d packets of sound of %d", from, len(m.Video), len(source.Video), len(m.Audio), len(source.Audio))
				require.Empty(t, complaints(m), from)
				require.Equal(t, c.codecs, m.Codecs(), from)
				require.Equal(t, []string{"320x180"}, m.Sizes(), from)
				requireWhole(t, from, m.Video, source.Video)
				require.Len(t, m.Audio, len(source.Audio), from)
			}
		})
	}
}

// TestForeignLegacy: H.264 and AAC between the other implementation and
// ffmpeg, both ways.
func TestForeignLegacy(t *testing.T) {
	t.Parallel()
	clip := &peer.Clip{Name: "legacy.mp4", Seconds: 3, Container: "-movflags frag_keyframe+delay_moov+default_base_moof"}
	sent := peer.ReadMP4(t, lab.Clip(t, clip))
	s := startServer(t, &stream.Hub{})
	var m *peer.Media
	wait := together(probe(t, s.rtmp+"/live/a", &m))
	foreign := peer.PlayForeign(t, s.rtmp+"/live#a")
	s.expect(t, 2)
	publisher := peer.PublishForeign(t, s.rtmp+"/live#a", sent)
	require.NoError(t, wait())
	_, err := publisher.Wait(t, live)
	require.NoError(t, err)
	got, err := foreign.Wait(t, live)
	require.NoError(t, err)

	source := peer.Probe(t, live, lab.Clip(t, clip))
	requireWhole(t, "ffprobe", m.Video, source.Video)
	file := filepath.Join(t.TempDir(), "played.mp4")
	got.WriteMP4(t, file)
	played := peer.Probe(t, live, file)
	requireWhole(t, "foreign", played.Video, source.Video)
	requireWhole(t, "foreign", played.Audio, source.Audio)
	require.Less(t, (peer.Span(played.Video) - peer.Span(played.Audio)).Abs(), 200*time.Millisecond)
}
