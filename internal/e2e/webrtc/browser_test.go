package webrtc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
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

// TestFromRTMP: what ffmpeg publishes by RTMP plays by WHEP, with its sound in
// Opus, and other protocols at the same time.
func TestFromRTMP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	audio := &transcode.Audio{Hub: s.hub, AAC: goaac.Codec{}, Log: s.hub.Log}
	go func() { _ = audio.Run(t.Context()) }()
	browser := peer.StartBrowser(t)
	for _, c := range []struct{ name, video, audio string }{
		{"48 kHz stereo", "-bf 0", "-ar 48000 -ac 2"},
		{"44.1 kHz mono", "-bf 0", "-ar 44100 -ac 1"},
		{"B-frames", "-bf 2 -x264-params b-pyramid=none", "-ar 48000 -ac 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := "live/" + strings.NewReplacer(" ", "", ".", "").Replace(c.name)
			args := strings.Fields("-re -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=frequency=440:sample_rate=48000 " +
				"-c:v libx264 -preset veryfast -tune zerolatency -g 25 " + c.video + " -pix_fmt yuv420p -c:a aac -b:a 96k " + c.audio + " -f flv")
			peer.Start(t, "ffmpeg", append(append([]string{"-nostdin", "-loglevel", "error"}, args...), s.rtmp+"/"+name)...)
			page := browser.Open(t, s.http+"/page")
			peer.Eval[bool](t, page, "play('"+s.http+"/whep/"+name+"').then(() => true)")
			got := until(t, page, "receiver", "pictures and sound", func(s Stats) bool { return s.Frames > 50 && s.Frequency > 400 && s.Frequency < 480 })
			t.Logf("played: %+v", got)
			require.EqualValues(t, 320, got.Width)
		})
	}
}
