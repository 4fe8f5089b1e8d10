package webrtc

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestGlassToGlass records how late a picture is when Chromium shows it, from the moment
// at which a publisher painted its clock into it, by WHIP from another page and by RTMP
// from ffmpeg. It depends on what else the machine does.
func TestGlassToGlass(t *testing.T) {
	if os.Getenv("RUNNEL_SOAK") != "1" {
		t.Skip("it is for figures: set RUNNEL_SOAK=1")
	}
	s := startServer(t)
	s.sounds(t)
	browser := peer.StartBrowser(t)
	for name, publish := range map[string]func(){
		"whip": func() {
			from := browser.Open(t, s.http+"/page")
			peer.Eval[bool](t, from, "publish('"+s.http+"/whip/live/whip', 'h264').then(() => true)")
		},
		"rtmp": func() {
			filters := []string{"testsrc2=size=320x180:rate=25"}
			for i := range 12 { // as paintClock
				n := fmt.Sprintf("floor(mod(time(0)*250,4096)/%d)", 1<<i)
				half := fmt.Sprintf("floor(mod(time(0)*250,4096)/%d)", 2<<i)
				box := fmt.Sprintf("drawbox=x=%d:y=0:w=26:h=40:t=fill:c=", 26*i)
				filters = append(filters, box+"black", box+"white:enable='mod("+n+"+"+half+",2)'")
			}
			peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", strings.Join(filters, ","),
				"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency",
				"-bf", "0", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-flush_packets", "1", "-f", "flv", s.rtmp+"/live/rtmp")
		},
	} {
		t.Run(name, func(t *testing.T) {
			publish()
			page := browser.Open(t, s.http+"/page")
			peer.Eval[bool](t, page, "play('"+s.http+"/whep/live/"+name+"').then(() => true)")
			until(t, page, "receiver", "pictures", func(s Stats) bool { return s.Frames > 50 })
			peer.Eval[bool](t, page, "watch()")
			page.Until(t, live, "late.length >= 200")
			late := peer.Eval[[]float64](t, page, "late")
			slices.Sort(late)
			at := func(q float64) float64 { return late[int(q*float64(len(late)-1))] }
			latency := &s.hub.Stream("live/" + name).Latency
			t.Logf("%s to WHEP: %.0f ms in the median, %.0f ms at p95, %.0f ms at p99, of %d pictures; in the server %v and %v at p99",
				name, at(0.5), at(0.95), at(0.99), len(late), latency.Quantile(0.5), latency.Quantile(0.99))
			require.NotZero(t, at(0.5))
		})
	}
}
