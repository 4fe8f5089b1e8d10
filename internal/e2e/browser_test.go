package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// mpegtsPage adds a page to the server on which mpegts.js plays a stream over
// HTTP and over WebSocket, side by side.
func mpegtsPage(t *testing.T, s *server) {
	t.Helper()
	script := peer.NodeModule(t, "mpegts.js/dist/mpegts.js")
	s.mux.HandleFunc("/mpegts.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, script) })
	s.mux.HandleFunc("/player", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><script src="/mpegts.js"></script><body><script>
			const params = new URLSearchParams(location.search), ended = {};
			for (const scheme of ["http", "ws"]) {
				const video = document.createElement("video");
				video.id = scheme;
				document.body.append(video);
				const player = mpegts.createPlayer({
					type: "flv", isLive: true, hasAudio: params.get("audio") === "true", hasVideo: params.get("video") === "true",
					url: scheme + "://" + location.host + "/live/" + params.get("name") + ".flv",
				}, {enableStashBuffer: false});
				player.on(mpegts.Events.ERROR, (...e) => console.error("mpegts.js", scheme, ...e));
				player.on(mpegts.Events.LOADING_COMPLETE, () => ended[scheme] = true);
				// When the size changes, mpegts.js loses the frames that it holds
				// back, up to two. MSE does not go on behind such a hole by itself.
				let jumped = false;
				video.addEventListener("timeupdate", () => {
					const b = video.buffered;
					if (jumped || b.length < 2 || video.currentTime < b.end(0)) return;
					jumped = true;
					video.currentTime = Math.max(video.currentTime, b.start(1)) + 0.01;
				});
				player.attachMediaElement(video);
				player.load();
				player.play();
			}
		</script>`)
	})
}

// openMpegts opens the page and waits until both players have asked.
func openMpegts(t *testing.T, s *server, b *peer.Browser, name string, clip *peer.Clip) *peer.Page {
	t.Helper()
	before := int(s.peers.Load())
	page := b.Open(t, fmt.Sprintf("%s/player?name=%s&audio=%t&video=%t", s.http, name, !clip.NoAudio, !clip.NoVideo))
	s.expect(t, before+2)
	return page
}

// TestMpegts: mpegts.js in Chromium plays what ffmpeg publishes, to its end.
func TestMpegts(t *testing.T) {
	t.Parallel()
	s := startServer(t, &stream.Hub{})
	mpegtsPage(t, s)
	browser := peer.StartBrowser(t)
	for _, clip := range []*peer.Clip{peer.AV, peer.VideoOnly, peer.AudioOnly, peer.BFrames, peer.Resize, peer.AV1} {
		t.Run(clip.Name, func(t *testing.T) {
			name, container, _ := strings.Cut(clip.Name, ".")
			page := openMpegts(t, s, browser, name, clip)
			if container == "flv" {
				push(t, clip, s.rtmp+"/live/"+name)
			} else { // enhanced RTMP, and enhanced FLV for the player
				peer.PublishForeign(t, s.rtmp+"/live#"+name, peer.ReadMP4(t, lab.Clip(t, clip)))
			}
			page.Until(t, live, "ended.http && ended.ws")
			seconds := clip.Seconds
			for _, next := range clip.Join {
				seconds += next.Seconds
			}
			for _, scheme := range []string{"#http", "#ws"} {
				p := page.WaitPlayback(t, scheme, live, func(p peer.Playback) bool { return p.Buffered < 0.2 })
				t.Logf("%s: %+v", scheme, p)
				require.InDelta(t, seconds, p.Time, 0.4)
				if !clip.NoVideo {
					require.InDelta(t, seconds*peer.FPS, p.Frames, 12)
				}
				if !clip.NoAudio {
					require.Greater(t, p.AudioBytes, seconds*1000)
				}
				if clip == peer.Resize {
					require.Equal(t, 480, p.Width)
				}
			}
			require.NotContains(t, page.Console(), "error")
		})
	}
}

// TestMpegtsRepublish: the players stay when the publisher is lost, and go on
// when it is back.
func TestMpegtsRepublish(t *testing.T) {
	t.Parallel()
	s := startServer(t, &stream.Hub{Grace: live})
	mpegtsPage(t, s)
	page := openMpegts(t, s, peer.StartBrowser(t), "a", peer.AV)
	first := push(t, peer.AV, s.rtmp+"/live/a", "-stream_loop", "-1")
	for _, scheme := range []string{"#http", "#ws"} {
		page.WaitPlayback(t, scheme, live, func(p peer.Playback) bool { return p.Frames > peer.FPS })
	}
	first.Kill()
	str := s.hub.Stream("live/a")
	peer.Eventually(t, live, "the loss of the publisher", func() bool { return !str.Publishing() })
	lost := map[string]peer.Playback{"#http": page.Playback(t, "#http"), "#ws": page.Playback(t, "#ws")}
	push(t, peer.AV, s.rtmp+"/live/a")
	for scheme, before := range lost {
		// More than what was still to be played.
		p := page.WaitPlayback(t, scheme, live, func(p peer.Playback) bool { return p.Time > before.Time+before.Buffered+1.5 })
		t.Logf("%s: %+v, before %+v", scheme, p, before)
		require.Greater(t, p.Frames, before.Frames+peer.FPS)
		require.Greater(t, p.AudioBytes, before.AudioBytes+1000)
	}
	require.NotContains(t, page.Console(), "error")
}
