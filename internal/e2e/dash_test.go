package e2e

import (
	"io"
	"net/http"
	"testing"

	"github.com/Eyevinn/dash-mpd/mpd"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// TestDASH: dash.js in Chromium plays a live stream to its end.
func TestDASH(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	for _, clip := range []*peer.Clip{
		segmented,
		segmentedB,
		segmentedAV1,
		{Name: "segmented-audio.flv", Seconds: 6, NoVideo: true},
		{Name: "segmented-video.flv", Seconds: 6, NoAudio: true, Video: keyEachSecond + "0"},
	} {
		t.Run(clip.Name, func(t *testing.T) {
			t.Parallel()
			s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
			lab.Clip(t, clip)
			page := s.watch(t, browser, "dash.js", "a", "")
			s.send(t, clip, "a")
			latencies(t, page, 3)
			requirePlayed(t, page, clip, 2.5)
		})
	}
}

// TestDASHFFmpeg: ffmpeg follows the MPD of a live stream to its end, and what
// it decodes is in time.
func TestDASHFFmpeg(t *testing.T) {
	t.Parallel()
	s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
	lab.Clip(t, segmented)
	var m *peer.Media
	var marks *peer.Marks
	wait := together(probe(t, s.http+"/live/a.mpd", &m), observe(t, s.http+"/live/a.mpd", &marks))
	s.expect(t, 2)
	s.send(t, segmented, "a")
	require.NoError(t, wait())
	t.Logf("%d pictures, %d packets of sound, offsets %v; %s", len(m.Video), len(m.Audio), marks.Offsets(), m.Log)
	require.Equal(t, []string{"aac", "h264"}, m.Codecs())
	require.Greater(t, len(m.Video), (segmented.Seconds-2)*peer.FPS)
	require.Greater(t, len(m.Audio), (segmented.Seconds-2)*40)
	require.NotEmpty(t, marks.Offsets())
	for _, d := range marks.Offsets() {
		require.InDelta(t, 0, d.Milliseconds(), 45)
	}

	resp, err := http.Get(s.http + "/live/a.mpd")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "application/dash+xml", resp.Header.Get("Content-Type"))
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	doc, err := mpd.MPDFromBytes(text)
	require.NoError(t, err)
	require.Equal(t, "static", *doc.Type, "%s", text)
	require.InDelta(t, segmented.Seconds, doc.MediaPresentationDuration.Seconds(), 0.3)
}
