package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/audit"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

var from = netip.MustParseAddrPort("198.51.100.1:5000")

// TestAuthExample: the file that explains all says what it says.
func TestAuthExample(t *testing.T) {
	r, err := readAuth("auth.example.yaml", nil)
	require.NoError(t, err)
	require.True(t, r.admins)
	require.Equal(t, 200, r.policy.ConnsPerAddr)
	require.Equal(t, time.Minute, r.policy.Reauthorize)
	require.Equal(t, 10*time.Second, r.policy.FirstByte)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, r.policy.Exempt)
	const token = "the example's token"
	signer := &auth.SignedURLs{Keys: []auth.URLKey{{ID: "2030", Secret: []byte("not a secret, take random bytes")}}}
	query, err := signer.Sign(auth.URLGrant{Action: auth.Play, Stream: "live/x", Expires: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		r    auth.Request
		user string
		ok   bool
	}{
		{"anonymous", auth.Request{Action: auth.Play, Stream: "live/public/a"}, "", true},
		{"anonymous elsewhere", auth.Request{Action: auth.Play, Stream: "live/a"}, "", false},
		{"anonymous publishes", auth.Request{Action: auth.Publish, Stream: "live/public/a"}, "", false},
		{"user", auth.Request{Action: auth.Publish, Stream: "live/ann/a", User: "ann", Password: "wonderland"}, "ann", true},
		{"user as another", auth.Request{Action: auth.Publish, Stream: "live/bob/a", User: "ann", Password: "wonderland"}, "", false},
		{"wrong password", auth.Request{Action: auth.Publish, Stream: "live/ann/a", User: "ann", Password: "x"}, "", false},
		{"user as caller", auth.Request{Action: auth.Admin, User: "ann", Password: "wonderland"}, "ann", true},
		{"token", auth.Request{Action: auth.Publish, Stream: "live/studio", Token: token}, "studio", true},
		{"token elsewhere", auth.Request{Action: auth.Publish, Stream: "live/other", Token: token}, "", false},
		{"token as caller", auth.Request{Action: auth.Admin, Token: token}, "", false},
		{"signed", auth.Request{Action: auth.Play, Stream: "live/x", RawQuery: query}, "", true},
		{"signed for another", auth.Request{Action: auth.Play, Stream: "live/y", RawQuery: query}, "", false},
		{"denied address", auth.Request{Action: auth.Play, Stream: "live/public/a", Remote: netip.MustParseAddrPort("192.0.2.1:1")}, "", false},
		{"denied address, mapped", auth.Request{Action: auth.Play, Stream: "live/public/a", Remote: netip.MustParseAddrPort("[::ffff:192.0.2.1]:1")}, "", false},
		{"page", auth.Request{Action: auth.Play, Stream: "live/public/a", Origin: "https://www.example.org"}, "", true},
		{"another site", auth.Request{Action: auth.Play, Stream: "live/public/a", Origin: "https://evil.example"}, "", false},
	} {
		if !c.r.Remote.IsValid() {
			c.r.Remote = from
		}
		g, err := auth.Check(t.Context(), r.auth, &c.r)
		require.Equal(t, c.ok, err == nil, "%s: %v", c.name, err)
		if c.ok {
			require.Equal(t, c.user, g.User, c.name)
		}
	}
}

