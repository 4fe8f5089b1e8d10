package mediaapi

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// publish makes a stream with some frames.
func publish(t *testing.T, hub *stream.Hub, name string, o *stream.PublishOptions) *stream.Publisher {
	t.Helper()
	p, err := hub.Publish(t.Context(), name, o)
	require.NoError(t, err)
	var pattern streamtest.Pattern
	require.NoError(t, p.SetTracks(pattern.Tracks()...))
	for f := range pattern.Frames(100) {
		require.NoError(t, p.Write(f))
	}
	return p
}

// open enters a peer; what it is kicked with arrives on the channel.
func open(hub *stream.Hub, role stream.Role, protocol, name, user, remote string) (*stream.Session, chan error) {
	kicked := make(chan error, 1)
	s := hub.OpenSession(stream.SessionInfo{
		Role: role, Protocol: protocol, Stream: name, User: user, Remote: netip.MustParseAddrPort(remote),
	}, func(err error) { kicked <- err })
	return s, kicked
}

// newHandler is a handler that lets this machine in.
func newHandler(hub *stream.Hub) *Handler {
	return &Handler{Hub: hub, Gate: &access.Gate{Log: slog.New(slog.DiscardHandler)}, LogLevel: &slog.LevelVar{}}
}

func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, rd)
	r.Host, r.RemoteAddr = "localhost:8080", "127.0.0.1:4000"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// get asks for a route of the document and checks the answer against it.
