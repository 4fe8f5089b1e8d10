package access

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/audit"
)

const secret = "0123456789abcdef0123"

func mustParse(t *testing.T, s string) Token {
	t.Helper()
	token, err := ParseToken(s)
	require.NoError(t, err)
	return token
}

func TestParseToken(t *testing.T) {
	require.Equal(t, Admin, mustParse(t, secret).Role)
	require.Equal(t, Viewer, mustParse(t, "viewer:"+secret).Role)
	plain := mustParse(t, "operator:"+secret)
	require.Equal(t, plain, mustParse(t, fmt.Sprintf("operator:sha256:%x", plain.Hash)))
	colon := "aa:" + secret // a secret may have a colon
	require.Equal(t, Admin, mustParse(t, colon).Role)
	for _, bad := range []string{"", "short", "viewer:", "admin:sha256:12", "sha256:zz", "admin:0123456789"} {
		_, err := ParseToken(bad)
		require.Error(t, err, bad)
		if len(bad) > 12 {
			require.NotContains(t, err.Error(), bad[6:])
		}
	}
}

func TestTokens(t *testing.T) {
	list := Tokens{mustParse(t, "viewer:"+secret), mustParse(t, "admin:another secret, long")}
	list[1].Expires = time.Now().Add(-time.Second)
	g, err := list.Authorize(t.Context(), &auth.Request{Action: auth.Admin, Token: secret})
	require.NoError(t, err)
	require.Equal(t, "viewer", g.Labels[RoleLabel])
	for _, r := range []auth.Request{
		{Action: auth.Publish, Token: secret},
		{Action: auth.Admin},
		{Action: auth.Admin, Token: secret + "x"},
		{Action: auth.Admin, Token: "another secret, long"},
	} {
		_, err := list.Authorize(t.Context(), &r)
		require.ErrorIs(t, err, auth.ErrDenied)
	}
}