// TestAuthMistakes: what is not understood is refused, with the line, and
// without what stands there.
func TestAuthMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.yaml")
	for _, c := range []struct{ text, says string }{
		{"users:\n  - nmae: hunter2\n", "[2:5]"},
		{"users:\n  - name: ann\n    password: hunter2\n", "bcrypt"},
		{"users:\n  - {name: ann, password: hunter2, role: root}\n", "ann"},
		{"tokens:\n  - token: hunter2\n", "number 1"},
		{"tokens:\n  - {token: hunter2hunter2hunter2, role: root}\n", "root"},
		{"tokens:\n  - {token: hunter2hunter2hunter2, sessions: -1}\n", "below zero"},
		{"tokens:\n  - {token: hunter2hunter2hunter2, labels: {role: admin}}\n", "role"},
		{"tokens:\n  - {token: hunter2hunter2hunter2, expires: tomorrow}\n", ""},
		{"signed_urls:\n  keys:\n    - secret: hunter2\n", "key 1"},
		{"jwt:\n  - secret: hunter2\n", "32"},
		{"jwt:\n  - audience: x\n", "number 1"},
		{"anonymous: {role: admin}\n", "anonymous"},
		{"addresses: {allow: [nowhere]}\n", "addresses"},
		{"limits: {exempt: [nowhere]}\n", "limits"},
		{"limits: {first_byte: soon}\n", ""},
		{"limits: {sessions: many}\n", "[1:"},
		{"htpasswd: {file: missing}\n", "missing"},
		{"users: hunter2\n", "[1:"},
	} {
		require.NoError(t, os.WriteFile(file, []byte(c.text), 0o600))
		_, err := readAuth(file, nil)
		require.Error(t, err, c.text)
		require.ErrorContains(t, err, c.says, c.text)
		require.NotContains(t, err.Error(), "hunter2", c.text)
	}
	_, err := readAuth(filepath.Join(t.TempDir(), "none"), nil)
	require.Error(t, err)
}

// TestAuthReload: a file that changes is read again, one with a mistake is not,
// and limits change with it.
func TestAuthReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "auth.yaml")
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o600))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)))
	}
	hash := "$2a$04$" + strings.Repeat("a", 53) // nobody's password
	write("users", "ann:"+hash+"\n")
	write("auth.yaml", "htpasswd: {file: users, play: [x]}\nanonymous: {play: [live/a]}\nlimits: {sessions: 5}\n")
	o, err := parse([]string{"-auth", file, "-trusted-proxy", "10.0.0.0/8", "-audit", filepath.Join(dir, "audit")})
	require.NoError(t, err)
	o.auth.poll = 10 * time.Millisecond
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logged := make(chan string, 10)
	require.NoError(t, o.auth.open(ctx, slog.New(slog.NewTextHandler(lines{&log, logged}, nil))))
	a := o.auth.authorizer(allow{publishToken: "the old token"}, &users.Store{})
	plays := func(name string) bool {
		_, err := a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: name, Remote: from})
		return err == nil
	}
	require.True(t, plays("live/a"))
	require.False(t, plays("live/b"))
	require.Equal(t, 5, o.auth.limits.CurrentPolicy().Sessions)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, o.auth.limits.Exempt)
	require.False(t, o.auth.hasRole(), "nobody has one")
	require.Equal(t, "ann", o.auth.users()[0].Name)
	_, err = a.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: "x", Token: "the old token", Remote: from})
	require.NoError(t, err, "-publish-token goes on")
	_, err = a.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: "x", Remote: netip.MustParseAddrPort("127.0.0.1:5")})
	require.Error(t, err)

	write("auth.yaml", "anonymous: {play: [live/b]\n")
	require.Contains(t, <-logged, "what it said before holds")
	require.True(t, plays("live/a"))
	write("auth.yaml", "htpasswd: {file: users, play: [x]}\nanonymous: {play: [live/b]}\nlimits: {sessions: 6}\n")
	require.Contains(t, <-logged, "read again")
	require.False(t, plays("live/a"))
	require.True(t, plays("live/b"))
	require.Equal(t, 6, o.auth.limits.CurrentPolicy().Sessions)
	write("users", "ann:"+hash+"\nbob:"+hash+"\n")
	require.Contains(t, <-logged, "read again", "the password file counts")

	o.auth.trail.Record(auditEvent)
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "audit"))
		return err == nil && bytes.Contains(b, []byte(`"user":"tester"`))
	}, 20*time.Second, 5*time.Millisecond)
}

