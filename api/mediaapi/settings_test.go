package mediaapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/tokens"
	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

// TestTokens: a token is shown once, works at once with its role, and until it
// is revoked.
func TestTokens(t *testing.T) {
	const route, one = "/api/v2/tokens", "/api/v2/tokens/{id}"
	const first = "0123456789abcdef"
	admin, err := access.ParseToken(first)
	require.NoError(t, err)
	store := &tokens.Store{Max: 3}
	var log bytes.Buffer
	hub := &stream.Hub{}
	defer hub.Close()
	h := &Handler{Hub: hub, Tokens: store, Gate: &access.Gate{Auth: auth.Any(access.Tokens{admin}, store), Log: slog.New(slog.NewTextHandler(&log, nil))}}
	as := func(secret string) []string { return []string{"Authorization", "Bearer " + secret} }

	v := do(t, h, "POST", route, route, `{"user": "ann", "role": "viewer"}`, 201, as(first)...)
	secret, id := v["secret"].(string), v["id"].(string)
	require.Equal(t, 200, ask(h, "GET", "/api/v2/streams", "", as(secret)...).Code)
	refused(t, ask(h, "GET", route, "", as(secret)...), 403)
	for _, body := range []string{`{"user": "", "role": "viewer"}`, `{"user": "x", "role": "owner"}`, `{"user": "x", "role": "viewer", "expires": "2001-01-01T00:00:00Z"}`} {
		refused(t, ask(h, "POST", route, body, as(first)...), 422)
	}
	do(t, h, "POST", route, route, `{"user": "bob", "role": "operator", "expires": "2999-01-01T00:00:00Z"}`, 201, as(first)...)
	do(t, h, "POST", route, route, `{"user": "bob", "role": "admin"}`, 201, as(first)...)
	refused(t, ask(h, "POST", route, `{"user": "bob", "role": "admin"}`, as(first)...), 507)

	list := do(t, h, "GET", route, route, "", 200, as(first)...)
	require.Equal(t, []string{"ann", "bob", "bob"}, names(list, "tokens", "user"))
	require.Equal(t, []string{"bob", "bob"}, names(do(t, h, "GET", route, route+"?user=bob", "", 200, as(first)...), "tokens", "user"))
	require.NotContains(t, ask(h, "GET", route, "", as(first)...).Body.String(), secret)
	require.Nil(t, do(t, h, "GET", one, route+"/"+id, "", 200, as(first)...)["secret"])

	do(t, h, "DELETE", one, route+"/"+id, "", 204, as(first)...)
	refused(t, ask(h, "DELETE", route+"/"+id, "", as(first)...), 404)
	refused(t, ask(h, "GET", route+"/"+id, "", as(first)...), 404)
	refused(t, ask(h, "GET", "/api/v2/streams", "", as(secret)...), 401)
	refused(t, ask(h, "DELETE", route, "", as(first)...), 400)
	require.EqualValues(t, 2, do(t, h, "DELETE", route, route+"?user=bob", "", 200, as(first)...)["revoked"])
	require.Zero(t, store.Len())
	require.Contains(t, log.String(), "user=ann as=viewer")
	require.NotContains(t, log.String(), secret)

	store.Path = filepath.Join(t.TempDir(), "none", "tokens.json")
	refused(t, ask(h, "POST", route, `{"user": "x", "role": "viewer"}`, as(first)...), 500)
	h = newHandler(hub)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		refused(t, ask(h, method, route+"?", "{}"), 404)
	}
}

// TestLimits: all of a policy goes there and back, and in force at once.
func TestLimits(t *testing.T) {
	const route = "/api/v2/limits"
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	refused(t, ask(h, "GET", route, ""), 404)
	refused(t, ask(h, "PUT", route, `{}`), 404)
	l := &limit.Limiter{}
	h = newHandler(hub)
	h.Limits = l
	require.EqualValues(t, 0, get(t, h, route, route)["sessions"])
	v := do(t, h, "PATCH", route, route, `{"sessions_per_address": 7, "first_byte": 2.5, "bit_rate": 9007199254740993, "exempt": ["192.0.2.0/24"]}`, 200)
	require.EqualValues(t, 7, v["sessions_per_address"])
	require.Equal(t, 2500*time.Millisecond, l.CurrentPolicy().FirstByte)
	tag := ask(h, "GET", route, "").Header().Get("ETag")
	do(t, h, "PATCH", route, route, `{"sessions": 9}`, 200, "If-Match", tag)
	refused(t, ask(h, "PATCH", route, `{"sessions": 10}`, "If-Match", tag), 412)
	p := l.CurrentPolicy()
	require.Equal(t, 7, p.SessionsPerAddr, "what is not named stays")
	require.EqualValues(t, 9007199254740993, p.BitRate)
	for body, status := range map[string]int{
		`{"sessions": -1}`: 422, `{"first_byte": 1e12}`: 422, `{"exempt": ["x"]}`: 400, `{"exempt": [""]}`: 422, `{"sesions": 1}`: 400, `[]`: 400, `{"sessions": 1.5}`: 400,
	} {
		refused(t, ask(h, "PATCH", route, body), status)
	}
	require.Equal(t, p, l.CurrentPolicy(), "what is refused changes nothing")
	do(t, h, "PUT", route, route, `{"connections": 3}`, 200)
	require.Equal(t, 3, l.CurrentPolicy().Conns)
	require.Zero(t, l.CurrentPolicy().Sessions)
	require.Contains(t, get(t, h, route+"/usage", route+"/usage")["refused"], "sessions_per_user")

	// Each field has its own place in both forms.
	var all policy
	text := []byte(`{"connections": 1, "connections_per_address": 2, "connection_rate": 3, "connection_rate_per_address": 4, "first_byte": 5,
		"sessions": 6, "sessions_per_address": 7, "sessions_per_user": 8, "sessions_per_stream": 9, "publisher_bit_rate": 10, "player_bit_rate": 11,
		"bit_rate": 12, "bit_rate_per_address": 13, "bit_rate_per_user": 14, "bit_rate_per_stream": 15, "exempt": ["192.0.2.0/24"], "reauthorize": 16}`)
	require.NoError(t, json.Unmarshal(text, &all))
	next, err := all.policy()
	require.NoError(t, err)
	back, err := json.Marshal(describePolicy(next))
	require.NoError(t, err)
	require.JSONEq(t, string(text), string(back))
}