func request(method, target, from string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = from
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// TestClosedByDefault: without credentials only this machine is let in, and no
// header makes another one this one.
func TestClosedByDefault(t *testing.T) {
	g := &Gate{Log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		target, from string
		headers      []string
		status       int // 0: let in
	}{
		{target: "http://localhost:8080/x", from: "127.0.0.1:5"},
		{target: "http://LOCALHOST/x", from: "127.0.0.1:5"},
		{target: "http://127.0.0.1:8080/x", from: "127.0.0.1:5"},
		{target: "http://[::1]:8080/x", from: "[::1]:5"},
		{target: "http://[::1]/x", from: "[::ffff:127.0.0.1]:5"},
		{target: "http://localhost/x", from: "192.0.2.1:5", status: 403},
		{target: "http://localhost/x", from: "@", status: 403}, // a Unix socket
		{target: "http://localhost/x", from: "192.0.2.1:5", headers: []string{"X-Forwarded-For", "127.0.0.1"}, status: 403},
		{target: "http://localhost/x", from: "192.0.2.1:5", headers: []string{"X-Real-IP", "127.0.0.1"}, status: 403},
		{target: "http://localhost/x", from: "127.0.0.1:5", headers: []string{"X-Forwarded-For", "127.0.0.1"}, status: 403},
		{target: "http://localhost/x", from: "127.0.0.1:5", headers: []string{"x-forwarded-proto", "https"}, status: 403},
		{target: "http://localhost/x", from: "127.0.0.1:5", headers: []string{"Forwarded", "for=192.0.2.1"}, status: 403},
		{target: "http://localhost/x", from: "127.0.0.1:5", headers: []string{"Via", "1.1 proxy"}, status: 403},
		{target: "http://evil.example/x", from: "127.0.0.1:5", status: 403},
		{target: "http://localhost.evil.example/x", from: "127.0.0.1:5", status: 403},
		{target: "http://127.0.0.1.evil.example/x", from: "127.0.0.1:5", status: 403},
	} {
		caller, no := g.Admit(httptest.NewRecorder(), request("GET", c.target, c.from, c.headers...), Admin)
		if c.status == 0 {
			require.Nil(t, no, c)
			require.Equal(t, "local", caller.User)
			continue
		}
		require.NotNil(t, no, c)
		require.Equal(t, c.status, no.Status, c)
	}
}

// TestCrossSite: changes that a page elsewhere can make a browser send do not
// pass, whoever the browser is.
func TestCrossSite(t *testing.T) {
	local := &Gate{Log: slog.New(slog.DiscardHandler)}
	friend := &Gate{Log: slog.New(slog.DiscardHandler), Origins: []string{"https://console.example"}}
	const json = "application/json"
	for _, c := range []struct {
		gate    *Gate
		method  string
		headers []string
		status  int
	}{
		{local, "POST", []string{"Content-Type", json}, 0},
		{local, "POST", []string{"Content-Type", "application/json; charset=utf-8"}, 0},
		{local, "DELETE", nil, 0},
		{local, "DELETE", []string{"Origin", "http://localhost:8080"}, 0},
		{local, "POST", nil, 415},
		{local, "POST", []string{"Content-Type", "text/plain"}, 415},
		{local, "POST", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{local, "POST", []string{"Content-Type", "text/plain; a=application/json"}, 415},
		{local, "POST", []string{"Content-Type", json, "Origin", "https://evil.example"}, 403},
		{local, "POST", []string{"Content-Type", json, "Origin", "null"}, 403},
		{local, "DELETE", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{local, "DELETE", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{friend, "DELETE", []string{"Origin", "https://console.example", "Sec-Fetch-Site", "cross-site"}, 0},
		{friend, "DELETE", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
	} {
		_, no := c.gate.Admit(httptest.NewRecorder(), request(c.method, "http://localhost:8080/x", "127.0.0.1:5", c.headers...), Admin)
		if c.status == 0 {
			require.Nil(t, no, "%s %v", c.method, c.headers)
			continue
		}
		require.NotNil(t, no, "%s %v", c.method, c.headers)
		require.Equal(t, c.status, no.Status, "%s %v", c.method, c.headers)
	}
}

func TestRoles(t *testing.T) {
	for role := Viewer; role <= Admin; role++ {
		g := &Gate{Auth: Tokens{mustParse(t, role.String()+":"+secret)}, Log: slog.New(slog.DiscardHandler)}
		for need := Viewer; need <= Admin; need++ {
			_, no := g.Admit(httptest.NewRecorder(), request("GET", "http://x/", "127.0.0.1:5", "Authorization", "bearer "+secret), need)
			require.Equal(t, role >= need, no == nil, "%v for %v", role, need)
		}
	}
	labels := map[string]string{}
	g := &Gate{Log: slog.New(slog.DiscardHandler), Auth: auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) {
		return &auth.Grant{User: "bob", Labels: labels}, nil
	})}
	c, no := g.Admit(httptest.NewRecorder(), request("GET", "http://x/", "127.0.0.1:5"), Admin)
	require.Nil(t, no)
	require.Equal(t, "bob", c.User)
	labels[RoleLabel] = "owner"
	_, no = g.Admit(httptest.NewRecorder(), request("GET", "http://x/", "127.0.0.1:5"), Viewer)
	require.Equal(t, 403, no.Status)
}

func TestCredentials(t *testing.T) {
	var log bytes.Buffer
	tokens := Tokens{mustParse(t, secret)}
	plain := &Gate{Auth: tokens, Log: slog.New(slog.NewTextHandler(&log, nil))}
	insecure := &Gate{Auth: tokens, Insecure: true, Log: plain.Log}
	basic := &Gate{Auth: tokens, Basic: true, Log: plain.Log}
	down := &Gate{Log: plain.Log, Auth: auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) {
		return nil, errors.New("database at 10.0.0.1 is down")
	})}
	user := request("GET", "http://x/", "127.0.0.1:5")
	user.SetBasicAuth("anyone", secret)
	secure := request("GET", "https://x/", "192.0.2.1:5", "Authorization", "Bearer "+secret)
	secure.TLS = &tls.ConnectionState{}
	for _, c := range []struct {
		name   string
		gate   *Gate
		r      *http.Request
		status int
	}{
		{"token", plain, request("GET", "http://x/", "127.0.0.1:5", "Authorization", "Bearer "+secret), 0},
		{"TLS", plain, secure, 0},
		{"plain HTTP", plain, request("GET", "http://x/", "192.0.2.1:5", "Authorization", "Bearer "+secret), 403},
		{"plain HTTP meant", insecure, request("GET", "http://x/", "192.0.2.1:5", "Authorization", "Bearer "+secret), 0},
		{"none", plain, request("GET", "http://localhost/", "127.0.0.1:5"), 401},
		{"wrong", plain, request("GET", "http://x/", "127.0.0.1:5", "Authorization", "Bearer "+secret[1:]), 401},
		{"in the query", plain, request("GET", "http://x/?token="+secret, "127.0.0.1:5"), 401},
		{"cookie", plain, request("GET", "http://x/", "127.0.0.1:5", "Cookie", "token="+secret), 401},
		{"huge", plain, request("GET", "http://x/", "127.0.0.1:5", "Authorization", "Bearer "+strings.Repeat("x", 100_000)), 401},
		{"basic", basic, user, 0},
		{"basic where it is not taken", plain, user, 401},
		{"store down", down, request("GET", "http://x/", "127.0.0.1:5"), 503},
	} {
		w := httptest.NewRecorder()
		_, no := c.gate.Admit(w, c.r, Admin)
		if c.status == 0 {
			require.Nil(t, no, c.name)
			continue
		}
		require.NotNil(t, no, c.name)
		require.Equal(t, c.status, no.Status, c.name)
		require.Equal(t, c.status == 401, w.Header().Get("WWW-Authenticate") != "", c.name)
		require.NotContains(t, no.Detail, "10.0.0.1")
	}
	require.NotContains(t, log.String(), secret)
	require.Contains(t, log.String(), "status=401")

	for scheme, r := range map[string]*http.Request{
		`Basic realm="runnel"`:  request("GET", "http://x/", "127.0.0.1:5", "User-Agent", "curl/8"),
		`Bearer realm="runnel"`: request("GET", "http://x/", "127.0.0.1:5", "User-Agent", "Mozilla/5.0"),
	} {
		w := httptest.NewRecorder()
		_, no := basic.Admit(w, r, Admin)
		require.Equal(t, 401, no.Status)
		require.Equal(t, scheme, w.Header().Get("WWW-Authenticate"), "a browser is not to ask its user")
	}
}

// TestThrottle: after some wrong tokens a source has to wait, even with the
// right one; others, and who sent none, do not.
func TestThrottle(t *testing.T) {
	g := &Gate{Auth: Tokens{mustParse(t, secret)}, Insecure: true, Log: slog.New(slog.DiscardHandler)}
	status := func(from, token string) int {
		r := request("GET", "http://x/", from)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		if _, no := g.Admit(httptest.NewRecorder(), r, Viewer); no != nil {
			return no.Status
		}
		return 200
	}
	for range 3 * maxAttempts {
		require.Equal(t, 401, status("192.0.2.1:5", ""))
	}
	for i := range maxAttempts {
		require.Equal(t, 401, status(fmt.Sprintf("[2001:db8::%x]:5", i), "wrong"))
	}
	require.Equal(t, 429, status("[2001:db8::ffff]:5", secret))
	require.Equal(t, 200, status("192.0.2.1:5", secret))
}

func TestCORS(t *testing.T) {
	preflight := func(g *Gate, origin string) (*httptest.ResponseRecorder, bool) {
		w := httptest.NewRecorder()
		done := g.CORS(w, request("OPTIONS", "http://x/", "192.0.2.1:5", "Origin", origin, "Access-Control-Request-Method", "DELETE"), "GET, DELETE")
		return w, done
	}
	w, done := preflight(&Gate{}, "https://a.example")
	require.False(t, done)
	require.Empty(t, w.Header())
	g := &Gate{Origins: []string{"https://a.example"}}
	w, done = preflight(g, "https://a.example")
	require.True(t, done)
	require.Equal(t, "https://a.example", w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
	w, done = preflight(g, "https://a.example.evil")
	require.False(t, done)
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
}

func FuzzAdmit(f *testing.F) {
	f.Add("localhost", "127.0.0.1:1", "Bearer x", "application/json", "https://a")
	f.Add("[::1", "[fe80::1%eth0]:9", "Basic Og==", ";", "null")
	tokens := Tokens{{Role: Admin}}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, host, from, authorization, kind, origin string) {
		r := httptest.NewRequest("POST", "http://x/", nil)
		r.Host, r.RemoteAddr = host, from
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Origin", origin)
		if _, no := (&Gate{Auth: tokens, Basic: true, Log: log}).Admit(httptest.NewRecorder(), r, Viewer); no == nil {
			t.Fatal("let in")
		}
		if c, no := (&Gate{Log: log}).Admit(httptest.NewRecorder(), r, Viewer); no == nil && !c.From.Addr().IsLoopback() {
			t.Fatal("let in from elsewhere")
		}
	})
}