func get(t *testing.T, h http.Handler, route, target string) map[string]any {
	t.Helper()
	w := ask(h, "GET", target, "")
	require.Equal(t, 200, w.Code, "%s: %s", target, w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	document(t).Answer(t, "GET", route, 200, "application/json", w.Body.Bytes())
	var v map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

// refused checks that an answer is a problem.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int) string {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	var v map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	document(t).Schema(t, "Problem", v)
	require.EqualValues(t, status, v["status"])
	return v["detail"].(string)
}

func names(v map[string]any, list, field string) []string {
	out := []string{}
	for _, e := range v[list].([]any) {
		out = append(out, e.(map[string]any)[field].(string))
	}
	return out
}

func TestStreams(t *testing.T) {
	hub := &stream.Hub{Grace: time.Hour}
	defer hub.Close()
	session, _ := open(hub, stream.RolePublish, "rtmp", "live/b", "bob", "192.0.2.1:5")
	publish(t, hub, "live/b", &stream.PublishOptions{Session: session})
	publish(t, hub, "live/a", nil)
	require.NoError(t, publish(t, hub, "other/c", nil).Close())
	open(hub, stream.RolePlay, "hls", "live/a", "", "192.0.2.2:5")
	h := newHandler(hub)

	v := get(t, h, "/api/v2/streams", "/api/v2/streams")
	require.Equal(t, []string{"live/a", "live/b", "other/c"}, names(v, "streams", "name"))
	first := v["streams"].([]any)[0].(map[string]any)
	require.EqualValues(t, 1, first["viewers"])
	require.EqualValues(t, 100, first["frames"])
	track := first["tracks"].([]any)[0].(map[string]any)
	require.Equal(t, "h264", track["codec"])
	require.EqualValues(t, 320, track["width"])

	for query, want := range map[string][]string{
		"prefix=live/":                  {"live/a", "live/b"},
		"search=C":                      {"other/c"},
		"publishing=false":              {"other/c"},
		"publishing=true&prefix=live/b": {"live/b"},
		"codec=aac":                     {"live/a", "live/b", "other/c"},
		"codec=av1":                     {},
		"after=live/a":                  {"live/b", "other/c"},
		"after=zzz":                     {},
	} {
		require.Equal(t, want, names(get(t, h, "/api/v2/streams", "/api/v2/streams?"+query), "streams", "name"), query)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "publishing=maybe", "unknown=1", "limit=1&limit=2", "prefix=%zz"} {
		refused(t, ask(h, "GET", "/api/v2/streams?"+query, ""), 400)
	}
	var all []string
	for next := ""; ; {
		v := get(t, h, "/api/v2/streams", "/api/v2/streams?limit=2&after="+url.QueryEscape(next))
		all = append(all, names(v, "streams", "name")...)
		require.EqualValues(t, 3, v["total"])
		var more bool
		if next, more = v["next"].(string); !more {
			break
		}
	}
	require.Equal(t, []string{"live/a", "live/b", "other/c"}, all)

	one := get(t, h, "/api/v2/streams/{name}", "/api/v2/streams/live/b")
	require.Equal(t, session.ID(), one["publisher"])
	require.Equal(t, one["name"], get(t, h, "/api/v2/streams/{name}", "/api/v2/streams/live%2Fb")["name"])
	refused(t, ask(h, "GET", "/api/v2/streams/live/x", ""), 404)

	v = get(t, h, "/api/v2/publishers", "/api/v2/publishers")
	require.Equal(t, []string{"live/a", "live/b"}, names(v, "publishers", "stream"))
	require.Nil(t, v["publishers"].([]any)[0].(map[string]any)["session"])
	require.Equal(t, "bob", v["publishers"].([]any)[1].(map[string]any)["session"].(map[string]any)["user"])
}

func TestEndStream(t *testing.T) {
	hub := &stream.Hub{Grace: time.Hour}
	defer hub.Close()
	evicted := make(chan error, 1)
	p := publish(t, hub, "live/a", &stream.PublishOptions{OnEvict: func(err error) { evicted <- err }})
	h := newHandler(hub)
	refused(t, ask(h, "DELETE", "/api/v2/streams/live/a", "", "If-Match", `"stale"`), 412)
	require.NotNil(t, hub.Stream("live/a"))
	require.Equal(t, 204, ask(h, "DELETE", "/api/v2/streams/live/a", "", "If-Match", "*").Code)
	require.ErrorIs(t, <-evicted, stream.ErrKicked)
	require.NoError(t, p.Close())
	require.Nil(t, hub.Stream("live/a"))
	refused(t, ask(h, "DELETE", "/api/v2/streams/live/a", ""), 404)
}

func TestSessions(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	var ids []string
	kicks := map[string]chan error{}
	for i, c := range []struct{ protocol, stream, user, remote string }{
		{"rtmp", "live/a", "ann", "192.0.2.1:5"},
		{"hls", "live/a", "bob", "[::ffff:192.0.2.2]:5"},
		{"hls", "live/b", "", "[2001:db8::1]:5"},
		{"http-flv", "live/b", "bob", "198.51.100.1:5"},
	} {
		role := stream.RolePlay
		if i == 0 {
			role = stream.RolePublish
		}
		s, kicked := open(hub, role, c.protocol, c.stream, c.user, c.remote)
		s.AddOut(1000)
		ids = append(ids, s.ID())
		kicks[s.ID()] = kicked
	}
	h := newHandler(hub)
	for query, want := range map[string][]int{
		"":                        {0, 1, 2, 3},
		"stream=live/a":           {0, 1},
		"role=publish":            {0},
		"protocol=hls":            {1, 2},
		"user=bob&stream=live/b":  {3},
		"address=192.0.2.0/24":    {0, 1},
		"address=192.0.2.2":       {1},
		"address=::ffff:c000:202": {1},
		"address=2001:db8::/32":   {2},
		"user=nobody":             {},
	} {
		expect := []string{}
		for _, i := range want {
			expect = append(expect, ids[i])
		}
		require.ElementsMatch(t, expect, names(get(t, h, "/api/v2/sessions", "/api/v2/sessions?"+query), "sessions", "id"), query)
	}
	for _, query := range []string{"role=owner", "address=x", "address=1.2.3.4/99", "address=fe80::1%25eth0", "after=1", "after=x.y", "limit=-1"} {
		refused(t, ask(h, "GET", "/api/v2/sessions?"+query, ""), 400)
	}
	var paged []string
	for next := ""; ; {
		v := get(t, h, "/api/v2/sessions", "/api/v2/sessions?limit=3&after="+next)
		paged = append(paged, names(v, "sessions", "id")...)
		if next, _ = v["next"].(string); next == "" {
			break
		}
	}
	require.ElementsMatch(t, ids, paged)

	one := get(t, h, "/api/v2/sessions/{id}", "/api/v2/sessions/"+ids[1])
	require.EqualValues(t, 1000, one["bytes_out"])
	require.Equal(t, 204, ask(h, "DELETE", "/api/v2/sessions/"+ids[1], "").Code)
	require.ErrorIs(t, <-kicks[ids[1]], stream.ErrKicked)
	require.Equal(t, 204, ask(h, "DELETE", "/api/v2/sessions/"+ids[1], "").Code) // it may take a moment to go
	refused(t, ask(h, "DELETE", "/api/v2/sessions/unknown", ""), 404)
	refused(t, ask(h, "DELETE", "/api/v2/sessions", ""), 400)
	refused(t, ask(h, "DELETE", "/api/v2/sessions?limit=5", ""), 400)

	w := ask(h, "DELETE", "/api/v2/sessions?user=bob", "")
	require.Equal(t, `{"ended":1}`, strings.TrimSpace(w.Body.String()))
	require.ErrorIs(t, <-kicks[ids[3]], stream.ErrKicked)
	require.Empty(t, kicks[ids[0]])
}

func TestServer(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	publish(t, hub, "live/a", nil)
	s, _ := open(hub, stream.RolePlay, "hls", "live/a", "", "192.0.2.2:5")
	s.AddOut(77)
	h := newHandler(hub)
	h.Name, h.Version = "test", "1.2"
	v := get(t, h, "/api/v2/server", "/api/v2/server")
	require.EqualValues(t, 1, v["streams"])
	require.EqualValues(t, 77, v["bytes_out"])
	require.Equal(t, map[string]any{"play": map[string]any{"hls": 1.0}}, v["sessions"])
	require.Equal(t, "admin", get(t, h, "/api/v2/me", "/api/v2/me")["role"])
	require.Equal(t, "3.1.0", get(t, h, "/api/openapi.json", "/api/openapi.json")["openapi"])

	require.Equal(t, "INFO", get(t, h, "/api/v2/log-level", "/api/v2/log-level")["level"])
	require.Equal(t, 200, ask(h, "PUT", "/api/v2/log-level", `{"level":"debug"}`).Code)
	require.Equal(t, slog.LevelDebug, h.LogLevel.Level())
	refused(t, ask(h, "PUT", "/api/v2/log-level", `{"level":"warn"}`, "If-Match", `"x"`), 412)
	for body, status := range map[string]int{`{"level":"loud"}`: 400, `{"lvl":"debug"}`: 400, `{}`: 422, `{"level":"warn"}{}`: 400, `[]`: 400} {
		refused(t, ask(h, "PUT", "/api/v2/log-level", body), status)
	}
	require.Equal(t, slog.LevelDebug, h.LogLevel.Level())
	h.LogLevel = nil
	refused(t, ask(h, "GET", "/api/v2/log-level", ""), 404)
}

func TestETag(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	w := ask(h, "GET", "/api/v2/streams", "")
	tag := w.Header().Get("ETag")
	require.NotEmpty(t, tag)
	for _, field := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		again := ask(h, "GET", "/api/v2/streams", "", "If-None-Match", field)
		require.Equal(t, 304, again.Code, field)
		require.Empty(t, again.Body.Bytes())
		require.Equal(t, tag, again.Header().Get("ETag"))
	}
	publish(t, hub, "live/a", nil)
	require.Equal(t, 200, ask(h, "GET", "/api/v2/streams", "", "If-None-Match", tag).Code)
	head := ask(h, "HEAD", "/api/openapi.json", "")
	require.Equal(t, 200, head.Code)
	require.NotEmpty(t, head.Header().Get("ETag"))
}

