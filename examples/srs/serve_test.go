package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func settingsOf(t *testing.T, conf string) *settings {
	t.Helper()
	root, err := parseConf("c", conf)
	require.NoError(t, err)
	s, err := newSettings(root, nil)
	require.NoError(t, err)
	return s
}

// publish writes frames of a pattern to a stream, to those who read it too once
// started has been called.
func publish(t *testing.T, hub *stream.Hub, key string, frames int, started ...func()) *stream.Publisher {
	t.Helper()
	p, err := hub.Publish(t.Context(), key, nil)
	require.NoError(t, err)
	var pattern streamtest.Pattern
	require.NoError(t, p.SetTracks(pattern.Tracks()...))
	for _, f := range started {
		f()
	}
	for f := range pattern.Frames(frames) {
		require.NoError(t, p.Write(f))
	}
	return p
}

// TestHLSFiles: a stream becomes files as SRS's, which go when they are old, go on
// when it is published again, and are disposed of in the end.
func TestHLSFiles(t *testing.T) {
	dir := t.TempDir()
	set := settingsOf(t, `vhost __defaultVhost__ { hls { enabled on; hls_fragment 1; hls_window 3; hls_dispose 0.2; hls_path `+dir+`;
		hls_m3u8_file [vhost]/[app]/[stream].m3u8; hls_ts_file [vhost]/[app]/seg/[stream]-[seq].ts; } }`)
	hub := &stream.Hub{Cache: stream.Cache{Frames: 10_000}}
	defer hub.Close()
	var told []stream.SegmentStored
	done := make(chan struct{})
	events := hub.Events(t.Context())
	go func() {
		defer close(done)
		for e := range events {
			if e, ok := e.(stream.SegmentStored); ok {
				told = append(told, e)
			}
		}
	}()
	h := &hlsFiles{hub: hub, set: set, log: slog.New(slog.DiscardHandler)}
	playlist := filepath.Join(dir, "__defaultVhost__", "live", "cam.m3u8")
	read := func() string {
		b, err := os.ReadFile(playlist)
		if err != nil {
			return ""
		}
		return string(b)
	}
	start := func() {
		require.False(t, h.follows("live/cam"))
		h.start(t.Context(), "live/cam")
	}
	p := publish(t, hub, "live/cam", 600, start)
	require.NoError(t, p.Close())
	h.writers.Wait()
	text := read()
	require.True(t, strings.HasPrefix(text, "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:"), text)
	require.True(t, strings.HasSuffix(text, "\n#EXT-X-ENDLIST\n"), text)
	require.NotContains(t, text, "DISCONTINUITY")
	files, err := filepath.Glob(filepath.Join(dir, "__defaultVhost__", "live", "seg", "*"))
	require.NoError(t, err)
	require.Len(t, files, strings.Count(text, "\nseg/cam-"), "what is listed is there, and nothing else")
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NotEmpty(t, b)
		require.Zero(t, len(b)%188)
		for i := 0; i < len(b); i += 188 {
			require.EqualValues(t, 0x47, b[i])
		}
	}

	p = publish(t, hub, "live/cam", 60, start)
	require.NoError(t, p.Close())
	h.writers.Wait()
	again := read()
	require.Contains(t, again, "#EXT-X-DISCONTINUITY\n#EXTINF")
	require.Eventually(t, func() bool { // it is disposed of
		files, err = filepath.Glob(filepath.Join(dir, "*", "*", "*", "*"))
		return err == nil && len(files) == 0 && read() == ""
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, hub.Close())
	<-done
	for i, e := range told {
		require.EqualValues(t, i, e.Sequence, "the numbers go on")
		require.Equal(t, "__defaultVhost__/live/cam.m3u8", e.Playlist)
		require.GreaterOrEqual(t, e.Duration, 10*time.Millisecond)
	}
	require.Greater(t, len(told), 4)
}

