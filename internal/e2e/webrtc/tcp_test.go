package webrtc

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// onlyTCP keeps the answer's UDP candidates from the browser.
const onlyTCP = `(() => {
	const set = RTCPeerConnection.prototype.setRemoteDescription;
	RTCPeerConnection.prototype.setRemoteDescription = function(d) {
		return set.call(this, {type: d.type, sdp: d.sdp.split("\r\n").filter(l => !/^a=candidate:\S+ 1 udp /.test(l)).join("\r\n")});
	};
	return true;
})()`

// TestTCP: Chromium publishes and plays where no UDP gets through.
func TestTCP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	require.NoError(t, err)
	go func() { _ = s.transport.Serve(l) }() // ends with Close
	browser := peer.StartBrowser(t)
	from, to := browser.Open(t, s.http+"/page"), browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, from, onlyTCP)
	peer.Eval[bool](t, to, onlyTCP)
	peer.Eval[bool](t, from, "publish('"+s.http+"/whip/live/tcp', 'vp8').then(() => true)")
	until(t, from, "sender", "a publisher", func(s Stats) bool { return s.State == "connected" && s.Sent > 10 })
	peer.Eval[bool](t, to, "play('"+s.http+"/whep/live/tcp').then(() => true)")
	got := until(t, to, "receiver", "pictures and sound", func(s Stats) bool { return s.Frames > 50 && s.Frequency > 400 && s.Frequency < 480 })
	t.Logf("played: %+v", got)
	for _, pc := range []struct {
		page *peer.Page
		name string
	}{{from, "sender"}, {to, "receiver"}} {
		protocols := peer.Eval[[]string](t, pc.page, pc.name+".getStats().then(all => [...all.values()].filter(s => s.type === 'remote-candidate').map(s => s.protocol))")
		require.NotEmpty(t, protocols)
		for _, p := range protocols {
			require.Equal(t, "tcp", p)
		}
	}
}
