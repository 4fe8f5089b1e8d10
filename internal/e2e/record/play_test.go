package record

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/record"
)

// A mediaserver is examples/mediaserver with -record, as a process.
type mediaserver struct {
	*peer.Process
	rtmp, http, dir string
}

func startMediaserver(t *testing.T, flags ...string) *mediaserver {
	t.Helper()
	m := &mediaserver{dir: t.TempDir()}
	rtmp, web := peer.FreeAddr(t), peer.FreeAddr(t)
	m.rtmp, m.http = "rtmp://"+rtmp, "http://"+web
	m.Process = peer.Start(t, program(t, "mediaserver"), append([]string{
		"-rtmp", rtmp, "-srt", "", "-webrtc", "", "-http", web, "-demo=false", "-record", "live/*", "-record-dir", m.dir}, flags...)...)
	peer.Eventually(t, 30*time.Second, "an answer at "+m.http, func() bool {
		r, err := http.Get(m.http)
		if err != nil {
			return false
		}
		r.Body.Close()
		return true
	})
	return m
}

// list returns what has been recorded.
func (m *mediaserver) list(t *testing.T) []*record.Info {
	t.Helper()
	r, err := http.Get(m.http + "/recordings/")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	var doc struct{ Recordings []*record.Info }
	require.NoError(t, json.NewDecoder(r.Body).Decode(&doc))
	return doc.Recordings
}

// record publishes a clip at its own speed and returns the complete recording.
func (m *mediaserver) record(t *testing.T, clip *peer.Clip, flags ...string) *record.Info {
	t.Helper()
	args := append(append([]string{"-nostdin", "-v", "error", "-re"}, flags...), "-i", lab.Clip(t, clip), "-c", "copy", "-f", "flv", m.rtmp+"/live/cam")
	peer.Run(t, time.Minute, "ffmpeg", args...)
	var list []*record.Info
	peer.Eventually(t, 20*time.Second, "the recording", func() bool {
		list = m.list(t)
		return len(list) > 0
	})
	return list[0]
}

// TestRecord: what ffmpeg publishes over RTMP is in the file: every frame, flash and
// beep together, and ten places can be sought.
func TestRecord(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"mp4", "flv", "hls"} {
		for _, clip := range []*peer.Clip{peer.AV, peer.BFrames} {
			t.Run(format+" "+clip.Name, func(t *testing.T) {
				t.Parallel()
				m := startMediaserver(t, "-record-format", format)
				info := m.record(t, clip)
				file := m.http + "/recordings/" + info.Name
				media := peer.Probe(t, 20*time.Second, file)
				require.Empty(t, media.Log)
				require.Equal(t, []string{"aac", "h264"}, media.Codecs())
				require.Len(t, media.Video, clip.Seconds*peer.FPS)
				require.InDelta(t, clip.Seconds*48000/1024, len(media.Audio), 3)
				largest, smallest := peer.Gap(media.Video)
				require.InDelta(t, 40*time.Millisecond, largest, float64(2*time.Millisecond))
				require.InDelta(t, 40*time.Millisecond, smallest, float64(2*time.Millisecond))
				require.InDelta(t, float64(clip.Seconds), info.Duration.Seconds(), 0.15)

				marks := peer.Observe(t, time.Minute, file)
				require.Len(t, marks.Flashes, clip.Seconds)
				offsets := marks.Offsets()
				source := peer.Observe(t, time.Minute, lab.Clip(t, clip)).Offsets()
				require.InDelta(t, source[len(source)/2], offsets[len(offsets)/2], float64(5*time.Millisecond))

				places := 10
				if format == "hls" {
					places = 0 // ffmpeg 5.1 seeks in no fragmented HLS, its own included: Chromium does, below
				}
				for i := range places {
					at := float64(clip.Seconds) * float64(i) / float64(places)
					seek := peer.Probe(t, 20*time.Second, "-read_intervals", fmt.Sprintf("%.2f%%+#40", at), "-select_streams", "v", file)
					require.NotEmpty(t, seek.Video, "at %.2f", at)
					require.InDelta(t, at, seek.Video[0].PTS.Seconds(), 2.1, "a key frame every 2 s")
				}
				require.NoError(t, m.Stop(t, 10*time.Second))
				storage := &record.Dir{Path: m.dir}
				defer storage.Close()
				_, err := record.Verify(t.Context(), storage, info.Name)
				require.NoError(t, err)
			})
		}
	}
}

