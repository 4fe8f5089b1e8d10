package turnapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/api/internal/resttest"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/turn"
)

// A lab is a TURN server on loopback with the API of it.
type lab struct {
	api    *Handler
	server *turn.Server
	users  *turnauth.Users
	addr   string
	log    strings.Builder
}

const secret = "token of the test"

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{users: &turnauth.Users{}}
	require.NoError(t, l.users.Put(turnauth.User{Name: "alice", Password: "wonder"}, turnauth.User{Name: "bob", Password: "builder"}))
	l.server = &turn.Server{Realm: "example.org", Auth: l.users}
	l.server.SetPolicy(&turn.Policy{Peers: turn.PeerPolicy{AllowLoopback: true}})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	l.addr = pc.LocalAddr().String()
	served := make(chan error, 1)
	go func() { served <- l.server.ServePacket(pc) }()
	t.Cleanup(func() {
		require.NoError(t, l.server.Close())
		require.ErrorIs(t, <-served, turn.ErrServerClosed)
	})
	l.api = &Handler{Server: l.server, Users: l.users, Gate: l.gate()}
	return l
}

func (l *lab) gate() *access.Gate {
	token, err := access.ParseToken(secret)
	if err != nil {
		panic(err)
	}
	return &access.Gate{Auth: access.Tokens{token}, Insecure: true, Log: slog.New(slog.NewTextHandler(&l.log, nil))}
}

// allocate makes an allocation of a user.
func (l *lab) allocate(t *testing.T, user, password string) *turn.PacketConn {
	t.Helper()
	p, err := (&turn.Client{Server: l.addr, Username: user, Password: password}).Allocate(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// call asks the API as who has the token.
func (l *lab) call(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	l.api.ServeHTTP(w, r)
	return w
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), w.Body)
	return v
}

