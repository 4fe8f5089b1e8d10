package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
)

// Clips for segments of a second.
const (
	keyEachSecond = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 400k -g 25 -sc_threshold 0 -bf "
	fragments     = "-movflags frag_keyframe+delay_moov+default_base_moof"
)

var (
	segmented     = &peer.Clip{Name: "segmented.flv", Seconds: 7, Video: keyEachSecond + "0"}
	segmentedB    = &peer.Clip{Name: "segmented-b.flv", Seconds: 6, Video: keyEachSecond + "2"}
	segmentedMP4  = &peer.Clip{Name: "segmented.mp4", Seconds: 7, Video: keyEachSecond + "0", Container: fragments}
	segmentedHEVC = &peer.Clip{Name: "segmented-hevc.mp4", Seconds: 5, Container: fragments, Audio: "-c:a aac",
		Video: "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params log-level=error:keyint=25:scenecut=0:bframes=2"}
	segmentedAV1 = &peer.Clip{Name: "segmented-av1.mp4", Seconds: 6, Container: fragments, Audio: "-c:a libopus -b:a 64k",
		Video: "-c:v libaom-av1 -cpu-used 8 -usage realtime -row-mt 1 -pix_fmt yuv420p -b:v 300k -g 25"}
)

// startHTTPPlay starts a server that packages streams with short segments and
// has the pages /hls.js and /dash.js, which play NAME of their query.
func startHTTPPlay(t *testing.T, hub *stream.Hub, config deliver.HLS) *server {
	t.Helper()
	s := startServer(t, hub)
	config.Segment, config.Part = time.Second, 200*time.Millisecond
	s.out.HLS = config
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.out.Run(ctx) // the context's end
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	s.script(t, "/hls.js", "hls.js/dist/hls.js", `
		const player = window.player = new Hls({lowLatencyMode: true});
		player.on(Hls.Events.ERROR, (_, e) => {
			errors.push(e.details + (e.fatal ? " fatal" : ""));
			if (e.fatal) console.error("fatal", e.details, String(e.error));
		});
		player.loadSource(source(".m3u8"));
		player.attachMedia(video);
		window.latency = () => player.latency;`)
	s.script(t, "/dash.js", "dashjs/dist/modern/umd/dash.all.min.js", `
		const player = window.player = dashjs.MediaPlayer().create();
		player.on("error", e => {
			errors.push(e.error.message + " fatal");
			console.error("fatal", e.error.code, e.error.message);
		});
		player.updateSettings({streaming: {delay: {useSuggestedPresentationDelay: true}}});
		player.initialize(video, source(".mpd"), true);
		window.latency = () => player.getCurrentLiveLatency();`)
	return s
}

