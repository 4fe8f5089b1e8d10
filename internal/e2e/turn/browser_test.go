package turn

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// relayPage has two RTCPeerConnections that know each other's relayed
// addresses alone. One sends a picture that moves and messages, the other
// sends the messages back.
const relayPage = `<!doctype html><link rel="icon" href="data:,"><canvas id="c" width="320" height="180"></canvas><video id="v" autoplay muted></video><script>
const server = {urls: new URLSearchParams(location.search).get("url"), username: "user", credential: "pass"};
const config = {iceServers: [server], iceTransportPolicy: "relay"};
const a = new RTCPeerConnection(config), b = new RTCPeerConnection(config);
a.onicecandidate = e => { if (e.candidate) b.addIceCandidate(e.candidate); };
b.onicecandidate = e => { if (e.candidate) a.addIceCandidate(e.candidate); };
a.onicecandidateerror = b.onicecandidateerror = e => console.error("ice", e.url, e.errorCode, e.errorText);
const canvas = document.querySelector("#c"), paint = canvas.getContext("2d");
let n = 0;
setInterval(() => {
	paint.fillStyle = "hsl(" + n++ * 7 % 360 + ",80%,50%)";
	paint.fillRect(0, 0, 320, 180);
}, 40);
const echoed = {bytes: 0, wrong: 0};
const channel = a.createDataChannel("data");
channel.binaryType = "arraybuffer";
const sizes = [1, 100, 1000, 1200, 5000, 16000];
channel.onopen = () => { for (const s of sizes) channel.send(new Uint8Array(s).fill(s % 251)); };
channel.onmessage = e => {
	const got = new Uint8Array(e.data);
	if (got.some(x => x !== got.length % 251)) echoed.wrong++;
	echoed.bytes += got.length;
};
b.ondatachannel = e => {
	e.channel.binaryType = "arraybuffer";
	e.channel.onmessage = m => e.channel.send(m.data);
};
b.ontrack = e => document.querySelector("#v").srcObject = new MediaStream([e.track]);
(async () => {
	a.addTrack(canvas.captureStream(25).getVideoTracks()[0]);
	await a.setLocalDescription(await a.createOffer());
	await b.setRemoteDescription(a.localDescription);
	await b.setLocalDescription(await b.createAnswer());
	await a.setRemoteDescription(b.localDescription);
})().catch(e => console.error(String(e)));
const route = async () => {
	const stats = await a.getStats(), route = {};
	for (const s of stats.values()) if (s.type === "candidate-pair" && s.nominated && s.state === "succeeded") {
		const local = stats.get(s.localCandidateId), remote = stats.get(s.remoteCandidateId);
		route.Local = local.candidateType; route.Remote = remote.candidateType; route.Protocol = local.relayProtocol;
		route.Sent = s.bytesSent; route.Received = s.bytesReceived;
	}
	return route;
};
</script>`

// TestBrowser: Chromium, which may use relayed addresses only, sends itself a
// moving picture and data through the server.
func TestBrowser(t *testing.T) {
	t.Parallel()
	alone(t)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(relayPage))
	}))
	t.Cleanup(page.Close)
	browser := peer.StartBrowser(t)
	// Peers at private addresses are refused, but for those that are allocated here.
	s := startServerAt(t, netip.MustParseAddr(outer), "-user", "user:pass", "-realm", "example.org")
	for _, c := range []struct{ protocol, url string }{
		{"udp", "turn:" + outer + ":3478?transport=udp"},
		{"tcp", "turn:" + outer + ":3478?transport=tcp"},
		{"tls", "turns:" + outer + ":5349?transport=tcp"},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			p := browser.Open(t, page.URL+"/?url="+url.QueryEscape(c.url))
			p.Until(t, live, "echoed.bytes === "+strconv.Itoa(1+100+1000+1200+5000+16000))
			require.Zero(t, peer.Eval[int](t, p, "echoed.wrong"))
			video := p.WaitPlayback(t, "#v", live, func(v peer.Playback) bool { return v.Frames >= 50 })
			require.Equal(t, 320, video.Width)
			route := peer.Eval[struct {
				Local, Remote, Protocol string
				Sent, Received          int
			}](t, p, "route()")
			t.Logf("%+v, %d pictures", route, video.Frames)
			require.Equal(t, "relay", route.Local)
			require.Equal(t, "relay", route.Remote)
			require.Equal(t, c.protocol, route.Protocol)
			require.Greater(t, route.Sent, 20_000)
			require.Greater(t, route.Received, 20_000)
			require.NotContains(t, p.Console(), "exception")
			peer.Eval[any](t, p, `(a.close(), b.close(), "")`)
		})
	}
	require.True(t, s.Running())
}