// TestRoles: each operation takes its role, no more and no less, and what is
// not there is not told to strangers.
func TestRoles(t *testing.T) {
	const secret = "0123456789abcdef"
	hub := &stream.Hub{}
	defer hub.Close()
	for role := access.Role(0); role <= access.Admin; role++ {
		g := &access.Gate{Log: slog.New(slog.DiscardHandler), Auth: access.Tokens{}}
		if role > 0 {
			token, err := access.ParseToken(role.String() + ":" + secret)
			require.NoError(t, err)
			g.Auth = access.Tokens{token}
		}
		h := &Handler{Hub: hub, Gate: g}
		for _, rt := range h.routes() {
			if role == 0 { // not too many wrong attempts
				h = &Handler{Hub: hub, Gate: &access.Gate{Log: g.Log, Auth: g.Auth}}
			}
			if rt.Path == "/api/v2/events" {
				continue // it would not end
			}
			target := strings.NewReplacer("{name}", "live/x", "{id}", "x").Replace(rt.Path)
			w := ask(h, rt.Method, target, "{}", "Authorization", "Bearer "+secret)
			switch {
			case role == 0:
				require.Equal(t, 401, w.Code, "%s %s", rt.Method, rt.Path)
			case role < rt.Need:
				require.Equal(t, 403, w.Code, "%v: %s %s", role, rt.Method, rt.Path)
			default:
				require.NotContains(t, []int{401, 403}, w.Code, "%v: %s %s", role, rt.Method, rt.Path)
			}
		}
		if role == 0 {
			refused(t, ask(h, "GET", "/api/v2/nothing", ""), 401)
			refused(t, ask(h, "DELETE", "/api/v2/server", ""), 401)
		}
	}
}