// TestRefuses: without a gate nobody may call; each role may do what it is for.
func TestRefuses(t *testing.T) {
	l := newLab(t)
	token := func(role access.Role) access.Token {
		return access.Token{Role: role, Hash: sha256.Sum256([]byte(role.String()))}
	}
	l.api = &Handler{
		Server: l.server, Users: l.users, Drain: func() {}, ReloadCertificates: func() error { return nil },
		Gate: &access.Gate{Auth: access.Tokens{token(access.Viewer), token(access.Operator), token(access.Admin)}, Insecure: true},
	}
	ask := func(h http.Handler, method, path, token string) int {
		r := httptest.NewRequest(method, path, strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusForbidden, ask(&Handler{Server: l.server}, "GET", "/sessions", "admin"))
	for call, need := range map[string]access.Role{
		"GET /sessions": access.Viewer, "GET /sessions/1": access.Viewer, "GET /stats": access.Viewer, "GET /policy": access.Viewer,
		"GET /nothing": access.Viewer, "DELETE /sessions/1": access.Operator, "DELETE /sessions?user=x": access.Operator,
		"POST /drain": access.Operator, "PATCH /policy": access.Admin, "GET /users": access.Admin, "PUT /users/x": access.Admin,
		"DELETE /users/x": access.Admin, "POST /certificates": access.Admin,
	} {
		method, path, _ := strings.Cut(call, " ")
		require.Equal(t, http.StatusUnauthorized, ask(l.api, method, path, ""), call)
		require.Equal(t, http.StatusUnauthorized, ask(l.api, method, path, "wrong"), call)
		for role := access.Viewer; role <= access.Admin; role++ {
			code := ask(l.api, method, path, role.String())
			require.Equal(t, role < need, code == http.StatusForbidden, "%s as %v: %d", call, role, code)
			require.NotEqual(t, http.StatusUnauthorized, code)
		}
	}
}

func TestSessions(t *testing.T) {
	l := newLab(t)
	for range 3 {
		l.allocate(t, "alice", "wonder")
	}
	last := l.allocate(t, "bob", "builder")

	list := decode[sessionList](t, l.call("GET", "/sessions", ""))
	require.Len(t, list.Sessions, 4)
	require.Zero(t, list.Next)
	require.Equal(t, last.Relayed(), list.Sessions[3].Relayed)
	require.Len(t, decode[sessionList](t, l.call("GET", "/sessions?user=alice&realm=example.org&client=127.0.0.1", "")).Sessions, 3)
	require.Empty(t, decode[sessionList](t, l.call("GET", "/sessions?realm=other", "")).Sessions)
	require.Empty(t, decode[sessionList](t, l.call("GET", "/sessions?client=192.0.2.1", "")).Sessions)

	page := decode[sessionList](t, l.call("GET", "/sessions?limit=3", ""))
	require.Len(t, page.Sessions, 3)
	second := decode[sessionList](t, l.call("GET", fmt.Sprintf("/sessions?limit=3&after=%d", page.Next), ""))
	require.Len(t, second.Sessions, 1)
	require.Equal(t, "bob", second.Sessions[0].User)
	for _, bad := range []string{"limit=0", "limit=10001", "limit=x", "after=-1", "client=x"} {
		require.Equal(t, http.StatusBadRequest, l.call("GET", "/sessions?"+bad, "").Code, bad)
	}

	path := fmt.Sprintf("/sessions/%d", second.Sessions[0].ID)
	require.Equal(t, "bob", decode[turn.AllocationInfo](t, l.call("GET", path, "")).User)
	require.Equal(t, http.StatusNoContent, l.call("DELETE", path, "").Code)
	require.Equal(t, http.StatusNotFound, l.call("GET", path, "").Code)
	require.Equal(t, http.StatusNotFound, l.call("DELETE", path, "").Code)
	require.Equal(t, http.StatusNotFound, l.call("GET", "/sessions/x", "").Code)
	require.ErrorIs(t, last.Permit(t.Context(), netip.MustParseAddr("127.0.0.1")), turn.ErrNoAllocation)

	require.Equal(t, http.StatusBadRequest, l.call("DELETE", "/sessions", "").Code, "all of them is no slip of the finger")
	require.Equal(t, map[string]int{"ended": 3}, decode[map[string]int](t, l.call("DELETE", "/sessions?user=alice", "")))
	require.Zero(t, decode[turn.Stats](t, l.call("GET", "/stats", "")).Allocations["udp"])
}

func TestUsers(t *testing.T) {
	l := newLab(t)
	w := l.call("GET", "/users", "")
	require.JSONEq(t, `{"users": [{"name": "alice"}, {"name": "bob"}]}`, w.Body.String())
	require.NotContains(t, w.Body.String(), "wonder")

	require.Equal(t, http.StatusNoContent, l.call("PUT", "/users/carol", `{"password": "singer", "bitRate": 64000}`).Code)
	l.allocate(t, "carol", "singer")
	require.EqualValues(t, 64000, decode[sessionList](t, l.call("GET", "/sessions?user=carol", "")).Sessions[0].BitRate)
	key := fmt.Sprintf("%x", turnauth.Key("dave", "example.org", "diver"))
	require.Equal(t, http.StatusNoContent, l.call("PUT", "/users/dave?realm=example.org", `{"key": "`+key+`"}`).Code)
	require.Len(t, l.users.List(), 4)
	require.Equal(t, http.StatusNoContent, l.call("DELETE", "/users/carol", "").Code)
	require.Equal(t, http.StatusNotFound, l.call("DELETE", "/users/carol", "").Code)
	require.Equal(t, http.StatusNotFound, l.call("DELETE", "/users/dave", "").Code, "he is of a realm")
	for body, want := range map[string]int{
		`{}`:                   http.StatusUnprocessableEntity,
		`{"key": "zz"}`:        http.StatusUnprocessableEntity,
		`{"key": "00"}`:        http.StatusUnprocessableEntity,
		`{"passwort": "x"}`:    http.StatusBadRequest,
		`{"password": "x"} {}`: http.StatusBadRequest,
		`[`:                    http.StatusBadRequest,
		``:                     http.StatusBadRequest,
		`{"password": "` + strings.Repeat("x", rest.MaxBody) + `"}`: http.StatusRequestEntityTooLarge,
	} {
		w := l.call("PUT", "/users/eve", body)
		require.Equal(t, want, w.Code, "%.40s: %s", body, w.Body)
	}
	require.NotContains(t, l.log.String(), "singer")
}

func TestPolicy(t *testing.T) {
	l := newLab(t)
	before := decode[policy](t, l.call("GET", "/policy", ""))
	require.True(t, before.Peers.AllowLoopback)

	w := l.call("PATCH", "/policy", `{"userQuota": 2, "maxLifetime": "30m", "sessionRate": 800000,
		"peers": {"deny": ["127.0.0.9", "192.0.2.0/24"], "allow": ["10.0.0.1-10.0.0.9"]},
		"alternates": [{"server": "192.0.2.1:3478", "weight": 2, "transport": "dtls"}]}`)
	after := decode[policy](t, w)
	p := l.server.CurrentPolicy()
	require.Equal(t, 2, p.UserQuota)
	require.Equal(t, 30*time.Minute, p.MaxLifetime)
	require.Equal(t, int64(800_000), p.SessionRate)
	require.True(t, p.Peers.AllowLoopback, "what is not named stays")
	require.Len(t, p.Peers.Deny, 2)
	require.Equal(t, "10.0.0.1-10.0.0.9", p.Peers.Allow[0].String())
	require.Equal(t, "192.0.2.1:3478", p.Alternates[0].Server.String())
	require.Equal(t, before.NonceLife, after.NonceLife)

	// A list takes the place of the old one, element by element anew.
	decode[policy](t, l.call("PATCH", "/policy", `{"peers": {"deny": ["192.0.2.7"]}, "alternates": [{"server": "192.0.2.2:3478"}]}`))
	p = l.server.CurrentPolicy()
	require.Len(t, p.Peers.Deny, 1)
	require.Equal(t, turn.Alternate{Server: netip.MustParseAddrPort("192.0.2.2:3478")}, p.Alternates[0])
	require.Len(t, p.Peers.Allow, 1)

	for _, body := range []string{
		`{"userQuota": -1}`, `{"userQuote": 1}`, `{"maxLifetime": "soon"}`, `{"peers": {"deny": ["x"]}}`, `{"alternates": [{}]}`,
		`{"peers": {"allowEverything": true}}`, `null]`,
	} {
		w := l.call("PATCH", "/policy", body)
		require.GreaterOrEqual(t, w.Code, 400, body)
	}
	require.Equal(t, p, l.server.CurrentPolicy(), "what is refused changes nothing")

	// Round trip: all fields are known to both forms.
	text, err := json.Marshal(fromPolicy(p))
	require.NoError(t, err)
	var again policy
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, p, again.policy())
}

