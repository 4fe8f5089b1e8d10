package webrtc

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
)

// A losing socket loses one datagram of twenty each way, once loses is set.
type losing struct {
	net.PacketConn

	mu    sync.Mutex
	rng   *rand.Rand
	loses bool
	lost  int
}

// lose decides about a datagram.
func (l *losing) lose() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loses || l.rng.IntN(20) > 0 {
		return false
	}
	l.lost++
	return true
}

func (l *losing) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(b)
		if err != nil || !l.lose() {
			return n, from, err
		}
	}
}

func (l *losing) WriteTo(b []byte, to net.Addr) (int, error) {
	if l.lose() {
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

// raw is a clip's video as a stream of bytes.
func raw(t *testing.T, name, options string) string {
	return lab.File(t, name, func(path string) {
		clip := lab.Clip(t, &peer.Clip{Name: name + ".mkv", Seconds: 4, NoAudio: true, Video: options + " -pix_fmt yuv420p -b:v 600k -bf 0"})
		peer.Run(t, live, "ffmpeg", "-v", "error", "-y", "-i", clip, "-c", "copy", path)
	})
}

const (
	rawH264 = "-c:v libx264 -preset veryfast -tune zerolatency -g 25 -sc_threshold 0"
	rawH265 = "-c:v libx265 -preset ultrafast -tune zerolatency -x265-params log-level=error:keyint=25:scenecut=0:bframes=0:repeat-headers=1"
)

// publishRaw publishes it with pion/webrtc again and again.
func publishRaw(t *testing.T, s *server, name, codec, file string) {
	t.Helper()
	p := peer.Start(t, foreign(t), "publish", "-url", s.http+"/whip/live/"+name, "-codec", codec, "-file", file, "-fps", "25", "-for", "10m")
	p.WaitLog(t, "publishing", live)
	peer.Eventually(t, live, "pictures", func() bool {
		st := s.hub.Stream("live/" + name)
		return st != nil && len(st.Tracks()) == 2
	})
}

// TestLoss: where 5 % of all datagrams are lost each way, between publisher and server
// and between server and players, pictures come whole by retransmission, within 200 ms:
// a row of some hundred without one that is missing, where every sixth would be.
func TestLoss(t *testing.T) {
	t.Parallel()
	pc, err := net.ListenPacket("udp4", "0.0.0.0:0")
	require.NoError(t, err)
	network := &losing{PacketConn: pc, rng: rand.New(rand.NewPCG(6, 5)), loses: true}
	s := startServerAt(t, network)
	file := raw(t, "loss.h264", rawH264)
	publishRaw(t, s, "loss", "h264", file)
	browser := peer.StartBrowser(t)
	page := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, page, "play('"+s.http+"/whep/live/loss').then(() => true)")
	const row = 100 // pictures: 4 s
	var video recordedTrack
	peer.Eventually(t, 2*live, "a long row of whole pictures", func() bool { // a machine that is too busy is late, too
		video, _ = record(t, s.http+"/whep/live/loss", row*time.Second/25+2*time.Second)().track(t, "video")
		t.Logf("pion/webrtc: %+v", video)
		return video.Longest >= row
	})
	require.LessOrEqual(t, video.PLIs, 1+video.Lost)
	got := until(t, page, "receiver", "pictures", func(s Stats) bool { return s.Frames > row && s.Nacks > 0 })
	network.mu.Lock()
	defer network.mu.Unlock()
	t.Logf("Chromium: %+v; the network has lost %d", got, network.lost)
	require.Less(t, got.PLIs, got.Frames/25, "key frames are asked for rarely")
}

// TestH265: what pion/webrtc publishes in H.265, which Chromium lacks, it plays too, and
// ffmpeg decodes all of it, by WebRTC and by FLV's successor, fragmented MP4.
func TestH265(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	publishRaw(t, s, "hevc", "h265", raw(t, "clip.h265", rawH265))
	var tracks []stream.Codec
	for _, track := range s.hub.Stream("live/hevc").Tracks() {
		tracks = append(tracks, track.Codec)
	}
	require.Contains(t, tracks, stream.H265)
	recorded := record(t, s.http+"/whep/live/hevc", 3*time.Second)
	media := peer.Probe(t, live, "-read_intervals", "%+2", s.http+"/live/hevc.mp4")
	require.Equal(t, []string{"hevc", "opus"}, media.Codecs())
	require.Greater(t, len(media.Video), 20)
	require.Empty(t, media.Log)
	r := recorded()
	luma, at := r.pictures(t)
	require.Greater(t, len(luma), 25)
	require.Len(t, at, len(luma))
	// The clip is white for two pictures of 25.
	white := 0
	for _, v := range luma {
		if v > 200 {
			white++
		}
	}
	require.Positive(t, white)
	require.Less(t, white, len(luma)/5)
}
