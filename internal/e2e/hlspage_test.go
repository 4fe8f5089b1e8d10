package e2e

import (
	"bytes"
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
)

// liveLatency reads what the page says of the time from capture to screen.
func liveLatency(t *testing.T, page *peer.Page) float64 {
	t.Helper()
	page.Until(t, live, `/^[\d.]+ s$/.test(document.querySelector("#f-live").textContent)`)
	return peer.Eval[float64](t, page, `parseFloat(document.querySelector("#f-live").textContent)`)
}

// TestMediaserverPageHLS plays by the page's own HLS client, in the clear and
// encrypted, and reads its live latency.
func TestMediaserverPageHLS(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	for _, c := range []struct {
		clip  *peer.Clip
		flags []string
	}{
		{segmented, nil},
		{segmentedB, []string{"-hls-key", "aes-128"}},
		{segmented, []string{"-hls-part", "-1s"}},
		{&peer.Clip{Name: "segmented-audio.flv", Seconds: 6, NoVideo: true}, nil},
		{segmentedAV1, nil},
	} {
		name, container, _ := strings.Cut(c.clip.Name, ".")
		t.Run(name+strings.Join(c.flags, ""), func(t *testing.T) {
			m := startMediaserver(t, append([]string{"-demo=false", "-hls-segment", "1s"}, c.flags...)...)
			if container == "flv" {
				push(t, c.clip, m.rtmp+"/live/"+name, "-stream_loop", "-1")
			} else {
				peer.PublishForeign(t, m.rtmp+"/live#"+name, peer.ReadMP4(t, lab.Clip(t, c.clip)).Repeat(5))
			}
			time.Sleep(2 * time.Second) // of media
			page := m.watch(t, browser, name, "hls")
			p := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool {
				return p.Time > 0.5 && (c.clip.NoVideo || p.Frames > 2*peer.FPS) && (c.clip.NoAudio || p.AudioBytes > 2000)
			})
			latency := liveLatency(t, page)
			t.Logf("live latency %.1f s; %+v", latency, p)
			require.Positive(t, latency)
			require.Equal(t, "LL-HLS", peer.Eval[string](t, page, `document.querySelector("#protocol-name").textContent`))
			require.NotContains(t, page.Console(), "exception")
			page.Screenshot(t, "page-hls-"+name+strings.Join(c.flags, ""))
		})
	}
}

// TestMediaserverPageFallsBack: behind a proxy that lets no endless response
// through, the page plays by HLS, without being told.
func TestMediaserverPageFallsBack(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	m := startMediaserver(t, "-hls-segment", "1s")
	target, err := url.Parse(m.http)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".mp4") && !strings.Contains(r.URL.Path, "/_hls/") {
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	page := browser.Open(t, proxy.URL+"/#live/demo")
	p := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Frames > 2*peer.FPS && p.AudioBytes > 2000 })
	t.Logf("live latency %.1f s; %+v", liveLatency(t, page), p)
	require.Equal(t, "LL-HLS", peer.Eval[string](t, page, `document.querySelector("#protocol-name").textContent`))
}

// TestMediaserverStored: what -hls-dir holds can be played from any file server,
// while the stream goes on and when it has ended.
func TestMediaserverStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := startMediaserver(t, "-demo=false", "-hls-segment", "1s", "-hls-key", "aes-128", "-hls-dir", dir)
	files := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer files.Close()
	publisher := push(t, segmented, m.rtmp+"/live/a")
	index := files.URL + "/live/a/index.m3u8"
	peer.Eventually(t, live, "the stored playlist", func() bool {
		resp, err := http.Get(index)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	require.NoError(t, publisher.Wait(t, live))
	playlists := func() (texts [][]byte) {
		found, err := filepath.Glob(filepath.Join(dir, "live/a/*/[va].m3u8"))
		require.NoError(t, err)
		for _, name := range found {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			texts = append(texts, text)
		}
		return texts
	}
	peer.Eventually(t, live, "the end of the stored playlists", func() bool {
		texts := playlists()
		return len(texts) == 2 && bytes.Contains(texts[0], []byte("ENDLIST")) && bytes.Contains(texts[1], []byte("ENDLIST"))
	})
	media := peer.Probe(t, live, "-allowed_extensions", "ALL", index)
	require.Equal(t, []string{"aac", "h264"}, media.Codecs())
	require.InDelta(t, segmented.Seconds*peer.FPS, len(media.Video), 1)
	require.NoError(t, m.Stop(t, 15*time.Second))
	left, err := os.ReadDir(filepath.Join(dir, ".incoming"))
	require.NoError(t, err)
	require.Empty(t, left)
}
