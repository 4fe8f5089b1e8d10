package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// live is how long a player may take for a clip of a few seconds that is sent
// at its own speed: with both cores busy, long.
const live = 40 * time.Second

// TestFFmpeg publishes each kind of clip with ffmpeg and plays it with ffprobe
// over every protocol, until the publisher has come to its end. What a player
// decodes has no hole, ends with the clip, and sound and picture are as far
// apart as in the clip.
func TestFFmpeg(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clip   *peer.Clip
		secure bool
		codecs []string
		sizes  []string
	}{
		{peer.AV, false, []string{"aac", "h264"}, []string{"320x180"}},
		{peer.AV, true, []string{"aac", "h264"}, []string{"320x180"}},
		{peer.VideoOnly, false, []string{"h264"}, []string{"320x180"}},
		{peer.AudioOnly, false, []string{"aac"}, nil},
		{peer.BFrames, false, []string{"aac", "h264"}, []string{"320x180"}},
		{peer.Resize, false, []string{"aac", "h264"}, []string{"320x180", "480x270"}},
	} {
		name := c.clip.Name
		if c.secure {
			name = "secure-" + name
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clip := lab.Clip(t, c.clip)
			s := startServer(t, &stream.Hub{})
			from := s.rtmp
			if c.secure {
				from = s.rtmps
			}
			urls := []string{s.rtmp + "/live/a", s.rtmps + "/live/a", s.http + "/live/a.flv"}
			played := make([]*peer.Media, len(urls))
			var marks *peer.Marks
			var players []func() error
			for i, url := range urls {
				players = append(players, probe(t, url, &played[i]))
			}
			if !c.clip.NoAudio && !c.clip.NoVideo {
				players = append(players, observe(t, s.http+"/live/a.flv", &marks))
			}
			wait := together(players...)
			s.expect(t, len(players))
			publisher := push(t, c.clip, from+"/live/a")
			require.NoError(t, wait())
			require.NoError(t, publisher.Wait(t, live))

			source := peer.Probe(t, live, clip)
			for i, m := range played {
				url := urls[i]
				t.Logf("%s: %d pictures of %d, %d blocks of sound of %d", url, len(m.Video), len(source.Video), len(m.Audio), len(source.Audio))
				require.Equal(t, c.codecs, m.Codecs(), url)
				require.Empty(t, complaints(m), url)
				require.Equal(t, c.sizes, m.Sizes(), url)
				requireWhole(t, url, m.Video, source.Video)
				requireWhole(t, url, m.Audio, source.Audio)
				require.Equal(t, source.Types("B") > 0, m.Types("B") > 0, url)
			}
			if marks != nil {
				requireTogether(t, peer.Observe(t, live, clip), marks)
			}
		})
	}
}

// requireWhole: the frames are those of the source, with the distances that
// they had there. Less than three may be missing at the start: sound from
// before the first key frame, which no player needs.
func requireWhole(t *testing.T, player string, got, source []peer.Frame) {
	t.Helper()
	require.LessOrEqual(t, len(got), len(source), player)
	require.Greater(t, len(got)+3, len(source), player)
	if len(got) == 0 {
		return
	}
	source = source[len(source)-len(got):]
	shift := got[0].PTS - source[0].PTS
	for i := range got {
		require.InDelta(t, (source[i].PTS + shift).Milliseconds(), got[i].PTS.Milliseconds(), 3, "%s: frame %d of %d", player, i, len(got))
	}
}

// complaints is what ffprobe said, without what ffmpeg 5.1 says at the end of
// each HTTP response whose end is that of the connection.
func complaints(m *peer.Media) string {
	var left strings.Builder
	for line := range strings.Lines(m.Log) {
		if !strings.Contains(line, "Stream ends prematurely at") {
			left.WriteString(line)
		}
	}
	return left.String()
}

// requireTogether: flashes and beeps are as far apart as in the source.
func requireTogether(t *testing.T, source, got *peer.Marks) {
	t.Helper()
	want, offsets := source.Offsets(), got.Offsets()
	t.Logf("flash after beep: %v, in the clip %v", offsets, want)
	require.NotEmpty(t, want)
	require.GreaterOrEqual(t, len(offsets), len(want)-2)
	const slack = 15 // ms
	require.GreaterOrEqual(t, offsets[0].Milliseconds(), want[0].Milliseconds()-slack)
	require.LessOrEqual(t, offsets[len(offsets)-1].Milliseconds(), want[len(want)-1].Milliseconds()+slack)
}

