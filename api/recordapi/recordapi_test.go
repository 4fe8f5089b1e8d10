package recordapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/resttest"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// live is how long anything may take that happens at once on an idle machine.
const live = 30 * time.Second

// newHandler is a handler over a recorder that runs, and a stream live/cam.
func newHandler(t *testing.T) (*Handler, *stream.Hub) {
	t.Helper()
	hub := &stream.Hub{Log: slog.New(slog.DiscardHandler)}
	dir := &record.Dir{Path: t.TempDir()}
	log := slog.New(slog.DiscardHandler)
	r := &record.Recorder{Hub: hub, Storage: dir, Log: log, Name: "{stream}-{session}"}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, hub.Close())
		require.NoError(t, dir.Close())
	})
	h := &Handler{
		Gate: &access.Gate{Log: log}, Recorder: r, Library: &record.Library{Storage: dir, Log: log},
		PlayURL: func(i *record.Info) string { return "/recordings/" + i.Name },
	}
	require.Eventually(t, func() bool { return r.Start("live/none") == nil && r.Stop("live/none") == nil }, live, time.Millisecond)
	p, err := hub.Publish(t.Context(), "live/cam", nil)
	require.NoError(t, err)
	var pattern streamtest.Pattern
	require.NoError(t, p.SetTracks(pattern.Tracks()...))
	for f := range pattern.Frames(200) {
		require.NoError(t, p.Write(f))
	}
	return h, hub
}

// ask asks for a route of the document, and checks the answer against it.
func ask(t *testing.T, h *Handler, method, route, target, body string, status int, headers ...string) map[string]any {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost", "127.0.0.1:4000"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, status, w.Code, "%s %s %s: %s", method, target, body, w.Body)
	resttest.Parse(t, openAPI).Answer(t, method, route, status, w.Header().Get("Content-Type"), w.Body.Bytes())
	require.NotContains(t, w.Body.String(), "<")
	v := map[string]any{}
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	}
	if l := w.Header().Get("Location"); l != "" {
		v["location"] = l
	}
	return v
}

const (
	list     = "/api/v2/recordings"
	one      = "/api/v2/recordings/{name}"
	switches = "/api/v2/recorders/{name}"
	clips    = "/api/v2/clips"
)

func TestDocument(t *testing.T) { resttest.Parse(t, openAPI).Routes(t, (&Handler{}).routes()) }

// TestRecord: a stream is recorded from start to stop, and the file is in the
// list until it is deleted.
func TestRecord(t *testing.T) {
	h, hub := newHandler(t)
	began := make(chan struct{})
	events := hub.Events(t.Context())
	go func() {
		for e := range events {
			if _, ok := e.(stream.RecordingStarted); ok {
				close(began)
				return
			}
		}
	}()
	require.Equal(t, []any{map[string]any{"stream": "live/cam", "recording": false}}, ask(t, h, "GET", "/api/v2/recorders", "/api/v2/recorders", "", 200)["recorders"])
	require.Equal(t, true, ask(t, h, "PUT", switches, "/api/v2/recorders/live/cam", `{"recording": true}`, 200)["recording"])
	require.Equal(t, true, ask(t, h, "GET", switches, "/api/v2/recorders/live/cam", "", 200)["recording"])
	var file map[string]any
	require.Eventually(t, func() bool {
		now := ask(t, h, "GET", "/api/v2/recorders", "/api/v2/recorders", "", 200)["recorders"].([]any)[0].(map[string]any)
		require.Equal(t, true, now["recording"])
		file, _ = now["file"].(map[string]any)
		return file != nil && file["size"].(float64) > 0
	}, live, time.Millisecond)
	require.Contains(t, file["name"], "live/cam-")
	<-began
	ask(t, h, "PUT", switches, "/api/v2/recorders/live/cam", `{"stream": "live/cam", "recording": false}`, 200)
	for body, status := range map[string]int{`{}`: 422, `{"recording": 1}`: 400, `{"recording": true, "stream": "live/x"}`: 422, `{"recording": true}`: 412} {
		ask(t, h, "PUT", switches, "/api/v2/recorders/live/cam", body, status, "If-Match", map[bool]string{true: `"x"`, false: "*"}[status == 412])
	}
	ask(t, h, "PUT", switches, "/api/v2/recorders/live/_x", `{"recording": true}`, 422)
	require.Eventually(t, func() bool { return len(ask(t, h, "GET", list, list, "", 200)["recordings"].([]any)) == 1 }, live, 10*time.Millisecond)

	for range 2 {
		v := ask(t, h, "POST", clips, clips, `{"stream": "live/cam", "last": 2}`, 201)
		require.Equal(t, "/api/v2/recordings/"+v["name"].(string), v["location"])
		require.Equal(t, "/recordings/"+v["name"].(string), v["play_url"])
	}
	v := ask(t, h, "GET", list, list+"?stream=live/cam&prefix=live/&from=2001-01-01T00:00:00Z", "", 200)
	require.EqualValues(t, 3, v["total"])
	require.Positive(t, v["bytes"])
	require.Zero(t, ask(t, h, "GET", list, list+"?stream=live/x", "", 200)["total"])
	var names []string
	for after := ""; ; {
		v := ask(t, h, "GET", list, list+"?limit=2&after="+url.QueryEscape(after), "", 200)
		for _, r := range v["recordings"].([]any) {
			names = append(names, r.(map[string]any)["name"].(string))
		}
		if after, _ = v["next"].(string); after == "" {
			break
		}
	}
	require.Len(t, names, 3)
	for _, query := range []string{"from=x", "after=x", "after=1", "limit=0", "other=1", "to=2026"} {
		ask(t, h, "GET", list, list+"?"+query, "", 400)
	}

	at := list + "/" + names[0]
	v = ask(t, h, "GET", one, at, "", 200)
	require.Len(t, v["files"].([]any)[0].(map[string]any)["sha256"], 64)
	ask(t, h, "DELETE", one, at, "", 412, "If-Match", `"x"`)
	ask(t, h, "DELETE", one, at+"?reason=test", "", 204)
	ask(t, h, "GET", one, at, "", 404)
	ask(t, h, "DELETE", one, at, "", 404)
	require.EqualValues(t, 2, ask(t, h, "GET", list, list, "", 200)["total"])
}

