package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// A mediaserver is examples/mediaserver running as a process.
type mediaserver struct {
	*peer.Process
	rtmp, rtmps, http string
}

func startMediaserver(t *testing.T, flags ...string) *mediaserver {
	t.Helper()
	program := lab.Program(t, "./examples/mediaserver")
	cert, key := certificate(t)
	rtmp, rtmps, web := peer.FreeAddr(t), peer.FreeAddr(t), peer.FreeAddr(t)
	args := append([]string{"-rtmp", rtmp, "-srt", "", "-webrtc", "", "-rtmps", rtmps, "-http", web, "-cert", cert, "-key", key}, flags...)
	m := &mediaserver{peer.Start(t, program, args...), "rtmp://" + rtmp, "rtmps://" + rtmps, "http://" + web}
	peer.Eventually(t, 30*time.Second, "an answer at "+m.http, func() bool {
		require.True(t, m.Running(), "mediaserver ended")
		r, err := http.Get(m.http)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return m
}

// certificate writes a certificate for 127.0.0.1 and its key as PEM files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	c := srv.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return cert, key
}

// TestMediaserverDemo does what a newcomer does: starts the server without a
// thought, opens the page and sees the demo move. Then SIGTERM ends it well.
func TestMediaserverDemo(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	m := startMediaserver(t)
	for _, url := range []string{m.http + "/live/demo.flv", m.rtmp + "/live/demo", m.rtmps + "/live/demo"} {
		demo := peer.Probe(t, live, "-read_intervals", "%+2", url)
		require.Equal(t, []string{"aac", "h264"}, demo.Codecs(), url)
		require.Greater(t, len(demo.Video), 20, url)
		require.Greater(t, len(demo.Audio), 40, url)
		require.Less(t, (demo.Video[0].PTS - demo.Audio[0].PTS).Abs(), 200*time.Millisecond, url)
	}

	page := browser.Open(t, m.http+"/")
	first := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Frames > 5 && p.Time > 0 })
	before := page.Screenshot(t, "demo-1")
	second := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Frames > first.Frames+25 })
	after := page.Screenshot(t, "demo-2")
	require.Greater(t, second.Time, first.Time+0.5)
	require.Positive(t, second.AudioBytes)
	require.Equal(t, "playing", peer.Eval[string](t, page, `document.querySelector("#stage").dataset.state`))
	require.Contains(t, peer.Eval[string](t, page, `document.querySelector("#streams").textContent`), "live/demo")
	require.Greater(t, changed(t, before, after), 0.01, "the picture on the page stands still")
	require.NotContains(t, page.Console(), "exception")

	require.NoError(t, m.Stop(t, 15*time.Second), "SIGTERM drains and ends with status 0")
}

// changed is the share of pixels that differ between two screenshots.
func changed(t *testing.T, a, b []byte) float64 {
	t.Helper()
	decode := func(data []byte) image.Image {
		img, err := png.Decode(bytes.NewReader(data))
		require.NoError(t, err)
		return img
	}
	x, y := decode(a), decode(b)
	require.Equal(t, x.Bounds(), y.Bounds())
	different, all := 0, 0
	for v := x.Bounds().Min.Y; v < x.Bounds().Max.Y; v += 2 {
		for u := x.Bounds().Min.X; u < x.Bounds().Max.X; u += 2 {
			all++
			if x.At(u, v) != y.At(u, v) {
				different++
			}
		}
	}
	return float64(different) / float64(all)
}

// TestMediaserverPage plays what ffmpeg publishes with the page's own player,
// over HTTP and over WebSocket.
func TestMediaserverPage(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	m := startMediaserver(t, "-demo=false")
	for _, c := range []struct {
		clip     *peer.Clip
		protocol string
	}{
		{peer.AV, "http"},
		{peer.AV, "ws"},
		{peer.VideoOnly, "http"},
		{peer.AudioOnly, "http"},
		{peer.BFrames, "http"},
		{peer.Resize, "ws"},
		{peer.AV1, "http"},
		{peer.VP9, "ws"},
	} {
		t.Run(c.clip.Name+"-"+c.protocol, func(t *testing.T) {
			name, container, _ := strings.Cut(c.clip.Name, ".")
			name += "-" + c.protocol
			// Again and again, until the page has seen enough.
			if container == "flv" {
				push(t, c.clip, m.rtmp+"/live/"+name, "-stream_loop", "-1")
			} else { // codecs that need enhanced RTMP
				peer.PublishForeign(t, m.rtmp+"/live#"+name, peer.ReadMP4(t, lab.Clip(t, c.clip)).Repeat(10))
			}
			page := m.watch(t, browser, name, c.protocol)
			p := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool {
				return p.Time > 0.5 && (c.clip.NoVideo || p.Frames > peer.FPS) && (c.clip.NoAudio || p.AudioBytes > 3000)
			})
			t.Logf("%+v", p)
			if c.clip == peer.Resize {
				page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Width == 480 && p.Frames > 4*peer.FPS })
			}
			require.NotContains(t, page.Console(), "exception")
			page.Screenshot(t, "page-"+name)
		})
	}
}

// watch opens the page with a stream and chooses the protocol.
func (m *mediaserver) watch(t *testing.T, b *peer.Browser, name, protocol string) *peer.Page {
	t.Helper()
	page := b.Open(t, m.http+"/#live/"+name)
	page.Until(t, live, `document.querySelector("#protocol option[value=`+protocol+`]")`)
	peer.Eval[any](t, page, `(() => {
		const select = document.querySelector("#protocol");
		select.value = "`+protocol+`";
		select.dispatchEvent(new Event("change"));
		return "";
	})()`)
	return page
}

// TestMediaserverRepublish: the page goes on when a publisher comes back.
func TestMediaserverRepublish(t *testing.T) {
	t.Parallel()
	browser := peer.StartBrowser(t)
	m := startMediaserver(t, "-demo=false")
	first := push(t, peer.AV, m.rtmp+"/live/a", "-stream_loop", "-1")
	pages := []*peer.Page{m.watch(t, browser, "a", "http"), m.watch(t, browser, "a", "ws")}
	for _, page := range pages {
		page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Time > 1 && p.Frames > peer.FPS })
	}
	first.Kill()
	time.Sleep(time.Second)
	push(t, peer.AV, m.rtmp+"/live/a", "-stream_loop", "-1")
	for _, page := range pages {
		before := page.Playback(t, "#video")
		p := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool {
			return p.Frames > before.Frames+2*peer.FPS && p.AudioBytes > before.AudioBytes+2000
		})
		t.Logf("%+v, before %+v", p, before)
		require.NotContains(t, page.Console(), "exception")
	}
}

// TestMediaserverToken: with a token, only who has it may publish; anybody
// plays.
func TestMediaserverToken(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t, "-demo=false", "-publish-token", "sesame")
	require.Error(t, push(t, peer.VideoOnly, m.rtmp+"/live/a").Wait(t, live))
	require.Error(t, push(t, peer.VideoOnly, m.rtmp+"/live/a?token=wrong").Wait(t, live))
	publisher := push(t, peer.VideoOnly, m.rtmp+"/live/a?token=sesame")
	peer.Eventually(t, live, "the stream that may be published", func() bool {
		m, err := peer.TryProbe(t, live, "-read_intervals", "%+1", m.http+"/live/a.flv")
		return err == nil && len(m.Video) > 10
	})
	require.NoError(t, publisher.Wait(t, live))
}
