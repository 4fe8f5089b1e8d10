package e2e

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// A reel is the tracks and frames of a clip.
type reel struct {
	tracks []*stream.Track
	frames []*stream.Frame
}

// SetTracks implements mpegts.Sink.
func (r *reel) SetTracks(tracks ...*stream.Track) error {
	r.tracks = slices.Clone(tracks)
	return nil
}

// Write implements mpegts.Sink.
func (r *reel) Write(f *stream.Frame) error {
	r.frames = append(r.frames, f)
	return nil
}

// readTS reads a clip in MPEG-TS, with the ID of its video changed.
func readTS(t *testing.T, clip *peer.Clip, videoID uint8) *reel {
	t.Helper()
	f, err := os.Open(lab.Clip(t, clip))
	require.NoError(t, err)
	defer f.Close()
	r := &reel{}
	_, err = (&mpegts.Demuxer{Sink: r}).ReadFrom(f)
	require.NoError(t, err)
	for i, old := range r.tracks {
		if old.Kind() != stream.Video {
			continue
		}
		video := *old
		video.ID = videoID
		r.tracks[i] = &video
		for _, f := range r.frames {
			if f.Track.Kind() == stream.Video {
				f.Track = &video
			}
		}
	}
	return r
}

// TestHLSLadder: a stream with two sizes of the picture gives hls.js and dash.js two
// levels, between which they can switch, and ffmpeg both pictures.
func TestHLSLadder(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
	tracks, frames := twoSizes(t)
	pub, err := s.hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(tracks...))
	go func() {
		start := time.Now()
		for round := range 6 {
			shift := time.Duration(round*segmented.Seconds) * time.Second
			for _, f := range frames {
				f := *f
				f.DTS, f.PTS, f.Time = f.DTS+shift, f.PTS+shift, time.Time{}
				time.Sleep(time.Until(start.Add(f.DTS)))
				if pub.Write(&f) != nil {
					return
				}
			}
		}
		_ = pub.Close()
	}()
	for player, js := range map[string]struct{ levels, choose string }{
		"hls.js": {"player.levels.length", "player.nextLevel = player.levels.findIndex(l => l.width === %d)"},
		"dash.js": {`player.getRepresentationsByType("video").length`, `player.updateSettings({streaming: {abr: {autoSwitchBitrate: {video: false}}}}),
			player.setRepresentationForTypeById("video", player.getRepresentationsByType("video").find(r => r.width === %d).id, true)`},
	} {
		t.Run(player, func(t *testing.T) {
			page := s.watch(t, browser, player, "a", "")
			page.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > peer.FPS })
			require.Equal(t, 2, peer.Eval[int](t, page, js.levels))
			for _, width := range []int{480, 320} {
				peer.Eval[any](t, page, "("+fmt.Sprintf(js.choose, width)+", null)")
				before := page.Playback(t, "video").Frames
				p := page.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Width == width && p.Frames > before+peer.FPS })
				t.Logf("%+v", p)
			}
			requireFine(t, page)
		})
	}
	t.Run("ffmpeg", func(t *testing.T) {
		var m *peer.Media
		require.NoError(t, probeStart(t, s.http+"/live/a.mpd", &m)())
		require.Subset(t, m.Sizes(), []string{"320x180", "480x270"})
	})
}

// twoSizes is a clip with a second picture, in another size.
func twoSizes(t *testing.T) ([]*stream.Track, []*stream.Frame) {
	t.Helper()
	small := readTS(t, &peer.Clip{Name: "segmented-small.ts", Seconds: segmented.Seconds, Video: keyEachSecond + "0"}, 1)
	large := readTS(t, &peer.Clip{Name: "segmented-large.ts", Seconds: segmented.Seconds, Size: "480x270", Video: keyEachSecond + "0"}, 3)
	tracks, frames := slices.Clone(small.tracks), slices.Clone(small.frames)
	for _, f := range large.frames { // whose sound is the same
		if f.Track.Kind() == stream.Video {
			frames = append(frames, f)
			if !slices.Contains(tracks, f.Track) {
				tracks = append(tracks, f.Track)
			}
		}
	}
	slices.SortStableFunc(frames, func(a, b *stream.Frame) int { return cmp.Compare(a.DTS, b.DTS) })
	return tracks, frames
}