func TestClipRefuses(t *testing.T) {
	h, hub := newHandler(t)
	for body, status := range map[string]int{
		`{"stream": "live/x", "last": 5}`: 404, `{"stream": "live/cam"}`: 422, `{"stream": "live/cam", "last": -1}`: 422,
		`{"stream": "live/cam", "last": 1e300}`: 422, `{"stream": "live/cam", "last": "5"}`: 400, `{}`: 422, `{"last": 5, "file": "x"}`: 400,
	} {
		ask(t, h, "POST", clips, clips, body, status)
	}
	_, err := hub.Publish(t.Context(), "live/empty", nil)
	require.NoError(t, err)
	ask(t, h, "POST", clips, clips, `{"stream": "live/empty", "last": 5}`, 503)
	h.clipping.Store(maxClips)
	ask(t, h, "POST", clips, clips, `{"stream": "live/cam", "last": 5}`, 503)
}

// TestSecurity: roles, other origins, and paths that lead elsewhere.
func TestSecurity(t *testing.T) {
	h, _ := newHandler(t)
	for _, name := range []string{"../x.mp4", "%2e%2e/%2e%2e/etc/passwd", "..%2fetc%2fpasswd", "a%5cb", "%00", "live/.hidden", "%3Cimg%20src=x%3E", "x.json"} {
		ask(t, h, "GET", one, list+"/"+name, "", 404)
		ask(t, h, "DELETE", one, list+"/"+name, "", 404)
	}
	ask(t, h, "POST", clips, clips, `{"stream": "live/cam", "last": 5}`, 403, "Origin", "https://evil.example")
	ask(t, h, "PUT", switches, "/api/v2/recorders/live/cam", `{"recording": true}`, 415, "Content-Type", "text/plain")
	ask(t, h, "DELETE", one, list+"/x", "", 403, "Sec-Fetch-Site", "cross-site")
	ask(t, h, "POST", clips, clips, `{"stream": "`+strings.Repeat("x", 70_000), 413)

	const secret = "0123456789abcdef"
	for role := access.Viewer; role <= access.Admin; role++ {
		token, err := access.ParseToken(role.String() + ":" + secret)
		require.NoError(t, err)
		h := &Handler{Gate: &access.Gate{Auth: access.Tokens{token}, Log: slog.New(slog.DiscardHandler)}}
		for _, rt := range h.routes() {
			want := 404 // there is neither a library nor a recorder
			if role < rt.Need {
				want = 403
			}
			ask(t, h, rt.Method, rt.Path, strings.ReplaceAll(rt.Path, "{name}", "live/x"), "{}", want, "Authorization", "Bearer "+secret)
		}
	}
}

// broken is a storage that fails.
type broken struct{ stream.Storage }

func (broken) List(context.Context, string) iter.Seq2[stream.StorageInfo, error] {
	return func(yield func(stream.StorageInfo, error) bool) {
		yield(stream.StorageInfo{}, errors.New("disk /dev/x is gone"))
	}
}

func (broken) Open(context.Context, string) (stream.StorageReader, error) {
	return nil, &fs.PathError{Op: "open", Path: "/dev/x", Err: errors.New("gone")}
}

// TestBroken: what went wrong is for the log alone.
func TestBroken(t *testing.T) {
	h := &Handler{Library: &record.Library{Storage: broken{}}}
	for _, target := range []string{list, list + "/x.mp4"} {
		route := list
		if target != list {
			route = one
		}
		require.NotContains(t, ask(t, h, "GET", route, target, "", 502)["detail"], "/dev/x")
	}
}

func ExampleHandler() {
	hub := &stream.Hub{}
	defer hub.Close()
	dir := &record.Dir{Path: "recordings"}
	defer dir.Close()
	h := &Handler{Recorder: &record.Recorder{Hub: hub, Storage: dir}, Library: &record.Library{Storage: dir}}

	r := httptest.NewRequest(http.MethodGet, "http://localhost/api/v2/recorders", nil)
	r.RemoteAddr = "127.0.0.1:4000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"recorders":[],"total":0}
}