// TestConfig: settings change all or none.
func TestConfig(t *testing.T) {
	const route = "/api/v2/config"
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	require.Empty(t, get(t, h, route, route))
	on, level := false, 1
	h = newHandler(hub)
	h.Settings = map[string]Setting{
		"a_switch": Live(func() bool { return on }, func(v bool) error { on = v; return nil }),
		"level": Live(func() int { return level }, func(v int) error {
			if v > 3 {
				return errors.New("level is at most 3")
			}
			level = v
			return nil
		}),
		"version": {Get: func() any { return "x" }},
	}
	require.Equal(t, map[string]any{"a_switch": false, "level": 1.0, "version": "x"}, get(t, h, route, route))
	v := do(t, h, "PATCH", route, route, `{"a_switch": true, "level": 2}`, 200)
	require.Equal(t, true, v["a_switch"])
	require.Equal(t, 2, level)
	require.Equal(t, "level: level is at most 3", refused(t, ask(h, "PATCH", route, `{"a_switch": false, "level": 4}`), 422))
	require.True(t, on, "it is as it was")
	for _, body := range []string{`{"version": "y"}`, `{"other": 1}`, `{"level": "2"}`} {
		refused(t, ask(h, "PATCH", route, body), 422)
	}
	refused(t, ask(h, "PATCH", route, `{"level": 1}`, "If-Match", `"x"`), 412)
	require.Equal(t, 2, level)
}

// TestUsers: a user is made, changed and deleted, its password never shown; those
// of the configuration are there and stay as they are.
func TestUsers(t *testing.T) {
	const route, one = "/api/v2/users", "/api/v2/users/{user}"
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
		path := route
		if method == "PATCH" || method == "DELETE" {
			path += "/ann"
		}
		refused(t, ask(h, method, path, "{}"), 404)
	}
	store := &users.Store{Max: 2}
	var log bytes.Buffer
	h = newHandler(hub)
	h.Users, h.Gate = store, &access.Gate{Log: slog.New(slog.NewTextHandler(&log, nil))}
	h.FixedUsers = func() []users.User { return []users.User{{Name: "bob", Grants: users.Grants{Role: access.Viewer}}} }

	v := do(t, h, "POST", route, route, `{"name": "ann", "password": "correct horse", "publish": ["live/{user}"], "role": "operator"}`, 201)
	require.Equal(t, "ann", v["name"])
	require.NotContains(t, v, "password")
	for body, status := range map[string]int{
		`{"name": "ann", "password": "correct horse"}`: 409, `{"name": "bob", "password": "correct horse"}`: 409,
		`{"name": "a/b", "password": "correct horse"}`: 422, `{"name": "eve", "password": "short"}`: 422,
		`{"name": "eve", "password": "correct horse", "role": "root"}`: 400, `{"name": "eve", "pass": "x"}`: 400,
		`{"name": "eve", "password": "correct horse", "sessions": -1}`: 422,
	} {
		refused(t, ask(h, "POST", route, body), status)
	}
	list := get(t, h, route, route)
	require.Equal(t, []string{"ann", "bob"}, names(list, "users", "name"))
	require.Equal(t, []string{"bob"}, names(get(t, h, route, route+"?after=ann"), "users", "name"))

	tag := ask(h, "GET", route+"/ann", "").Header().Get("ETag")
	v = do(t, h, "PATCH", one, route+"/ann", `{"password": "another horse", "role": null, "sessions": 3}`, 200, "If-Match", tag)
	require.NotContains(t, v, "role")
	require.EqualValues(t, 3, v["sessions"])
	require.Equal(t, []any{"live/{user}"}, v["publish"], "what is not named stays")
	refused(t, ask(h, "PATCH", route+"/ann", `{"sessions": 4}`, "If-Match", tag), 412)
	refused(t, ask(h, "PATCH", route+"/ann", `{"name": "eve"}`), 422)
	refused(t, ask(h, "PATCH", route+"/bob", `{"sessions": 4}`), 409)
	_, err := store.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: "live/ann", User: "ann", Password: "another horse"})
	require.NoError(t, err)

	refused(t, ask(h, "DELETE", route+"/bob", ""), 409)
	do(t, h, "DELETE", one, route+"/ann", "", 204)
	refused(t, ask(h, "GET", route+"/ann", ""), 404)
	store.Max = 1
	do(t, h, "POST", route, route, `{"name": "ann", "password": "correct horse"}`, 201)
	refused(t, ask(h, "POST", route, `{"name": "eve", "password": "correct horse"}`), 507)
	require.NotContains(t, log.String(), "horse")
	require.Contains(t, log.String(), "user=ann as=operator")
}
