package webrtc

import (
	"encoding/binary"
	"log/slog"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

// sounds lets a server transcode sound.
func (s *server) sounds(t *testing.T) {
	audio := &transcode.Audio{Hub: s.hub, AAC: goaac.Codec{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	go func() { _ = audio.Run(t.Context()) }()
}

// players adds the pages /hls and /flv, which play the stream of their query.
func (s *server) players(t *testing.T) {
	t.Helper()
	s.out.HLS.Segment, s.out.HLS.Part = time.Second, 200*time.Millisecond
	for _, p := range []struct{ page, module, start string }{
		{"/hls", "hls.js/dist/hls.js", `const player = new Hls({lowLatencyMode: true});
			player.on(Hls.Events.ERROR, (_, e) => console.error(e.details, e.fatal, String(e.error)));
			player.loadSource("/live/" + name + ".m3u8");
			player.attachMedia(video);`},
		{"/flv", "mpegts.js/dist/mpegts.js", `const player = mpegts.createPlayer({type: "flv", isLive: true, url: location.origin + "/live/" + name + ".flv"});
			player.on("error", (...e) => console.error(...e));
			player.attachMediaElement(video);
			player.load();`},
	} {
		file := peer.NodeModule(t, p.module)
		s.mux.HandleFunc(p.page+"/module", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
		s.mux.HandleFunc(p.page, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(`<!doctype html><link rel="icon" href="data:,"><script src="` + p.page + `/module"></script>
				<body><video autoplay muted></video><script>
				const video = document.querySelector("video"), name = location.search.slice(1);` + p.start + `</script>`))
		})
	}
}

// A listener is ffmpeg that plays some seconds to a file.
type listener struct {
	url, file string
	codecs    []string // that it is to find
}

// listen plays with all of them at once, and looks at what they got. Who got too little of
// a publisher whose machine is busy plays once more.
func listen(t *testing.T, seconds int, all []*listener) {
	t.Helper()
	peer.Need(t, "ffmpeg")
	until := time.Now().Add(2 * live)
	for len(all) > 0 {
		playing := make([]*peer.Process, len(all))
		for i, l := range all {
			l.file = filepath.Join(t.TempDir(), strconv.Itoa(i)+".mkv")
			playing[i] = peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", l.url, "-t", strconv.Itoa(seconds), "-c", "copy", l.file)
		}
		var again []*listener
		for i, l := range all {
			require.NoError(t, playing[i].Wait(t, 2*live), l.url)
			media := peer.Probe(t, live, l.file)
			if len(media.Video) <= seconds || peer.Span(media.Audio).Seconds() < float64(seconds)/2 {
				require.True(t, time.Now().Before(until), "%s: %d pictures, %v of sound", l.url, len(media.Video), peer.Span(media.Audio))
				again = append(again, l)
				continue
			}
			require.Equal(t, l.codecs, media.Codecs(), l.url)
			loudest := loudness(t, l.file)
			require.Greater(t, loudest, -40.0, "%s: it is silent", l.url)
			t.Logf("%s: %v, %d pictures, sound of %.1f dB", l.url, media.Codecs(), len(media.Video), loudest)
		}
		all = again
	}
}

// loudness returns the level of the loudest 20 ms of a file's sound, in dB.
func loudness(t *testing.T, file string) float64 {
	t.Helper()
	raw := peer.Run(t, live, "ffmpeg", "-nostdin", "-v", "error", "-i", file, "-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "f32le", "-")
	loudest := 0.0
	for ; len(raw) >= 4*960; raw = raw[4*960:] {
		power := 0.0
		for i := range 960 {
			v := float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
			power += v * v / 960
		}
		loudest = max(loudest, power)
	}
	return 10 * math.Log10(loudest)
}

// TestFromWHIP: a camera that Chromium publishes by WHIP, with Opus, plays by WHEP and
// LL-HLS with that, and by FLV, RTMP and MPEG-TS with AAC, at the same time.
func TestFromWHIP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.sounds(t)
	s.players(t)
	browser := peer.StartBrowser(t, "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")
	from := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, from, "camera('"+s.http+"/whip/live/camera', 'h264').then(() => true)")
	until(t, from, "sender", "a publisher", func(s Stats) bool { return s.State == "connected" && s.Sent > 10 })
	whep := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, whep, "play('"+s.http+"/whep/live/camera').then(() => true)")
	hls, flv := browser.Open(t, s.http+"/hls?camera"), browser.Open(t, s.http+"/flv?camera")
	listen(t, 4, []*listener{
		{url: s.rtmp + "/live/camera", codecs: []string{"aac", "h264"}},
		{url: s.http + "/live/camera.flv", codecs: []string{"aac", "h264"}},
		{url: s.http + "/live/camera.ts", codecs: []string{"aac", "h264"}},
		{url: s.http + "/live/camera.ts?audio=opus", codecs: []string{"h264", "opus"}},
		{url: s.http + "/live/camera.mp4", codecs: []string{"h264", "opus"}},
		{url: s.http + "/live/camera.m3u8", codecs: []string{"h264", "opus"}},
	})
	got := until(t, whep, "receiver", "pictures and sound", func(s Stats) bool { return s.Frames > 15 && s.Loudest > -60 })
	t.Logf("WHEP: %+v", got)
	for _, p := range []*peer.Page{hls, flv} {
		// A second of sound, of no less than 16 kbit/s.
		played := p.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > 15 && p.AudioBytes > 2000 && p.Time > 1 })
		t.Logf("%+v", played)
	}
	names := 0
	for _, r := range s.hub.Stream("live/camera").Renditions() {
		names++
		require.Equal(t, "aac", r.Name())
	}
	require.Equal(t, 1, names)
}