// TestPost publishes by HTTP POST.
func TestPost(t *testing.T) {
	t.Parallel()
	s := startServer(t, &stream.Hub{})
	var overRTMP, overHTTP *peer.Media
	wait := together(probe(t, s.rtmp+"/live/posted", &overRTMP), probe(t, s.http+"/live/posted.flv", &overHTTP))
	s.expect(t, 2)
	publisher := push(t, peer.AV, s.http+"/live/posted.flv")
	require.NoError(t, wait())
	require.NoError(t, publisher.Wait(t, live))
	source := peer.Probe(t, live, lab.Clip(t, peer.AV))
	requireWhole(t, "RTMP", overRTMP.Video, source.Video)
	requireWhole(t, "HTTP", overHTTP.Video, source.Video)
	requireWhole(t, "HTTP", overHTTP.Audio, source.Audio)
}

// TestRepublish kills a publisher whom players joined in the middle. They stay through the grace time, a
// second publisher comes, and they go on with its frames.
func TestRepublish(t *testing.T) {
	t.Parallel()
	clip := lab.Clip(t, peer.AV)
	s := startServer(t, &stream.Hub{Grace: 10 * time.Second})
	first := push(t, peer.AV, s.rtmp+"/live/again", "-stream_loop", "-1")
	s.waitFor(t, "again", first)

	urls := []string{s.rtmp + "/live/again", s.http + "/live/again.flv"}
	played := make([]*peer.Media, len(urls))
	var marks *peer.Marks
	wait := together(probe(t, urls[0], &played[0]), probe(t, urls[1], &played[1]), observe(t, urls[1], &marks))

	str := s.hub.Stream("live/again")
	peer.Eventually(t, live, "three players", func() bool { return str.Stats().Readers > 0 && s.players() == 3 })
	joined := str.Stats().Position
	peer.Eventually(t, live, "two seconds more", func() bool { return str.Stats().Position > joined+2*time.Second })
	first.Kill()
	peer.Eventually(t, live, "the loss of the publisher", func() bool { return !str.Publishing() })
	time.Sleep(500 * time.Millisecond)
	second := push(t, peer.AV, s.rtmp+"/live/again")
	peer.Eventually(t, live, "the second publisher", str.Publishing)
	require.Same(t, str, s.hub.Stream("live/again"))
	require.NoError(t, second.Wait(t, live))
	str.End(nil) // the grace time need not be waited for again
	require.NoError(t, wait())

	source := peer.Probe(t, live, clip)
	for i, m := range played {
		url := urls[i]
		t.Logf("%s: %d pictures, %d blocks of sound", url, len(m.Video), len(m.Audio))
		// All of the second time, and a second or more of the first.
		require.Greater(t, len(m.Video), len(source.Video)+peer.FPS, url)
		require.Greater(t, len(m.Audio), len(source.Audio)+40, url)
		for _, frames := range [][]peer.Frame{m.Video, m.Audio} {
			largest, smallest := peer.Gap(frames)
			require.Positive(t, smallest, "%s: time must not go back", url)
			require.Less(t, largest, 5*time.Second, url)
		}
	}
	require.Greater(t, len(marks.Flashes), 5)
	requireTogether(t, peer.Observe(t, live, clip), marks)
}

// TestSecondPublisher: by default a name that is taken is refused, and the
// first publisher goes on.
func TestSecondPublisher(t *testing.T) {
	t.Parallel()
	s := startServer(t, &stream.Hub{})
	first := s.publish(t, peer.VideoOnly, s.rtmp, "taken")
	require.Error(t, push(t, peer.VideoOnly, s.rtmp+"/live/taken").Wait(t, live))
	require.True(t, first.Running())
	require.NoError(t, first.Wait(t, live))
}

// TestNoStream: players of a stream that is not there are told so.
func TestNoStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, &stream.Hub{})
	s.out.Wait = 0
	for _, url := range []string{s.rtmp + "/live/none", s.http + "/live/none.flv"} {
		_, err := peer.TryProbe(t, live, url)
		require.Error(t, err, url)
		t.Log(err)
	}
}