// TestSegments: ffmpeg puts segments together again without a hole.
func TestSegments(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t, "-record-segment", "2s")
	m.record(t, peer.AV)
	var list []*record.Info
	peer.Eventually(t, 30*time.Second, "three segments", func() bool {
		list = m.list(t)
		return len(list) == 3
	})
	var concat strings.Builder
	frames := 0
	for i := range list {
		info := list[len(list)-1-i]
		require.Equal(t, i, info.Segment)
		fmt.Fprintf(&concat, "file '%s'\n", filepath.Join(m.dir, filepath.FromSlash(info.Name)))
		frames += len(peer.Probe(t, 20*time.Second, filepath.Join(m.dir, filepath.FromSlash(info.Name))).Video)
	}
	require.Equal(t, 5*peer.FPS, frames)
	joined := filepath.Join(t.TempDir(), "list.txt")
	require.NoError(t, os.WriteFile(joined, []byte(concat.String()), 0o600))
	media := peer.Probe(t, 20*time.Second, "-f", "concat", "-safe", "0", joined)
	require.Len(t, media.Video, 5*peer.FPS)
	largest, _ := peer.Gap(media.Video)
	require.Less(t, largest, 60*time.Millisecond)
	// Of sound, one packet may lie on either side of a cut.
	require.InDelta(t, 5*48000/1024, len(media.Audio), 3)
}

// TestBrowser: Chromium plays a recording, the same as HLS, and one that is stored as
// HLS, and seeks in all of them.
func TestBrowser(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	for _, format := range []string{"mp4", "hls"} {
		t.Run(format, func(t *testing.T) { watch(t, browser, format) })
	}
}

func watch(t *testing.T, browser *peer.Browser, format string) {
	script := peer.NodeModule(t, "hls.js/dist/hls.js")
	m := startMediaserver(t, "-record-format", format)
	clip := &peer.Clip{Name: "long.flv", Seconds: 14}
	info := m.record(t, clip)
	file, playlist, players := info.Name, info.Name+"/_hls/index.m3u8", []string{"#file", "#hls"}
	if format == "hls" {
		file, playlist, players = "", info.Name, []string{"#hls"}
	}
	target, err := url.Parse(m.http)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	mux := http.NewServeMux()
	mux.Handle("/recordings/", proxy)
	mux.HandleFunc("/hls.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, script) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><script src="/hls.js"></script><body>
			<video id="file" muted preload="auto" src="/recordings/%s"></video><video id="hls" muted></video><script>
			const hls = new Hls();
			hls.on(Hls.Events.ERROR, (e, d) => { if (d.fatal) console.error("hls.js", d.details, d.reason || ""); });
			hls.loadSource("/recordings/%s");
			hls.attachMedia(document.querySelector("#hls"));
			for (const v of document.querySelectorAll("video")) v.play();
			async function seek(id, at) {
				const v = document.querySelector(id);
				v.currentTime = at;
				await new Promise(done => v.addEventListener("seeked", done, {once: true}));
				return v.currentTime;
			}
		</script>`, file, playlist)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	page := browser.Open(t, server.URL)
	for _, id := range players {
		p := page.WaitPlayback(t, id, 20*time.Second, func(p peer.Playback) bool { return p.Time > 1 && p.Frames > 20 })
		require.Equal(t, 320, p.Width)
		require.InDelta(t, 14, peer.Eval[float64](t, page, fmt.Sprintf("document.querySelector(%q).duration", id)), 0.2)
		for _, at := range []float64{9.3, 2.7, 12.1, 5, 0.4} {
			require.InDelta(t, at, peer.Eval[float64](t, page, fmt.Sprintf("seek(%q, %v)", id, at)), 0.3)
			before := page.Playback(t, id)
			page.WaitPlayback(t, id, 10*time.Second, func(p peer.Playback) bool {
				return p.Time > at+0.3 && p.Frames > before.Frames+3 && p.AudioBytes > before.AudioBytes
			})
		}
	}
	if format == "mp4" { // else the element without a file complains
		require.NotContains(t, page.Console(), "error")
	}
	page.Screenshot(t, "recording-"+format)
}