// script adds a page with a player from npm and a script that starts it.
func (s *server) script(t *testing.T, page, module, start string) {
	t.Helper()
	file := peer.NodeModule(t, module)
	s.mux.HandleFunc(page+"/module", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	s.mux.HandleFunc(page, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><script src="%s/module"></script>
			<body><video id="video" autoplay></video><script>
			const video = document.querySelector("video"), params = new URLSearchParams(location.search);
			const errors = window.errors = [];
			const source = suffix => location.origin + "/live/" + params.get("name") + suffix + "?" + params.get("query");
			window.ended = false;
			video.addEventListener("ended", () => window.ended = true);
			%s
		</script>`, page, start)
	})
}

// watch opens one of the pages and waits until it has asked for the stream.
func (s *server) watch(t *testing.T, b *peer.Browser, page, name, query string) *peer.Page {
	t.Helper()
	before := int(s.peers.Load())
	p := b.Open(t, fmt.Sprintf("%s/%s?name=%s&query=%s", s.http, page, name, url.QueryEscape(query)))
	s.expect(t, before+1)
	return p
}

// send publishes a clip, over enhanced RTMP where its codecs need that.
func (s *server) send(t *testing.T, clip *peer.Clip, name string) {
	t.Helper()
	if strings.HasSuffix(clip.Name, ".flv") {
		push(t, clip, s.rtmp+"/live/"+name)
		return
	}
	peer.PublishForeign(t, s.rtmp+"/live#"+name, peer.ReadMP4(t, lab.Clip(t, clip)))
}

// requirePlayed checks what a player did that came before the publisher: it
// missed little of the start and nothing of the end.
func requirePlayed(t *testing.T, page *peer.Page, clip *peer.Clip, missed float64) {
	t.Helper()
	// hls.js 1.7.4 prefers the next segment, once that is listed, to a last part of
	// less than 0.25 s (maxFragLookUpTolerance), so that one that is late, on a
	// machine that is too busy, leaves that part out. It comes to the end all the
	// same, as far as was seen.
	const skipped = "window.Hls && player instanceof Hls && video.buffered.length > 1"
	page.Until(t, live, "ended || "+skipped+" && performance.now() > (window.since ??= performance.now()) + 15000")
	if end := peer.Eval[bool](t, page, "ended"); !end || peer.Eval[bool](t, page, "!!("+skipped+")") {
		t.Logf("hls.js could not keep up, ended %v: %+v", end, page.Playback(t, "video"))
		requireFine(t, page)
		return
	}
	p := page.Playback(t, "video")
	t.Logf("%+v", p)
	seconds := float64(clip.Seconds)
	if !clip.NoVideo {
		require.Greater(t, float64(p.Frames), (seconds-missed)*peer.FPS)
		require.LessOrEqual(t, float64(p.Frames), seconds*peer.FPS+2)
		require.Equal(t, 320, p.Width)
	}
	if !clip.NoAudio {
		require.Greater(t, float64(p.AudioBytes), (seconds-missed)*800)
	}
	requireFine(t, page)
}

func requireFine(t *testing.T, page *peer.Page) {
	t.Helper()
	require.NotContains(t, peer.Eval[string](t, page, "errors.join()"), "fatal")
	require.NotContains(t, page.Console(), "exception")
}

// latencies records the player's own figure some times, in seconds. What it is
// depends on what else the machine does.
func latencies(t *testing.T, page *peer.Page, from float64) (l []float64) {
	t.Helper()
	page.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > 0 || p.AudioBytes > 0 })
	start := time.Now()
	for range 8 {
		time.Sleep(time.Duration(from * float64(time.Second) / 8))
		l = append(l, peer.Eval[float64](t, page, "latency() || 0"))
	}
	t.Logf("latency %.2f s in %v", l, time.Since(start).Round(time.Millisecond))
	return l
}

// TestHLS: hls.js in Chromium plays a live stream to its end.
func TestHLS(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	audio := &peer.Clip{Name: "segmented-audio.flv", Seconds: 6, NoVideo: true}
	for _, c := range []struct {
		name    string
		clip    *peer.Clip
		encrypt bool
		query   string
	}{
		{"low latency", segmented, false, ""},
		{"encrypted", segmented, true, ""},
		{"TS", segmented, false, "format=ts"},
		{"TS encrypted", segmented, true, "format=ts"},
		{"B-frames", segmentedB, false, ""},
		{"audio only", audio, false, ""},
		{"AV1 and Opus", segmentedAV1, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{Encrypt: c.encrypt, KeySegments: 3})
			lab.Clip(t, c.clip)
			page := s.watch(t, browser, "hls.js", "a", c.query)
			s.send(t, c.clip, "a")
			latencies(t, page, 3)
			missed := 2.5
			if c.query != "" {
				missed = 4 // and what came before the rendition was asked for
			}
			requirePlayed(t, page, c.clip, missed)
		})
	}
}

// TestHLSLatency joins a stream that is on, as viewers do, again and again, and
// records how far behind hls.js plays: as it is, and allowed to play faster to
// catch up. What a single start gets depends on where in a segment it falls.
func TestHLSLatency(t *testing.T) {
	t.Parallel()
	s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
	push(t, segmented, s.rtmp+"/live/a", "-stream_loop", "-1")
	browser := peer.StartBrowser(t)
	time.Sleep(2 * time.Second) // of media
	for _, rate := range []string{"1", "1.5"} {
		var all []float64
		for range 5 {
			page := s.watch(t, browser, "hls.js", "a", "")
			peer.Eval[float64](t, page, "player.config.maxLiveSyncPlaybackRate = "+rate)
			page.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > 2*peer.FPS })
			latency := peer.Eval[float64](t, page, "latency() || 0")
			require.Positive(t, latency)
			all = append(all, latency)
			requireFine(t, page)
			t.Logf("rate up to %s: %.2f s, of that PART-HOLD-BACK %.2f s", rate, latency, peer.Eval[float64](t, page, "player.targetLatency || 0"))
			peer.Eval[any](t, page, "(player.destroy(), null)")
		}
		slices.Sort(all)
		t.Logf("rate up to %s: median %.2f s of %.2f", rate, all[len(all)/2], all)
	}
}

// TestHLSRepublish: a player stays when the publisher is lost, and goes on when
// it is back.
func TestHLSRepublish(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	for _, player := range []string{"hls.js", "dash.js"} {
		t.Run(player, func(t *testing.T) {
			t.Parallel()
			s := startHTTPPlay(t, &stream.Hub{Grace: live}, deliver.HLS{})
			page := s.watch(t, browser, player, "a", "")
			first := push(t, segmented, s.rtmp+"/live/a")
			page.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > peer.FPS })
			first.Kill()
			str := s.hub.Stream("live/a")
			peer.Eventually(t, live, "the loss of the publisher", func() bool { return !str.Publishing() })
			time.Sleep(time.Second)
			before := page.Playback(t, "video")
			push(t, segmented, s.rtmp+"/live/a")
			p := page.WaitPlayback(t, "video", live, func(p peer.Playback) bool {
				return p.Time > before.Time+before.Buffered+2 && p.Frames > before.Frames+2*peer.FPS && p.AudioBytes > before.AudioBytes+1500
			})
			t.Logf("%+v, before %+v", p, before)
			requireFine(t, page)
		})
	}
}

// TestHLSSeek: one can go back 20 s in the window, and plays on there. The
// publisher sends what one goes back to faster than it would take.
func TestHLSSeek(t *testing.T) {
	t.Parallel()
	const back = 20
	browser := peer.StartBrowser(t)
	for _, player := range []string{"hls.js", "dash.js"} {
		t.Run(player, func(t *testing.T) {
			t.Parallel()
			s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
			peer.PublishAhead(t, s.rtmp+"/live#a", peer.ReadMP4(t, lab.Clip(t, segmentedMP4)).Repeat(9), 27*time.Second)
			peer.Eventually(t, live, "the window", func() bool {
				resp, err := http.Get(s.http + "/live/a/_hls/live/v.m3u8")
				require.NoError(t, err)
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				return bytes.Count(text, []byte("#EXTINF:")) > back+5
			})
			page := s.watch(t, browser, player, "a", "")
			edge := page.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > peer.FPS/2 })
			seek := map[string]string{ // dash.js counts from the start of the window
				"hls.js":  "video.currentTime -= %d",
				"dash.js": "player.seek(Math.max(0, player.time() - %d))",
			}[player]
			at := page.Playback(t, "video").Time
			peer.Eval[any](t, page, fmt.Sprintf("("+seek+", null)", back))
			p := page.WaitPlayback(t, "video", live, func(p peer.Playback) bool {
				return p.Time < at && p.Frames > edge.Frames+peer.FPS && p.State >= 3
			})
			t.Logf("from %.2f s: %+v", at, p)
			require.Less(t, p.Time, at-back+8, "it plays on there, and has not gone to the edge")
			requireFine(t, page)
		})
	}
}

// TestHLSHEVC: Chromium does not decode HEVC, ffmpeg does.
func TestHLSHEVC(t *testing.T) {
	t.Parallel()
	lab.Clip(t, segmentedHEVC)
	s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
	var fragmented, ts, dash *peer.Media
	wait := together(probe(t, s.http+"/live/a.m3u8", &fragmented), probe(t, s.http+"/live/a.m3u8?format=ts", &ts), probeStart(t, s.http+"/live/a.mpd", &dash))
	s.expect(t, 3)
	s.send(t, segmentedHEVC, "a")
	require.NoError(t, wait())
	for from, m := range map[string]*peer.Media{"CMAF": fragmented, "TS": ts, "DASH": dash} {
		require.Equal(t, []string{"aac", "hevc"}, m.Codecs(), from)
		require.Equal(t, []string{"320x180"}, m.Sizes(), from)
		t.Logf("%s: %d pictures, %d packets of sound; %s", from, len(m.Video), len(m.Audio), m.Log)
		require.Greater(t, len(m.Video), 2*peer.FPS, from)
		require.Greater(t, len(m.Audio), 2*40, from)
	}
}

// probeStart is probe for the first seconds: ffmpeg's DASH demuxer does not notice
// that a live MPD has become static, and waits for more.
func probeStart(t *testing.T, url string, m **peer.Media) func() error {
	return func() (err error) {
		*m, err = peer.TryProbe(t, live, "-read_intervals", "%+3", url)
		return err
	}
}

// TestHLSRules asks for every part as soon as the one before is there, while
// ffmpeg publishes, and checks each playlist against the rules.
func TestHLSRules(t *testing.T) {
	t.Parallel()
	s := startHTTPPlay(t, &stream.Hub{}, deliver.HLS{})
	push(t, segmented, s.rtmp+"/live/a")
	get := func(url string) []byte {
		resp, err := http.Get(url)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s\n%s", url, text)
		return text
	}
	text := get(s.http + "/live/a.m3u8")
	variants, _, found := hlscheck.Multivariant(text)
	require.Empty(t, found, "%s", text)
	require.Len(t, variants, 1)
	base, err := url.Parse(s.http + "/live/")
	require.NoError(t, err)
	ref, err := base.Parse(variants[0].URI)
	require.NoError(t, err)

	reloads := hlscheck.Reloads{Grows: true, Slack: 700 * time.Millisecond}
	text = get(ref.String())
	require.Empty(t, reloads.Add(time.Now(), text), "%s", text)
	asked := 0
	for !reloads.Playlist().Ended {
		_, msn, part := reloads.Playlist().Last()
		ref.RawQuery = fmt.Sprintf("_HLS_msn=%d&_HLS_part=%d", msn, part+1)
		text = get(ref.String())
		problems := reloads.Asked(time.Now(), msn, part+1, text)
		require.Empty(t, problems, "%s\n%s", ref, text)
		asked++
	}
	require.Greater(t, asked, 5*4)
	t.Logf("%d blocking reloads", asked)
}