// TestWebsite: each request goes to the player or the files, as the config has it.
func TestWebsite(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"page.html": "page", "live/old.m3u8": "old", "live/cam-0.ts": "segment", ".hidden": "x", "live/half.ts.tmp": "x"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	set := settingsOf(t, `http_server { enabled on; dir `+dir+`; }
		vhost __defaultVhost__ { http_remux { enabled on; mount [vhost]/x/[app]/[stream].flv; } hls { enabled on; } }
		vhost example.com { http_remux { enabled on; } dash { enabled on; } }
		vhost off.example { enabled off; http_remux { enabled on; } }`)
	hub := &stream.Hub{}
	defer hub.Close()
	publish(t, hub, "live/cam", 1)
	publish(t, hub, "example.com/live/cam", 1)
	player := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "player "+r.URL.RequestURI()) })
	site := newWebsite(set, hub, player)
	for target, want := range map[string]string{
		"/page.html":                           "page",
		"/x/live/cam.flv?token=a":              "player /live/cam.flv?token=a",
		"/x/live/none.flv":                     "404",
		"/x/live/cam.aac":                      "player /live/cam.aac",
		"/live/cam.flv":                        "404",
		"/live/cam-0.ts":                       "segment",
		"/live/cam.m3u8":                       "player /live/cam.m3u8",
		"/live/old.m3u8":                       "old",
		"/live/none.m3u8":                      "404",
		"/live/cam/_hls/x/v.m3u8":              "player /live/cam/_hls/x/v.m3u8",
		"/live/cam.mpd":                        "404",
		"/":                                    "Publish",
		"/live/":                               "404",
		"/.hidden":                             "404",
		"/live/half.ts.tmp":                    "404",
		"/../../etc/passwd":                    "404",
		"//example.com/live/cam.flv":           "player /live/cam.flv?vhost=example.com",
		"//example.com:8080/live/cam.ts":       "player /live/cam.ts?vhost=example.com",
		"//example.com/live/cam.mpd":           "player /live/cam.mpd?vhost=example.com",
		"//example.com/live/cam.m3u8":          "404",
		"//off.example/live/cam.flv":           "404",
		"//other.example/x/live/cam.flv":       "player /live/cam.flv",
		"/live/cam.flv?vhost=example.com&a=b":  "player /live/cam.flv?a=b&vhost=example.com",
		"/x/live/cam.flv?vhost=other.example":  "player /live/cam.flv",
		"//example.com/live/cam/_hls/x/v.m3u8": "player /live/cam/_hls/x/v.m3u8?vhost=example.com",
	} {
		url := "http://192.0.2.1:8080" + target
		if strings.HasPrefix(target, "//") {
			url = "http:" + target
		}
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		if want == "404" {
			require.Equal(t, 404, w.Code, target)
			continue
		}
		require.True(t, strings.HasPrefix(w.Body.String(), want), "%s: %s", target, w.Body)
	}
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest("POST", "http://h/page.html", nil))
	require.Equal(t, 405, w.Code)
}

// FuzzWebsite: no path leads out of the folder.
func FuzzWebsite(f *testing.F) {
	f.Add("/../secret", "h", "")
	f.Add("/live/cam.flv", "example.com", "vhost=x")
	f.Add("/live/..%2f../_hls/../../secret.m3u8", "h:80", "vhost=../..")
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("what nobody is to read"), 0o600); err != nil {
		f.Fatal(err)
	}
	root, err := parseConf("c", `http_server { enabled on; dir `+filepath.Join(dir, "html")+`; }
		vhost __defaultVhost__ { http_remux { enabled on; } hls { enabled on; } dash { enabled on; } } vhost example.com { }`)
	if err != nil {
		f.Fatal(err)
	}
	set, err := newSettings(root, nil)
	if err != nil {
		f.Fatal(err)
	}
	site := newWebsite(set, &stream.Hub{}, http.NotFoundHandler())
	f.Fuzz(func(t *testing.T, path, host, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path, r.Host, r.URL.RawQuery = path, host, query
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		if strings.Contains(w.Body.String(), "nobody is to read") {
			t.Fatalf("%q leads out", path)
		}
	})
}

// TestLogFile: a log that was moved away goes on in a new file.
func TestLogFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "objs", "srs.log")
	log, file, err := openLog(logSettings{file: name, level: "warn"}, io.Discard)
	require.NoError(t, err)
	defer file.close()
	log.Info("too little")
	log.Warn("first")
	require.NoError(t, os.Rename(name, name+".1"))
	log.Warn("second")
	require.NoError(t, file.reopen())
	log.Warn("third")
	read := func(name string) string {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(b)
	}
	require.NotContains(t, read(name+".1"), "too little")
	require.Contains(t, read(name+".1"), "second")
	require.Contains(t, read(name), "third")
	require.NotContains(t, read(name), "second")
}
