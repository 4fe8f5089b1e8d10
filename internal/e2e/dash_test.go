package e2e

import (
	"bytes"
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

// TestDASHFFmpeg: ffmpeg follows the MPD of a live stream, and plays all of it
// again when it has ended. Picture and sound are in time.
func TestDASHFFmpeg(t *testing.T) {
	t.Parallel()
	s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
	lab.Clip(t, segmented)
	var m *peer.Media
	wait := together(probeStart(t, s.http+"/live/a.mpd", &m))
	s.expect(t, 1)
	publisher := push(t, segmented, s.rtmp+"/live/a")
	require.NoError(t, wait())
	t.Logf("%d pictures, %d packets of sound; %s", len(m.Video), len(m.Audio), m.Log)
	require.Equal(t, []string{"aac", "h264"}, m.Codecs())
	require.Greater(t, len(m.Video), 2*peer.FPS)
	require.Greater(t, len(m.Audio), 2*40)

	require.NoError(t, publisher.Wait(t, live))
	manifest := func() []byte {
		resp, err := http.Get(s.http + "/live/a.mpd")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, "application/dash+xml", resp.Header.Get("Content-Type"))
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return text
	}
	peer.Eventually(t, live, "the end", func() bool { return bytes.Contains(manifest(), []byte(`type="static"`)) })
	m = peer.Probe(t, live, s.http+"/live/a.mpd")
	require.Empty(t, m.Log)
	require.InDelta(t, segmented.Seconds*peer.FPS, len(m.Video), 1)
	marks := peer.Observe(t, live, s.http+"/live/a.mpd")
	require.Len(t, marks.Offsets(), segmented.Seconds)
	for _, d := range marks.Offsets() {
		require.InDelta(t, 0, d.Milliseconds(), 45)
	}

	doc, err := mpd.MPDFromBytes(manifest())
	require.NoError(t, err)
	require.InDelta(t, segmented.Seconds, doc.MediaPresentationDuration.Seconds(), 0.3)
}