// TestAuthCallers: who has a role in the file may call the API, and nobody else.
func TestAuthCallers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.yaml")
	require.NoError(t, os.WriteFile(file, []byte("tokens:\n  - {user: ops, token: a token of the operators, role: viewer}\n"+
		"  - {user: cam, token: a token of a camera only, publish: ['**']}\n"), 0o600))
	o, err := parse([]string{"-auth", file, "-http", "127.0.0.1:0"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, o.auth.open(ctx, quiet()))
	hub := &stream.Hub{}
	defer hub.Close()
	web := &http.Server{Handler: http.NotFoundHandler()}
	a := o.auth.authorizer(allow{}, &o.api.users)
	require.NoError(t, o.api.start(ctx, o, hub, nil, nil, &servers{}, web, quiet()))
	for token, want := range map[string]int{"a token of the operators": 200, "a token of a camera only": 401, "a guess at a token here": 401, "": 401} {
		r := httptest.NewRequest("GET", "/api/v2/me", nil)
		r.RemoteAddr = "127.0.0.1:4000"
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		web.Handler.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, token)
	}
	o.api.users.Path = ""
	_, err = o.api.users.Add(users.User{Name: "bob", Grants: users.Grants{Role: access.Admin, Publish: []string{"{user}/*"}}}, "correct horse")
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/api/v2/me", nil)
	r.RemoteAddr = "127.0.0.1:4000"
	r.SetBasicAuth("bob", "correct horse")
	w := httptest.NewRecorder()
	web.Handler.ServeHTTP(w, r)
	require.JSONEq(t, `{"user": "bob", "role": "admin"}`, w.Body.String())
	q := &auth.Request{Action: auth.Publish, Stream: "bob/cam", User: "bob", Password: "correct horse", Remote: from}
	g, err := a.Authorize(ctx, q)
	require.NoError(t, err)
	require.Equal(t, "bob", g.User)
	q.Stream = "live/cam"
	_, err = a.Authorize(ctx, q)
	require.ErrorIs(t, err, auth.ErrDenied)
	o, err = parse([]string{"-auth", file}) // HTTP for all the world
	require.NoError(t, err)
	require.NoError(t, o.auth.open(ctx, quiet()))
	_, err = o.api.gate(o, quiet())
	require.ErrorContains(t, err, "in the clear")
}

func TestAuthFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-trusted-proxy", "nowhere"}, {"-proxy-header", "X-Real-IP"}, {"-audit", "http://x:1"}, {"-audit", "udp://x"},
		{"-audit", "/dev/null/x"}, {"-auth", "/dev/null/x"},
	} {
		o, err := parse(args)
		require.NoError(t, err)
		require.Error(t, o.auth.open(t.Context(), quiet()), args)
	}
	o, err := parse([]string{"-audit", "udp://127.0.0.1:1", "-trusted-proxy", "::1", "-proxy-protocol"})
	require.NoError(t, err)
	require.NoError(t, o.auth.open(t.Context(), quiet()))
	a := o.auth.authorizer(allow{publishToken: "the token"}, &users.Store{})
	_, err = a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: "x", User: "nobody", Password: "x", Remote: from})
	require.NoError(t, err, "as it was without -auth")
	guess := auth.Request{Action: auth.Publish, Stream: "x", Token: "a guess", Remote: from}
	for range 20 {
		_, err = a.Authorize(t.Context(), &guess)
		require.ErrorIs(t, err, auth.ErrDenied)
	}
	guess.Token = "the token"
	_, err = a.Authorize(t.Context(), &guess)
	require.ErrorIs(t, err, auth.ErrPolicy, "who guesses has to wait")
	_, err = a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: "x", Remote: from})
	require.NoError(t, err, "and not to play")
	require.Equal(t, &limit.Policy{}, o.auth.limits.CurrentPolicy())
}

var auditEvent = audit.Event{Kind: audit.Call, User: "tester", Result: audit.Allowed}

// lines passes on what is logged.
type lines struct {
	all *bytes.Buffer
	to  chan<- string
}

func (l lines) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "-auth") {
		l.to <- string(b)
	}
	return len(b), nil
}