func TestActions(t *testing.T) {
	l := newLab(t)
	require.Equal(t, http.StatusNotFound, l.call("POST", "/drain", "").Code, "the host has none")
	drained, failed := 0, errors.New("no such file")
	l.api = &Handler{
		Server: l.server, Gate: l.gate(),
		Drain:              func() { drained++ },
		ReloadCertificates: func() error { return failed },
	}
	require.Equal(t, http.StatusAccepted, l.call("POST", "/drain", "").Code)
	require.Equal(t, 1, drained)
	w := l.call("POST", "/certificates", "")
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), `"detail":"no such file"`)
	failed = nil
	require.Equal(t, http.StatusNoContent, l.call("POST", "/certificates", "").Code)
	require.Equal(t, http.StatusMethodNotAllowed, l.call("GET", "/drain", "").Code)
	require.Equal(t, http.StatusNotFound, l.call("GET", "/users", "").Code)
}

func TestEvents(t *testing.T) {
	l := newLab(t)
	srv := httptest.NewServer(l.api)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+secret)
	resp, err := srv.Client().Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "application/x-ndjson", resp.Header.Get("Content-Type"))
	p := l.allocate(t, "alice", "wonder")
	require.NoError(t, p.Close())
	lines := json.NewDecoder(resp.Body)
	var created struct{ Created *turn.AllocationCreated }
	require.NoError(t, lines.Decode(&created))
	require.Equal(t, "alice", created.Created.Session.User)
	var ended struct{ Ended *turn.AllocationEnded }
	require.NoError(t, lines.Decode(&ended))
	require.Equal(t, turn.EndRefreshed, ended.Ended.Reason)
	cancel()
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err)
}

