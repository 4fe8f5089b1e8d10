package webrtc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// until polls a page's connection until it is as wanted.
func until(t *testing.T, p *peer.Page, which, what string, want func(Stats) bool) (s Stats) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: last %+v", what, s)
		}
	})
	peer.Eventually(t, live, what, func() bool {
		s = peer.Eval[Stats](t, p, "stats("+which+")")
		return want(s)
	})
	return s
}

// TestBrowsers: one Chromium publishes by WHIP, another plays by WHEP.
func TestBrowsers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	browser := peer.StartBrowser(t)
	for _, codec := range []string{"h264", "vp8", "vp9", "av1"} {
		t.Run(codec, func(t *testing.T) {
			from := browser.Open(t, s.http+"/page")
			peer.Eval[bool](t, from, "publish('"+s.http+"/whip/live/"+codec+"', '"+codec+"').then(() => true)")
			sent := until(t, from, "sender", "a publisher", func(s Stats) bool { return s.State == "connected" && s.Sent > 10 })
			t.Logf("published: %+v", sent)
			t.Logf("stream: %+v", s.hub.Stream("live/"+codec).Stats())
			to := browser.Open(t, s.http+"/page")
			peer.Eval[bool](t, to, "play('"+s.http+"/whep/live/"+codec+"').then(() => true)")
			got := until(t, to, "receiver", "pictures and sound", func(s Stats) bool { return s.Frames > 50 && s.Frequency > 400 && s.Frequency < 480 })
			t.Logf("played: %+v", got)
			require.EqualValues(t, 320, got.Width)
		})
	}
}
