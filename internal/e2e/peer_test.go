package e2e

import (
	"bytes"
	"context"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// The tests of this file prove the harness itself, without any server of
// ours: what it says of the clips is what they are.

func TestClips(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clip   *peer.Clip
		codecs []string
		sizes  []string
		frames int
	}{
		{peer.AV, []string{"aac", "h264"}, []string{"320x180"}, 5 * peer.FPS},
		{peer.VideoOnly, []string{"h264"}, []string{"320x180"}, 4 * peer.FPS},
		{peer.AudioOnly, []string{"aac"}, nil, 0},
		{peer.BFrames, []string{"aac", "h264"}, []string{"320x180"}, 4 * peer.FPS},
		{peer.Resize, []string{"aac", "h264"}, []string{"320x180", "480x270"}, 6 * peer.FPS},
	} {
		t.Run(c.clip.Name, func(t *testing.T) {
			t.Parallel()
			m := peer.Probe(t, 20*time.Second, lab.Clip(t, c.clip))
			require.Empty(t, m.Log)
			require.Equal(t, c.codecs, m.Codecs())
			require.Equal(t, c.sizes, m.Sizes())
			require.Len(t, m.Video, c.frames)
			largest, smallest := peer.Gap(m.Video)
			if c.frames > 0 {
				require.InDelta(t, 40, largest.Milliseconds(), 5)
				require.InDelta(t, 40, smallest.Milliseconds(), 5)
			}
			require.Equal(t, c.clip == peer.BFrames, m.Types("B") > 0)
			if !c.clip.NoAudio {
				require.NotEmpty(t, m.Audio)
				require.Equal(t, 1024, m.Audio[0].Samples)
			}
		})
	}
}

// TestMarks: flash and beep are found together in a clip, and apart in one
// whose sound ffmpeg has delayed.
func TestMarks(t *testing.T) {
	t.Parallel()
	clip := lab.Clip(t, peer.AV)
	m := peer.Observe(t, 20*time.Second, clip)
	require.Equal(t, 5*peer.FPS, m.Pictures)
	require.Len(t, m.Flashes, 5)
	require.Len(t, m.Beeps, 5)
	for _, d := range m.Offsets() {
		require.InDelta(t, 0, d.Milliseconds(), 45)
	}

	late := lab.File(t, "late.flv", func(path string) {
		peer.Run(t, 20*time.Second, "ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-itsoffset", "0.2", "-i", clip,
			"-map", "0:v", "-map", "1:a", "-c", "copy", path)
	})
	before := m.Offsets()[0]
	for _, d := range peer.Observe(t, 20*time.Second, late).Offsets() {
		require.InDelta(t, (before - 200*time.Millisecond).Milliseconds(), d.Milliseconds(), 25)
	}
}

// TestCoded: what is read from an MP4 file and written again decodes the same.
func TestCoded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clip   *peer.Clip
		codecs []string
	}{
		{peer.HEVC, []string{"hevc", "opus"}},
		{peer.AV1, []string{"av1", "opus"}},
		{peer.VP9, []string{"opus", "vp9"}},
	} {
		t.Run(c.codecs[0]+c.codecs[1], func(t *testing.T) {
			t.Parallel()
			clip := lab.Clip(t, c.clip)
			want := peer.Probe(t, 20*time.Second, clip)
			require.Len(t, want.Video, c.clip.Seconds*peer.FPS)

			again := filepath.Join(t.TempDir(), "again.mp4")
			peer.ReadMP4(t, clip).WriteMP4(t, again)
			got := peer.Probe(t, 20*time.Second, again)
			require.Empty(t, got.Log)
			require.Equal(t, c.codecs, got.Codecs())
			require.Len(t, got.Video, len(want.Video))
			require.InDelta(t, len(want.Audio), len(got.Audio), 1)
			require.Equal(t, []string{"320x180"}, got.Sizes())
		})
	}
}

// TestBrowser: Chromium plays a file, the harness counts its pictures and
// sees what is on the page.
func TestBrowser(t *testing.T) {
	t.Parallel()
	clip := lab.Clip(t, &peer.Clip{Name: "browser.mp4", Seconds: 3})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/clip.mp4" {
			http.ServeFile(w, r, clip)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(`<!doctype html><body style="margin:0;background:#0f0"><script>console.log("hello", 7)</script>
			<video src=/clip.mp4 autoplay loop></video>`))
	}))
	defer srv.Close()
	page := peer.StartBrowser(t).Open(t, srv.URL)
	page.Until(t, 10*time.Second, `document.querySelector("video").readyState >= 3`)
	first := page.WaitPlayback(t, "video", 10*time.Second, func(p peer.Playback) bool { return p.Frames > 0 })
	later := page.WaitPlayback(t, "video", 10*time.Second, func(p peer.Playback) bool { return p.Frames > first.Frames+10 })
	require.Equal(t, 320, later.Width)
	require.Positive(t, later.AudioBytes)
	require.Contains(t, page.Console(), `log: hello 7`)
	require.Equal(t, 7, peer.Eval[int](t, page, "Promise.resolve(7)"))

	img, err := png.Decode(bytes.NewReader(page.Screenshot(t, "harness")))
	require.NoError(t, err)
	r, g, b, _ := img.At(img.Bounds().Dx()-1, img.Bounds().Dy()-1).RGBA()
	require.Equal(t, []uint32{0, 0xffff, 0}, []uint32{r, g, b})
}

func TestProcess(t *testing.T) {
	t.Parallel()
	p := peer.Start(t, "sh", "-c", `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done`)
	p.WaitLog(t, "ready", 5*time.Second)
	require.True(t, p.Running())
	require.NoError(t, p.Stop(t, 5*time.Second))
	require.Contains(t, p.Log(), "bye")

	_, log, err := peer.Try(t, 5*time.Second, "sh", "-c", "echo why >&2; exit 3")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.ExitCode())
	require.Equal(t, "why\n", log)
}

// TestWithoutPeers runs this test program again where no peer is to be found:
// every test must then skip.
func TestWithoutPeers(t *testing.T) {
	t.Parallel()
	const again = "RUNNEL_E2E_AGAIN"
	if os.Getenv(again) != "" {
		t.Skip("this is the run without peers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.v")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RUNNEL_") && !strings.HasPrefix(v, "PATH=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	empty := t.TempDir()
	cmd.Env = append(cmd.Env, "PATH="+empty, "RUNNEL_PEERS="+empty, again+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- SKIP: TestMarks")
	require.Contains(t, string(out), "ffmpeg is missing: make peers installs it")
}
