package webrtc

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestTogether: what ffmpeg publishes by RTMP, with and without B-frames, with AAC of
// several forms, plays by WHEP with flash and beep as far apart as they were.
//
// In pion/webrtc they are measured by the server's sender reports, which put the
// timestamps of picture and sound on one clock; in Chromium by what it says of itself,
// estimatedPlayoutTimestamp of RTCInboundRtpStreamStats: the sender's time of what is
// shown, and of what is heard.
func TestTogether(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.sounds(t)
	browser := peer.StartBrowser(t)
	const x264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 300k -g 25 -sc_threshold 0 -bf "
	type play struct {
		name, video, audio string
		late               time.Duration // of the first white picture that is left

		want     time.Duration
		page     *peer.Page
		recorded func() *recording
	}
	plays := []*play{
		{name: "48 kHz stereo", video: x264 + "0", audio: "-ar 48000 -ac 2"},
		{name: "48 kHz mono", video: x264 + "0", audio: "-ar 48000 -ac 1"},
		{name: "44.1 kHz stereo", video: x264 + "0", audio: "-ar 44100 -ac 2"},
		{name: "44.1 kHz mono", video: x264 + "0", audio: "-ar 44100 -ac 1"},
		// Pictures 13 and 14 of each second are white; the first is left out.
		{name: "B-frames", video: x264 + "1 -x264-params b-pyramid=none:b-adapt=0", audio: "-ar 48000 -ac 2", late: 40 * time.Millisecond},
	}
	for _, p := range plays { // all at once: most of the time they wait
		name := strings.NewReplacer(" ", "", ".", "").Replace(p.name)
		clip := lab.Clip(t, &peer.Clip{Name: name + ".flv", Seconds: 6, Video: p.video, Audio: p.audio + " -c:a aac -b:a 96k"})
		offsets := peer.Observe(t, live, clip).Offsets()
		p.want = offsets[len(offsets)/2] + p.late
		name = "live/" + name
		peer.Start(t, "ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-f", "flv", s.rtmp+"/"+name)
		p.page = browser.Open(t, s.http+"/page")
		peer.Eval[bool](t, p.page, "play('"+s.http+"/whep/"+name+"').then(() => true)")
		p.recorded = record(t, s.http+"/whep/"+name, 4*time.Second)
	}
	for _, p := range plays {
		until(t, p.page, "receiver", "pictures", func(s Stats) bool { return s.Frames > 10 && s.AudioPackets > 10 })
	}
	for _, p := range plays {
		t.Run(p.name, func(t *testing.T) {
			// What Chromium shows lags by a picture or more where the processors are
			// busy; it is within 40 ms where they are not.
			browsed := until(t, p.page, "receiver", "picture and sound together", func(s Stats) bool { return s.Together && math.Abs(s.Apart) <= 120 })
			tone := until(t, p.page, "receiver", "the tone", func(s Stats) bool { return math.Abs(s.Tone-1000) < 30 })
			require.EqualValues(t, 320, tone.Width)

			// By the server's clock.
			r := p.recorded()
			luma, at := r.pictures(t)
			marks := &peer.Marks{Pictures: len(luma)}
			for i := 1; i < len(luma) && i < len(at); i++ {
				if luma[i] > 200 && luma[i-1] <= 200 {
					marks.Flashes = append(marks.Flashes, at[i])
				}
			}
			marks.Beeps = r.beeps(t)
			told := marks.Offsets()
			t.Logf("flash behind beep: %v published, %v by the sender reports; in Chromium the picture is %.1f ms before the sound, a tone of %.0f Hz",
				p.want, told, browsed.Apart, tone.Tone)
			require.GreaterOrEqual(t, len(told), 2)
			require.InDelta(t, p.want.Milliseconds(), told[len(told)/2].Milliseconds(), 20)
			require.Len(t, at, len(luma), "each picture that comes can be decoded")
			require.True(t, slices.IsSorted(at))
		})
	}
}
