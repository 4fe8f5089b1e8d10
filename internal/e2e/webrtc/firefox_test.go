package webrtc

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// prefs let a Firefox without a screen, a camera or a microphone do what one with all of
// them does, and keep it from asking the network for anything of its own.
var prefs = map[string]any{
	"media.navigator.streams.fake":                       true,
	"media.navigator.permission.disabled":                true,
	"media.autoplay.default":                             0,
	"media.autoplay.blocking_policy":                     0,
	"media.peerconnection.ice.loopback":                  true,
	"media.peerconnection.ice.obfuscate_host_addresses":  false,
	"media.gmp-manager.updateEnabled":                    false,
	"browser.shell.checkDefaultBrowser":                  false,
	"browser.startup.homepage_override.mstone":           "ignore",
	"datareporting.policy.dataSubmissionEnabled":         false,
	"toolkit.telemetry.server":                           "",
	"app.update.enabled":                                 false,
	"app.normandy.enabled":                               false,
	"browser.safebrowsing.malware.enabled":               false,
	"browser.safebrowsing.phishing.enabled":              false,
	"browser.safebrowsing.downloads.enabled":             false,
	"browser.safebrowsing.provider.mozilla.updateURL":    "",
	"network.captive-portal-service.enabled":             false,
	"network.connectivity-service.enabled":               false,
	"services.settings.server":                           "data:,#remote-settings-dummy/v1",
	"extensions.getAddons.cache.enabled":                 false,
	"browser.newtabpage.activity-stream.feeds.topsites":  false,
	"browser.newtabpage.activity-stream.feeds.telemetry": false,
	"browser.tabs.crashReporting.sendReport":             false,
	"security.sandbox.content.level":                     0, // of containers that let no program make namespaces
}

// reports is what the pages of a Firefox said last.
type reports struct {
	mu   sync.Mutex
	said map[string]Stats
	log  []string
}

// of returns what a page said last, and whether it has said anything.
func (r *reports) of(page string) (Stats, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.said[page]
	return s, ok
}

// startFirefox starts Firefox with the test's page, which does what script says, and tells
// the server once in a while what stats says of it.
func (s *server) startFirefox(t *testing.T, scripts map[string]string) *reports {
	t.Helper()
	firefox := peer.Need(t, "firefox-esr")
	r := &reports{said: make(map[string]Stats)}
	s.mux.HandleFunc("/report", func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(q.Body, 1<<16))
		var stats Stats
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := json.Unmarshal(body, &stats); err != nil {
			r.log = append(r.log, string(body))
			return
		}
		r.said[q.URL.Query().Get("page")] = stats
	})
	s.mux.HandleFunc("/firefox", func(w http.ResponseWriter, q *http.Request) {
		name := q.URL.Query().Get("page")
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page+`<script>
			const tell = what => fetch("/report?page=`+name+`", {method: "POST", body: what});
			addEventListener("error", e => tell("error: " + e.message));
			addEventListener("unhandledrejection", e => tell("error: " + e.reason));
			const follow = pc => setInterval(async () => tell(JSON.stringify(await stats(pc()))), 250);
			`+scripts[name]+`</script>`)
	})
	profile := t.TempDir()
	var lines strings.Builder
	for name, value := range prefs {
		v, err := json.Marshal(value)
		require.NoError(t, err)
		lines.WriteString(`user_pref("` + name + `", ` + string(v) + ");\n")
	}
	require.NoError(t, os.WriteFile(filepath.Join(profile, "user.js"), []byte(lines.String()), 0o600))
	args := []string{"--headless", "--no-remote", "--profile", profile}
	for name := range scripts {
		args = append(args, s.http+"/firefox?page="+url.QueryEscape(name))
	}
	peer.StartIn(t, "", []string{"HOME=" + profile, "MOZ_CRASHREPORTER_DISABLE=1"}, firefox, args...)
	t.Cleanup(func() {
		if t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Logf("Firefox: %v %+v", r.log, r.said)
		}
	})
	return r
}

// TestFirefox: Debian's Firefox ESR publishes by WHIP what Chromium plays, and plays by
// WHEP what Chromium publishes, in H.264, which comes with no download of its own any
// more, or VP8.
func TestFirefox(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	browser := peer.StartBrowser(t)
	from := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, from, "publish('"+s.http+"/whip/live/chromium', 'vp8').then(() => true)")
	until(t, from, "sender", "a publisher", func(s Stats) bool { return s.State == "connected" && s.Sent > 10 })

	firefox := s.startFirefox(t, map[string]string{
		"play":    `play("/whep/live/chromium"); follow(() => receiver);`,
		"publish": `camera("` + s.http + `/whip/live/firefox", "vp8"); follow(() => sender);`,
	})
	var sent, played Stats
	peer.Eventually(t, 2*live, "Firefox's publisher", func() bool {
		sent, _ = firefox.of("publish")
		return sent.State == "connected" && sent.Sent > 10
	})
	peer.Eventually(t, 2*live, "Firefox's player", func() bool {
		played, _ = firefox.of("play")
		return played.Frames > 50 && played.AudioPackets > 50
	})
	to := browser.Open(t, s.http+"/page")
	peer.Eval[bool](t, to, "play('"+s.http+"/whep/live/firefox').then(() => true)")
	got := until(t, to, "receiver", "Firefox's pictures and sound", func(s Stats) bool { return s.Frames > 30 && s.Loudest > -60 })
	t.Logf("Firefox published: %+v", sent)
	t.Logf("Chromium played that: %+v", got)
	t.Logf("Firefox played: %+v", played)
	require.EqualValues(t, 320, played.Width)
	require.NotEmpty(t, played.Profile)
	require.Contains(t, played.Codec, "VP8")
}
