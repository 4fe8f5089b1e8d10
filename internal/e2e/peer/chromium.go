package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// A Browser is a headless Chromium with an empty profile. It ends with the
// test that started it.
type Browser struct{ ctx context.Context }

// StartBrowser starts Chromium, with more switches as "name" or "name=value".
func StartBrowser(t testing.TB, switches ...string) *Browser {
	t.Helper()
	var started *exec.Cmd
	var more []chromedp.ExecAllocatorOption
	for _, s := range switches {
		if name, value, ok := strings.Cut(s, "="); ok {
			more = append(more, chromedp.Flag(name, value))
		} else {
			more = append(more, chromedp.Flag(name, true))
		}
	}
	alloc, end := chromedp.NewExecAllocator(context.Background(), append(more,
		chromedp.ExecPath(Need(t, "chromium")),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.WindowSize(1280, 900),
		chromedp.IgnoreCertErrors, // the tests' own certificates
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			ownGroup(cmd)
			started = cmd
		}),
	)...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		cancel()
		end()
		if started != nil && started.Process != nil {
			killGroup(started)
		}
	})
	require.NoError(t, chromedp.Do(ctx), "starting Chromium")
	return &Browser{ctx}
}

// A Page is a tab with cookies and cache of its own.
type Page struct {
	ctx context.Context

	mu      sync.Mutex
	console []string
}

// Open loads a page in a new tab, which closes when the test ends. If the
// test failed, what the page wrote to its console is printed.
func (b *Browser) Open(t testing.TB, url string) *Page {
	t.Helper()
	p := &Page{}
	var cancel context.CancelFunc
	p.ctx, cancel = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	messages := chromedp.Console(p.ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.mu.Lock()
			if line := m.String(); len(p.console) < maxConsole && !slices.Contains(p.console, line) {
				p.console = append(p.console, line)
			}
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console of %s:\n%s", url, p.Console())
		}
		cancel()
	})
	run(t, p, chromedp.Navigate(url))
	return p
}

// maxConsole bounds the lines that are kept of a page's console.
const maxConsole = 200

// Console returns what the page wrote to its console, uncaught exceptions and
// failed requests, one a line. A line that comes again is left out.
func (p *Page) Console() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.console, "\n")
}

func run[T any](t testing.TB, p *Page, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	require.NoError(t, err)
	return result
}

// Eval evaluates JavaScript in the page, waits if that gives a promise, and
// returns the result.
func Eval[T any](t testing.TB, p *Page, script string) T {
	t.Helper()
	return run(t, p, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// Until waits until the JavaScript expression is true. While the page loads it may
// well fail: what it looks for is not there yet.
func (p *Page) Until(t testing.TB, timeout time.Duration, condition string) {
	t.Helper()
	var failed error
	defer func() {
		if t.Failed() && failed != nil {
			t.Logf("%s: %v", condition, failed)
		}
	}()
	Eventually(t, timeout, condition, func() bool {
		ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
		defer cancel()
		var ok bool
		ok, failed = chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")", chromedp.EvalAwaitPromise))
		return ok && failed == nil
	})
}

// Playback is what a video element has done so far.
type Playback struct {
	Frames     int     // decoded pictures
	Dropped    int     // of them not shown
	AudioBytes int     // decoded coded bytes of sound
	Time       float64 // position in seconds
	Buffered   float64 // seconds of media that lie before it
	Ranges     string  // of what is buffered, in seconds
	Width      int
	Height     int
	State      int // HTMLMediaElement.readyState
	Paused     bool
	Error      string
}

// Playback reads the video element that the CSS selector finds.
func (p *Page) Playback(t testing.TB, selector string) Playback {
	t.Helper()
	return Eval[Playback](t, p, fmt.Sprintf(`(() => {
		const v = document.querySelector(%q);
		const q = v.getVideoPlaybackQuality();
		return {
			Frames: q.totalVideoFrames, Dropped: q.droppedVideoFrames, AudioBytes: v.webkitAudioDecodedByteCount,
			Time: v.currentTime, Buffered: v.buffered.length ? v.buffered.end(v.buffered.length - 1) - v.currentTime : 0,
			Ranges: [...Array(v.buffered.length).keys()].map(i => v.buffered.start(i) + "-" + v.buffered.end(i)).join(" "),
			Width: v.videoWidth, Height: v.videoHeight, State: v.readyState, Paused: v.paused,
			Error: v.error ? v.error.message : "",
		};
	})()`, selector))
}

// WaitPlayback waits until the video element has reached what the condition
// asks for and returns it then.
func (p *Page) WaitPlayback(t testing.TB, selector string, timeout time.Duration, condition func(Playback) bool) Playback {
	t.Helper()
	var s Playback
	for deadline := time.Now().Add(timeout); ; time.Sleep(50 * time.Millisecond) {
		if s = p.Playback(t, selector); condition(s) {
			return s
		}
		if s.Error != "" || time.Now().After(deadline) {
			t.Fatalf("%s did not get there within %v: %+v", selector, timeout, s)
		}
	}
}

// Resize makes the page as large as on such a screen, in CSS pixels; a touch
// screen if that is narrow.
func (p *Page) Resize(t testing.TB, width, height int64) {
	t.Helper()
	if width < 600 {
		run(t, p, chromedp.EmulateViewport(width, height, chromedp.EmulateMobile, chromedp.EmulateTouch))
		return
	}
	run(t, p, chromedp.EmulateViewport(width, height))
}

// Press presses keys one after another, as a keyboard does: "\t" is Tab, "\r"
// Enter.
func (p *Page) Press(t testing.TB, keys string) {
	t.Helper()
	run(t, p, chromedp.KeyEvent(keys))
}

// Screenshot takes a picture of the page and keeps it as a PNG file where
// RUNNEL_E2E_KEEP says.
func (p *Page) Screenshot(t testing.TB, name string) []byte {
	t.Helper()
	png := run(t, p, chromedp.CaptureScreenshot())
	if dir := os.Getenv("RUNNEL_E2E_KEEP"); dir != "" {
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
	}
	return png
}
