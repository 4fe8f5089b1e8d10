package mediaapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/declared"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// do asks for a route of the document with a body, and checks the answer
// against it.
func do(t *testing.T, h http.Handler, method, route, target, body string, status int, headers ...string) map[string]any {
	t.Helper()
	w := ask(h, method, target, body, headers...)
	require.Equal(t, status, w.Code, "%s %s %s: %s", method, target, body, w.Body)
	document(t).Answer(t, method, route, status, w.Header().Get("Content-Type"), w.Body.Bytes())
	var v map[string]any
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	}
	return v
}

const (
	streamsRoute     = "/api/v2/streams"
	declarationRoute = "/api/v2/declarations/{name}"
)

// TestDeclare: a stream is known from its declaration to its end, is published
// with its key only, and a restart keeps it.
func TestDeclare(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	file := &declared.File{Path: filepath.Join(t.TempDir(), "streams.json")}
	h.Declarations = file
	rights := &declared.Authorizer{Hub: hub, Next: auth.AllowAll}

	v := do(t, h, "POST", streamsRoute, streamsRoute, `{"name": "live/cam", "title": "<b>Café</b>", "labels": {"site": "a&b"},
		"policies": {"protocols": ["rtmp"], "expires": "2999-01-02T03:04:05Z"}, "limits": {"viewers": 5, "bit_rate": 9007199254740993}, "new_publish_key": true}`, 201)
	key := v["publish_key"].(string)
	require.Equal(t, true, v["has_publish_key"])
	w := ask(h, "POST", streamsRoute, `{"name": "live/other"}`)
	require.Equal(t, "/api/v2/declarations/live/other", w.Header().Get("Location"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	refused(t, ask(h, "POST", streamsRoute, `{"name": "live/cam"}`), 409)

	ask1 := &auth.Request{Action: auth.Publish, Protocol: "rtmp", Stream: "live/cam", Token: key}
	g, err := rights.Authorize(t.Context(), ask1)
	require.NoError(t, err)
	require.EqualValues(t, 9007199254740993, g.Limits.BitRate)
	ask1.Token = "another"
	_, err = rights.Authorize(t.Context(), ask1)
	require.ErrorIs(t, err, auth.ErrDenied)

	v = get(t, h, streamsRoute, streamsRoute)
	require.Equal(t, []string{"live/cam", "live/other"}, names(v, "streams", "name"))
	first := v["streams"].([]any)[0].(map[string]any)
	require.Equal(t, false, first["live"])
	require.Equal(t, "<b>Café</b>", first["title"])
	require.NotContains(t, ask(h, "GET", streamsRoute, "").Body.String(), "<b>")
	publish(t, hub, "live/cam", nil)
	publish(t, hub, "live/wild", nil)
	for query, want := range map[string][]string{
		"live=true": {"live/cam", "live/wild"}, "declared=true": {"live/cam", "live/other"}, "declared=false": {"live/wild"},
		"declared=true&live=false": {"live/other"}, "label=site%3Da%26b": {"live/cam"}, "label=site%3D": {}, "search=caf%C3%A9": {"live/cam"},
		"codec=h264&declared=true": {"live/cam"},
	} {
		require.Equal(t, want, names(get(t, h, streamsRoute, streamsRoute+"?"+query), "streams", "name"), query)
	}
	for _, query := range []string{"live=1", "declared=x", "label=x", "label=%3Dx"} {
		refused(t, ask(h, "GET", streamsRoute+"?"+query, ""), 400)
	}
	one := get(t, h, streamsRoute+"/{name}", streamsRoute+"/live/cam")
	require.Equal(t, "<b>Café</b>", one["declaration"].(map[string]any)["title"])
	require.Nil(t, one["declaration"].(map[string]any)["publish_key"], "it is shown once")
	v = get(t, h, "/api/v2/declarations", "/api/v2/declarations?limit=1&prefix=live/")
	require.Equal(t, []string{"live/cam"}, names(v, "declarations", "name"))
	require.Equal(t, "live/cam", v["next"])

	again := &stream.Hub{}
	require.NoError(t, file.Load(again))
	require.Equal(t, "<b>Café</b>", again.Declaration("live/cam").Title)

	refused(t, ask(h, "DELETE", streamsRoute+"/live/cam", "", "If-Match", `"stale"`), 412)
	require.Equal(t, 204, ask(h, "DELETE", streamsRoute+"/live/cam", "").Code)
	require.Nil(t, hub.Stream("live/cam"))
	require.Nil(t, hub.Declaration("live/cam"))
	require.Equal(t, 204, ask(h, "DELETE", streamsRoute+"/live/other", "").Code)
	refused(t, ask(h, "DELETE", streamsRoute+"/live/other", ""), 404)
	again = &stream.Hub{}
	require.NoError(t, file.Load(again))
	require.Nil(t, again.Declaration("live/cam"))
}

// TestEditDeclaration: PUT says all, PATCH what changes, and neither overwrites
// what somebody else has changed meanwhile.
func TestEditDeclaration(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	const at = "/api/v2/declarations/live/cam"
	refused(t, ask(h, "PATCH", at, `{}`), 404)
	refused(t, ask(h, "GET", at, ""), 404)
	refused(t, ask(h, "PUT", at, `{}`, "If-Match", "*"), 412)
	do(t, h, "PUT", declarationRoute, at, `{"title": "one", "labels": {"a": "1", "b": "2"}, "publish_key": "sixteen-letters-x"}`, 201)
	refused(t, ask(h, "PUT", at, `{}`, "If-None-Match", "*"), 412)

	w := ask(h, "GET", at, "")
	tag := w.Header().Get("ETag")
	v := do(t, h, "PATCH", declarationRoute, at, `{"labels": {"a": null, "c": "3"}, "policies": {"disabled": true, "expires": "2999-01-01T00:00:00Z"}}`, 200, "If-Match", tag)
	require.Equal(t, "one", v["title"])
	require.Equal(t, map[string]any{"b": "2", "c": "3"}, v["labels"])
	require.Equal(t, true, v["has_publish_key"], "it stays")
	refused(t, ask(h, "PATCH", at, `{"title": "two"}`, "If-Match", tag), 412)
	v = do(t, h, "PATCH", declarationRoute, at, `{"policies": {"expires": null}, "publish_key": ""}`, 200)
	require.Nil(t, v["policies"].(map[string]any)["expires"])
	require.Equal(t, true, v["policies"].(map[string]any)["disabled"])
	require.Equal(t, false, v["has_publish_key"])
	created := hub.Declaration("live/cam").Created
	v = do(t, h, "PUT", declarationRoute, at, `{"description": "all\nof it", "new_publish_key": true}`, 200)
	require.Equal(t, "", v["title"])
	require.Empty(t, v["labels"])
	require.Len(t, v["publish_key"], 26)
	require.True(t, hub.Declaration("live/cam").Created.Equal(created))

	publish(t, hub, "live/cam", nil)
	require.Equal(t, 204, ask(h, "DELETE", at, "").Code)
	require.NotNil(t, hub.Stream("live/cam"), "what is live goes on")
	refused(t, ask(h, "DELETE", at, ""), 404)
}

func TestDeclareRefuses(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	for body, status := range map[string]int{
		`{"name": "live/a", "titel": "x"}`:    400,
		`{"name": "live/a", "title": 1}`:      400,
		`[]`:                                  400,
		`{`:                                   400,
		`{}`:                                  422,
		`{"name": "../etc/passwd"}`:           422,
		`{"name": "live/_hls"}`:               422,
		`{"name": "live/<script>"}`:           422,
		`{"name": "live/a", "title": "a\nb"}`: 422,
		`{"name": "live/a", "title": "` + strings.Repeat("x", 201) + `"}`:   422,
		`{"name": "live/a", "description": "\u0000"}`:                       422,
		`{"name": "live/a", "labels": {"": "x"}}`:                           422,
		`{"name": "live/a", "labels": {"a b": "x"}}`:                        422,
		`{"name": "live/a", "labels": {"a": "\u001b[31m"}}`:                 422,
		`{"name": "live/a", "policies": {"protocols": ["a b"]}}`:            422,
		`{"name": "live/a", "limits": {"viewers": -1}}`:                     422,
		`{"name": "live/a", "publish_key": "short"}`:                        422,
		`{"name": "live/a", "publish_key": "a key with spaces in it"}`:      422,
		`{"name": "live/a", "publish_key": "", "new_publish_key": true}`:    422,
		`{"name": "live/a", "policies": {"expires": "tomorrow"}}`:           400,
		`{"name": "live/a", "description": "` + strings.Repeat("x", 70_000): 413,
	} {
		refused(t, ask(h, "POST", streamsRoute, body), status)
	}
	many := map[string]string{}
	for i := range 33 {
		many[strings.Repeat("a", i+1)] = "x"
	}
	text, err := json.Marshal(map[string]any{"name": "live/a", "labels": many})
	require.NoError(t, err)
	refused(t, ask(h, "POST", streamsRoute, string(text)), 422)
	refused(t, ask(h, "PUT", "/api/v2/declarations/live/a", `{"name": "live/b"}`), 422)
	refused(t, ask(h, "PUT", "/api/v2/declarations/live/%5F", `{}`), 422)
	for range hub.Declarations() {
		t.Fatal("something was declared")
	}
	h.MaxDeclarations = 1
	do(t, h, "POST", streamsRoute, streamsRoute, `{"name": "live/a"}`, 201)
	refused(t, ask(h, "POST", streamsRoute, `{"name": "live/b"}`), 507)
}

// broken stores nothing.
type broken struct{}

func (broken) Save(context.Context, *stream.Hub) error { return errors.New("disk /dev/x is full") }

// TestDeclareNotStored: what cannot be stored does not happen, and the reason is
// for the log.
func TestDeclareNotStored(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	require.NoError(t, hub.Declare("live/a", &stream.Declaration{Title: "old"}))
	h.Declarations = broken{}
	detail := refused(t, ask(h, "PATCH", "/api/v2/declarations/live/a", `{"title": "new"}`), 500)
	require.NotContains(t, detail, "/dev/x")
	require.Equal(t, "old", hub.Declaration("live/a").Title)
	refused(t, ask(h, "DELETE", streamsRoute+"/live/a", ""), 500)
	require.NotNil(t, hub.Declaration("live/a"))
	refused(t, ask(h, "POST", streamsRoute, `{"name": "live/b"}`), 500)
	require.Nil(t, hub.Declaration("live/b"))
}

func TestSnapshot(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	publish(t, hub, "live/cam", nil)
	const at = "/api/v2/streams/live/cam/snapshot.jpg"
	refused(t, ask(newHandler(hub), "GET", at, ""), 404)
	h := newHandler(hub)
	h.Snapshot = func(_ context.Context, name string) ([]byte, error) {
		if s := hub.Stream(name); s == nil {
			return nil, fmt.Errorf("x: %w", map[string]error{"live/none": stream.ErrNotFound, "live/sound": stream.ErrUnsupported, "live/bad": io.ErrClosedPipe}[name])
		}
		return []byte("picture of " + name), nil
	}
	w := ask(h, "GET", at, "")
	require.Equal(t, "picture of live/cam", w.Body.String())
	document(t).Answer(t, "GET", streamsRoute+"/{name}/snapshot.jpg", 200, w.Header().Get("Content-Type"), w.Body.Bytes())
	require.Equal(t, 304, ask(h, "GET", at, "", "If-None-Match", w.Header().Get("ETag")).Code)
	for name, status := range map[string]int{"none": 404, "sound": 415, "bad": 503} {
		refused(t, ask(h, "GET", "/api/v2/streams/live/"+name+"/snapshot.jpg", ""), status)
	}
	refused(t, ask(h, "DELETE", at, ""), 405)
	require.NotNil(t, hub.Stream("live/cam"))
}

// TestMoreEvents: whoever follows learns of declarations and recordings.
func TestMoreEvents(t *testing.T) {
	for _, c := range []struct {
		e    stream.Event
		kind string
		want eventInfo
	}{
		{stream.StreamDeclared{Stream: "a", Declaration: &stream.Declaration{Title: "t", KeyHash: []byte("k")}}, "stream_declared", eventInfo{Stream: "a", Title: "t"}},
		{stream.StreamUndeclared{Stream: "a"}, "stream_undeclared", eventInfo{Stream: "a"}},
		{stream.RenditionsChanged{Stream: "a"}, "renditions_changed", eventInfo{Stream: "a"}},
		{stream.RecordingStarted{Stream: "a", Name: "a.mp4"}, "recording_started", eventInfo{Stream: "a", File: "a.mp4"}},
		{stream.RecordingEnded{Stream: "a", Name: "a.mp4", Size: 5, Duration: 1500 * time.Millisecond, Err: errors.New("x")}, "recording_ended",
			eventInfo{Stream: "a", File: "a.mp4", Size: 5, Duration: 1.5, Reason: "error"}},
		{stream.StorageFailed{Stream: "a", Name: "a.mp4", Err: errors.New("x")}, "storage_failed", eventInfo{Stream: "a", File: "a.mp4", Reason: "error"}},
	} {
		kind, info := describeEvent(c.e)
		require.Equal(t, c.kind, kind)
		require.Equal(t, c.want, info)
		require.Contains(t, eventKinds, kind)
	}
}

func FuzzDeclaration(f *testing.F) {
	f.Add(`{"name": "live/a", "title": "x", "labels": {"a": "b"}}`)
	f.Add(`{"policies": {"protocols": [""], "expires": null}, "limits": {"viewers": 1e30}}`)
	f.Add(`{"labels": {"a": null}}`)
	hub := &stream.Hub{}
	h := newHandler(hub)
	f.Fuzz(func(t *testing.T, body string) {
		if body == "" {
			return
		}
		for _, method := range []string{"PUT", "PATCH"} {
			w := ask(h, method, "/api/v2/declarations/live/a", body)
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Fatal(w.Code, w.Body)
			}
		}
	})
}
