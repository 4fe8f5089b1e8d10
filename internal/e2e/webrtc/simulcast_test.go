package webrtc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// simulcast publishes three sizes of a picture.
const simulcast = `(async (url, codec) => {
	const canvas = document.createElement("canvas"), paint = canvas.getContext("2d");
	canvas.width = 960; canvas.height = 540;
	let n = 0;
	setInterval(() => {
		paint.fillStyle = "hsl(" + n++ * 7 %% 360 + ",80%%,50%%)";
		paint.fillRect(0, 0, 960, 540);
	}, 50);
	sender = new RTCPeerConnection();
	const video = sender.addTransceiver(canvas.captureStream(20).getVideoTracks()[0], {direction: "sendonly", sendEncodings: [
		{rid: "q", scaleResolutionDownBy: 4}, {rid: "h", scaleResolutionDownBy: 2}, {rid: "f"}]});
	const all = RTCRtpSender.getCapabilities("video").codecs;
	video.setCodecPreferences([...all.filter(c => c.mimeType.toLowerCase() === "video/" + codec), ...all.filter(c => c.mimeType === "video/rtx")]);
	resource = await exchange(sender, url);
	return true;
})(%q, %q)`

// TestSimulcast: Chromium sends three layers, and another goes from one to another of
// them without a freeze.
func TestSimulcast(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	browser := peer.StartBrowser(t)
	const name, codec = "live/a", "vp8" // whose picture IDs are rewritten
	from := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, from, fmt.Sprintf(simulcast, s.http+"/whip/"+name, codec))
	peer.Eventually(t, live, "three layers", func() bool {
		published := s.hub.Stream(name)
		return published != nil && published.Rendition("q") != nil && published.Rendition("h") != nil
	})
	to := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, to, "play('"+s.http+"/whep/"+name+"?layer=q').then(() => true)")
	width := func(want float64) {
		t.Helper()
		seen := until(t, to, "receiver", fmt.Sprintf("pictures of %v", want), func(s Stats) bool { return s.Width == want })
		until(t, to, "receiver", "more of them", func(s Stats) bool { return s.Frames > seen.Frames+10 })
	}
	width(240)
	for _, c := range []struct {
		rid   string
		width float64
	}{{"h", 480}, {"source", 960}, {"q", 240}} {
		require.True(t, peer.Eval[bool](t, to, "fetch(resource + '/layer', {method: 'POST', body: JSON.stringify({rid: '"+c.rid+"'})}).then(r => r.status === 200)"))
		width(c.width)
	}
	t.Logf("played: %+v", until(t, to, "receiver", "what there is", func(Stats) bool { return true }))
}
