package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/turn"
)

// lint has promtool judge what a server shows to Prometheus, and returns it.
func lint(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	cmd := exec.Command(peer.Need(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	// It has nothing to say of ours. The Go runtime's and the process's are
	// client_golang's, which names as it does.
	for line := range strings.Lines(string(out)) {
		require.NotRegexp(t, `^(runnel|stun|turn)_`, line)
	}
	return string(text)
}

// TestMetrics: promtool finds nothing wrong with what the mediaserver shows with
// streams, publishers, players, recordings and limits.
func TestMetrics(t *testing.T) {
	t.Parallel()
	peer.Need(t, "promtool")
	metrics := peer.FreeAddr(t)
	m := startMediaserver(t, "-metrics", metrics, "-record", "live/demo", "-record-dir", t.TempDir())
	push(t, "flv", "rtmp://"+m.rtmp+"/live/cam")
	player := play(t, "rtmp://"+m.rtmp+"/live/demo")
	play(t, "http://"+m.http+"/live/demo.flv")
	var list struct{ Total int }
	peer.Eventually(t, live, "three sessions", func() bool { m.call(t, "GET", "/api/v2/sessions", "", &list); return list.Total == 3 })
	var text string
	peer.Eventually(t, live, "media", func() bool {
		text = lint(t, "http://"+metrics+"/metrics")
		return strings.Contains(text, `runnel_first_frame_seconds_count{protocol="http-flv"} 1`)
	})
	player.Kill()
	peer.Eventually(t, live, "the player's end", func() bool {
		text = lint(t, "http://"+metrics+"/metrics")
		return strings.Contains(text, `runnel_session_stalls_count{protocol="rtmp"} 1`)
	})
	for _, want := range []string{
		`runnel_streams 2`, `runnel_stream_publishing{stream="live/cam"} 1`, `runnel_sessions{protocol="rtmp",role="publish"} 1`,
		`runnel_recordings 1`, `runnel_server_latency_seconds_bucket{le="+Inf"}`, `go_goroutines`, `process_cpu_seconds_total`,
	} {
		require.Contains(t, text, want)
	}
	require.Contains(t, lint(t, "http://"+m.http+"/metrics"), "runnel_streams 2", "the same beside the API")
}

// TestTURNMetrics is the same for turnserver, with an allocation, and the names
// of coturn's exporter apart, which are not ours to choose.
func TestTURNMetrics(t *testing.T) {
	t.Parallel()
	peer.Need(t, "promtool")
	at, metrics := peer.FreeAddr(t), peer.FreeAddr(t)
	s := peer.Start(t, program(t, "turnserver"), "-listen", at, "-user", "ann:password", "-realm", "example.org", "-metrics", metrics)
	peer.Eventually(t, live, "metrics", func() bool {
		if !s.Running() {
			t.Fatalf("turnserver ended: %s", s.Log())
		}
		r, err := http.Get("http://" + metrics + "/metrics")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
	p, err := (&turn.Client{Server: at, Username: "ann", Password: "password"}).Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer p.Close()
	text := lint(t, "http://"+metrics+"/metrics")
	for _, want := range []string{`runnel_turn_allocations{transport="udp"} 1`, `runnel_turn_realm_allocations{realm="example.org"} 1`, `runnel_turn_authorize_seconds_count`} {
		require.Contains(t, text, want)
	}
}

// TestDashboards: Prometheus can read every expression of the dashboards.
func TestDashboards(t *testing.T) {
	t.Parallel()
	peer.Need(t, "promtool")
	files, err := filepath.Glob("../../../docs/grafana/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	variable := regexp.MustCompile(`\$\{?[a-z]+\}?`)
	rules, n := "groups:\n- name: dashboards\n  rules:\n", 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		var d struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		require.NoError(t, json.Unmarshal(text, &d))
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				n++
				expr := variable.ReplaceAllString(strings.ReplaceAll(q.Expr, "$__rate_interval", "1m"), ".*")
				quoted, err := json.Marshal(expr)
				require.NoError(t, err)
				rules += fmt.Sprintf("  - record: dashboard:panel:n%d\n    expr: %s\n", n, quoted)
			}
		}
	}
	require.Greater(t, n, 30)
	out, err := exec.Command(peer.Need(t, "promtool"), "check", "rules", file(t, "rules.yml", rules)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), fmt.Sprintf("%d rules found", n))
}
