package console

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestPage: the mediaserver's page publishes the camera by WHIP, and plays it by
// WebRTC before anything else, telling how late it is.
func TestPage(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t, "-demo=false")
	browser := peer.StartBrowser(t, "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")
	from := browser.Open(t, m.http+"/")
	from.Until(t, live, `!document.querySelector("#panel-camera").hidden && document.querySelector("#publish-camera")?.checkVisibility()`)
	accessible(t, from, "page")
	peer.Eval[any](t, from, `document.querySelector("#publish-name").value = "cam", document.querySelector("#publish-camera").click(), null`)
	from.Until(t, live, `document.querySelector("#publish-state").textContent.includes("live/cam")`)

	to := browser.Open(t, m.http+"/#live/cam")
	to.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Frames > peer.FPS && p.Width > 0 })
	require.Equal(t, "WebRTC", text(t, to, "#protocol-name"))
	to.Until(t, live, `/^[\d.]+ m?s$/.test(document.querySelector("#f-latency").textContent)`)
	t.Log("latency", text(t, to, "#f-latency"))
	peer.Eval[any](t, from, `document.querySelector("#publish").scrollIntoView(), null`)
	from.Screenshot(t, "page-camera")
	to.Screenshot(t, "page-webrtc")
	to.Resize(t, 390, 844)
	to.Screenshot(t, "page-phone")
	require.NotContains(t, to.Console(), "exception")

	peer.Eval[any](t, from, `document.querySelector("#publish-camera").click(), null`)
	from.Until(t, live, `document.querySelector("#publish-state").textContent === "Stopped"`)
	to.Until(t, live, `document.querySelector("#stage").dataset.state === "waiting"`)
}

// deadMedia is a candidate's port, which is made to be one where nobody answers.
var deadMedia = regexp.MustCompile(`(a=candidate:\S+ \d+ \S+ \d+ \S+) \d+`)

// TestPageFallsBack: where WebRTC's offers are answered but its media does not
// get through, the page plays by HTTP without being told.
func TestPageFallsBack(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t)
	target, err := url.Parse(m.http)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.FlushInterval = -1
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	forward.ModifyResponse = func(r *http.Response) error {
		if r.Header.Get("Content-Type") != "application/sdp" {
			return nil
		}
		answer, err := io.ReadAll(r.Body)
		answer = deadMedia.ReplaceAll(answer, []byte("$1 9"))
		r.Body = io.NopCloser(bytes.NewReader(answer))
		r.ContentLength = int64(len(answer))
		r.Header.Set("Content-Length", strconv.Itoa(len(answer)))
		return err
	}
	proxy := httptest.NewServer(forward)
	t.Cleanup(func() { // when the browser is gone
		proxy.CloseClientConnections()
		proxy.Close()
	})
	page := peer.StartBrowser(t).Open(t, proxy.URL+"/#live/demo")
	p := page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Frames > peer.FPS && p.AudioBytes > 1000 })
	t.Logf("%+v", p)
	page.Until(t, live, `document.querySelector("#protocol-name").textContent === "fMP4 over HTTP"`)
}