func TestUnknown(t *testing.T) {
	h := newHandler(&stream.Hub{})
	refused(t, ask(h, "GET", "/api/v2/nothing", ""), 404)
	w := ask(h, "POST", "/api/v2/sessions", "{}")
	refused(t, w, 405)
	require.Equal(t, "GET, HEAD, DELETE", w.Header().Get("Allow"))
	refused(t, ask(h, "OPTIONS", "/api/v2/streams", "", "Origin", "https://a.example", "Access-Control-Request-Method", "GET"), 405)
}

// TestMetadata: whatever a publisher says can be shown, and no more than a
// bounded part of it is.
func TestMetadata(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	p := publish(t, hub, "live/a", nil)
	deep := any("end")
	for range 100 {
		deep = []any{deep}
	}
	long := make([]any, 100_000)
	p.SetMetadata(stream.Metadata{
		"title": "<script>alert(1)</script>", "nan": math.NaN(), "inf": math.Inf(1), "bad": "a\xffb", "deep": deep,
		"text": strings.Repeat("é", 10_000), "z": long, "nil": nil, "list": []any{true, 1.0},
	})
	h := newHandler(hub)
	m := get(t, h, "/api/v2/streams/{name}", "/api/v2/streams/live/a")["metadata"].(map[string]any)
	require.Equal(t, "<script>alert(1)</script>", m["title"])
	require.Nil(t, m["nan"])
	require.Equal(t, []any{true, 1.0}, m["list"])
	w := ask(h, "GET", "/api/v2/streams/live/a", "")
	require.NotContains(t, w.Body.String(), "<script>")
	require.Less(t, w.Body.Len(), 20_000)
	require.Equal(t, 204, ask(h, "DELETE", "/api/v2/streams/live/a", "", "If-Match", w.Header().Get("ETag")+", *").Code)
}

func TestReason(t *testing.T) {
	for want, err := range map[string]error{
		"": nil, "kicked": fmt.Errorf("x: %w", stream.ErrKicked), "replaced": stream.ErrReplaced, "closed": stream.ErrClosed, "error": io.ErrUnexpectedEOF,
	} {
		require.Equal(t, want, reason(err))
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("/api/v2/sessions", "after=1.a&address=::1/64")
	f.Add("/api/v2/streams", "limit=1&prefix=%00")
	f.Add("/api/v2/streams/../x", "%")
	f.Add("0", "0")
	hub := &stream.Hub{}
	open(hub, stream.RolePlay, "hls", "live/a", "", "192.0.2.2:5")
	h := newHandler(hub)
	f.Fuzz(func(t *testing.T, path, query string) {
		if strings.HasPrefix(path, "/api/v2/events") {
			return // it has no end
		}
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Host: "localhost", RemoteAddr: "127.0.0.1:1", Header: http.Header{}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 300 && w.Code != 400 && w.Code != 404 || w.Header().Get("Location") != "" {
			t.Fatal(w.Code, w.Header())
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Fatal(w.Body)
		}
	})
}

// BenchmarkSessions lists a page of many.
func BenchmarkSessions(b *testing.B) {
	hub := &stream.Hub{}
	for i := range 10_000 {
		open(hub, stream.RolePlay, "hls", fmt.Sprintf("live/%d", i%100), "", "192.0.2.2:5")
	}
	h := newHandler(hub)
	for b.Loop() {
		if w := ask(h, "GET", "/api/v2/sessions", ""); w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
