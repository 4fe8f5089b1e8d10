package webrtc

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestFromSRT: one publisher by SRT plays by SRT, RTMP, FLV, HLS and WebRTC, in ffmpeg,
// Chromium and pion/webrtc, at the same time.
func TestFromSRT(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.sounds(t)
	s.players(t)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.in.ServeSRT(pc, s.out) }() // ends with Close
	srt := "srt://" + pc.LocalAddr().String()
	clip := lab.Clip(t, &peer.Clip{Name: "srt.ts", Seconds: 6,
		Video: "-c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 300k -g 25 -sc_threshold 0 -bf 0"})
	peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", clip, "-c", "copy",
		"-f", "mpegts", srt+"?streamid=#!::r=live/srt,m=publish&pkt_size=1316")
	peer.Eventually(t, live, "the publisher", func() bool {
		st := s.hub.Stream("live/srt")
		return st != nil && len(st.Tracks()) == 2
	})
	browser := peer.StartBrowser(t)
	whep := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, whep, "play('"+s.http+"/whep/live/srt').then(() => true)")
	hls := browser.Open(t, s.http+"/hls?srt")
	recorded := record(t, s.http+"/whep/live/srt", 4*time.Second)
	both := []string{"aac", "h264"}
	listen(t, 4, []*listener{
		{url: srt + "?streamid=#!::r=live/srt,m=request", codecs: both},
		{url: s.rtmp + "/live/srt", codecs: both},
		{url: s.http + "/live/srt.flv", codecs: both},
		{url: s.http + "/live/srt.m3u8", codecs: both},
	})
	until(t, whep, "receiver", "pictures and the tone", func(s Stats) bool { return s.Frames > 50 && s.Tone > 970 && s.Tone < 1030 })
	played := hls.WaitPlayback(t, "video", live, func(p peer.Playback) bool { return p.Frames > 15 && p.AudioBytes > 2000 && p.Time > 1 })
	t.Logf("hls.js: %+v", played)
	r := recorded()
	luma, at := r.pictures(t)
	require.Greater(t, len(luma), 25)
	require.Len(t, at, len(luma))
	require.NotEmpty(t, r.beeps(t))
}