func ExampleGate() {
	token, err := ParseToken("viewer:a token with 128 random bits")
	fmt.Println(err)
	gate := &Gate{Auth: Tokens{token}, Log: slog.New(slog.DiscardHandler)}
	h := gate.Guard(Viewer, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "figures") }))
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.RemoteAddr = "127.0.0.1:4000"
	r.Header.Set("Authorization", "Bearer a token with 128 random bits")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output:
	// <nil>
	// 200 figures
}

// events is a Sink that keeps them.
type events struct{ list chan audit.Event }

func (e events) Write(_ context.Context, ev *audit.Event) error {
	e.list <- *ev
	return nil
}

// TestTrail: calls, refusals and failures are in the trail, with who and from
// where, and without the token.
func TestTrail(t *testing.T) {
	sink := events{make(chan audit.Event, 100)}
	quiet := slog.New(slog.DiscardHandler)
	trail := &audit.Trail{Sinks: []audit.Sink{sink}, Log: quiet}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- trail.Run(ctx) }()
	g := &Gate{Auth: Tokens{mustParse(t, "viewer:"+secret)}, Log: quiet, Trail: trail}
	h := g.Guard(Viewer, http.NotFoundHandler())
	call := func(token, origin string) {
		r := request("GET", "http://x/api/v2/streams?token="+secret, "192.0.2.1:5")
		r.TLS = &tls.ConnectionState{}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		if origin != "" {
			r.Method = "DELETE"
			r.Header.Set("Origin", origin)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	call(secret, "")
	call("wrong", "")
	call(secret, "https://evil.example")
	r := request("DELETE", "https://x/api/v2/streams/a", "192.0.2.1:5", "Authorization", "Bearer "+secret)
	r.TLS = &tls.ConnectionState{}
	_, no := g.Admit(httptest.NewRecorder(), r, Operator)
	require.Equal(t, 403, no.Status)
	var got []string
	for range 4 {
		e := <-sink.list
		got = append(got, fmt.Sprint(e.Kind, " ", e.Result, " ", e.User, " ", e.From, " ", e.Action, " ", e.Target, " ", e.Status))
		require.NotContains(t, fmt.Sprint(e), secret)
	}
	cancel()
	<-ran
	require.Equal(t, []string{
		"call allowed viewer 192.0.2.1:5 GET /api/v2/streams 200",
		"auth denied  192.0.2.1:5 GET /api/v2/streams 401",
		"policy denied  192.0.2.1:5 DELETE /api/v2/streams 403",
		"policy denied viewer 192.0.2.1:5 DELETE /api/v2/streams/a 403",
	}, got)
}