// TestDocument: the document says what the handlers do.
func TestDocument(t *testing.T) {
	l := newLab(t)
	l.api = &Handler{Server: l.server, Users: l.users, Gate: l.gate(), Drain: func() {}, ReloadCertificates: func() error { return nil }}
	d := resttest.Parse(t, l.api.OpenAPI())
	d.Routes(t, l.api.routes())
	p := l.allocate(t, "alice", "wonder")
	require.NoError(t, p.Permit(t.Context(), netip.MustParseAddr("127.0.0.1")))
	id := decode[sessionList](t, l.call("GET", "/sessions", "")).Sessions[0].ID
	for _, c := range [][4]string{
		{"GET", "/sessions", "/sessions", ""},
		{"GET", "/sessions/{id}", fmt.Sprintf("/sessions/%d", id), ""},
		{"GET", "/stats", "/stats", ""},
		{"GET", "/policy", "/policy", ""},
		{"PATCH", "/policy", "/policy", `{"userQuota": 9}`},
		{"GET", "/users", "/users", ""},
		{"PUT", "/users/{name}", "/users/carol", `{"password": "singer"}`},
		{"PUT", "/users/{name}", "/users/carol", `{}`},
		{"DELETE", "/users/{name}", "/users/carol", ""},
		{"POST", "/drain", "/drain", ""},
		{"POST", "/certificates", "/certificates", ""},
		{"GET", "/openapi.json", "/openapi.json", ""},
		{"DELETE", "/sessions", "/sessions?user=nobody", ""},
		{"DELETE", "/sessions/{id}", fmt.Sprintf("/sessions/%d", id), ""},
		{"GET", "/sessions/{id}", fmt.Sprintf("/sessions/%d", id), ""},
	} {
		w := l.call(c[0], c[2], c[3])
		d.Answer(t, c[0], c[1], w.Code, w.Header().Get("Content-Type"), w.Body.Bytes())
	}
}

// TestConditions: If-Match keeps a change from hitting what has changed.
func TestConditions(t *testing.T) {
	l := newLab(t)
	w := l.call("GET", "/policy", "")
	tag := w.Header().Get("ETag")
	require.NotEmpty(t, tag)
	patch := func(tag string) int {
		r := httptest.NewRequest("PATCH", "/policy", strings.NewReader(`{"userQuota": 7}`))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", tag)
		w := httptest.NewRecorder()
		l.api.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusPreconditionFailed, patch(`"other"`))
	require.Zero(t, l.server.CurrentPolicy().UserQuota)
	require.Equal(t, http.StatusOK, patch(tag))
	require.Equal(t, http.StatusPreconditionFailed, patch(tag))
	require.Equal(t, 7, l.server.CurrentPolicy().UserQuota)
}

// TestJoinedEvents: the events are there for another stream of events.
func TestJoinedEvents(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := l.api.Events(ctx)
	require.NoError(t, l.allocate(t, "alice", "wonder").Close())
	var kinds []string
	for kind, e := range events {
		require.Contains(t, EventKinds(), kind)
		text, err := json.Marshal(e)
		require.NoError(t, err)
		require.Contains(t, string(text), "alice")
		if kinds = append(kinds, kind); kind == "turn_ended" {
			break
		}
	}
	require.Equal(t, []string{"turn_created", "turn_ended"}, kinds)
}
