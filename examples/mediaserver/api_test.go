package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/declared"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

const apiSecret = "0123456789abcdef"

// TestAPIFlags: a token is not to be sent in the clear by mistake, nor to be
// guessed.
func TestAPIFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		ok   bool
	}{
		{nil, true},
		{[]string{"-api-token", apiSecret}, false},
		{[]string{"-api-token", apiSecret, "-http", "127.0.0.1:8080"}, true},
		{[]string{"-api-token", apiSecret, "-http", "[::1]:8080"}, true},
		{[]string{"-api-token", apiSecret, "-http", "localhost:8080"}, true},
		{[]string{"-api-token", apiSecret, "-http", "0.0.0.0:8080"}, false},
		{[]string{"-api-token", apiSecret, "-http", "192.0.2.1:8080"}, false},
		{[]string{"-api-token", apiSecret, "-http", ""}, true},
		{[]string{"-api-token", apiSecret, "-https", ":8443", "-cert", "c", "-key", "k"}, true},
		{[]string{"-api-token", apiSecret, "-api-insecure"}, true},
		{[]string{"-api-token", "short", "-api-insecure"}, false},
		{[]string{"-api-token", "viewer:" + apiSecret, "-api-token", "admin:sha256:00", "-api-insecure"}, false},
	} {
		o, err := parse(c.args)
		require.NoError(t, err, c.args)
		_, err = o.api.gate(o, slog.New(slog.DiscardHandler))
		require.Equal(t, c.ok, err == nil, "%v: %v", c.args, err)
	}
}

// TestAPI: the API, the metrics and the page are at one address, and readiness
// ends with the server.
func TestAPI(t *testing.T) {
	o, err := parse([]string{"-api-token", "viewer:" + apiSecret, "-api-srs", "-http", "127.0.0.1:0"})
	require.NoError(t, err)
	hub := &stream.Hub{}
	defer hub.Close()
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the page") })}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, o.api.start(ctx, o, hub, nil, nil, &servers{}, web, slog.New(slog.DiscardHandler)))
	ask := func(method, target, token string) (int, string) {
		r := httptest.NewRequest(method, target, nil)
		r.RemoteAddr = "127.0.0.1:4000"
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		web.Handler.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for target, want := range map[string]string{
		"/api/v2/server": `"name":"mediaserver"`, "/api/v1/versions": `"code":0`, "/metrics": "runnel_streams 0",
	} {
		code, body := ask("GET", target, apiSecret)
		require.Equal(t, 200, code, target)
		require.Contains(t, body, want)
		code, _ = ask("GET", target, "")
		require.Equal(t, 401, code, target)
	}
	code, _ := ask("DELETE", "/api/v2/sessions/x", apiSecret)
	require.Equal(t, 403, code)
	_, body := ask("GET", "/live/demo.flv", "")
	require.Equal(t, "the page", body)
	code, _ = ask("GET", "/readyz", "")
	require.Equal(t, 200, code)
	cancel()
	code, _ = ask("GET", "/readyz", "")
	require.Equal(t, 503, code)
	code, _ = ask("GET", "/healthz", "")
	require.Equal(t, 200, code)
}

// TestKeyBehindAddresses: the key of a declared stream stands in place of who
// the file of -auth knows, and not of the addresses that it denies.
func TestKeyBehindAddresses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth.yaml")
	require.NoError(t, os.WriteFile(file, []byte("addresses:\n  deny: [192.0.2.0/24]\n"), 0o600))
	o, err := parse([]string{"-auth", file})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, o.auth.open(ctx, slog.New(slog.DiscardHandler)))
	hub := &stream.Hub{}
	defer hub.Close()
	require.NoError(t, hub.Declare("live/cam", &stream.Declaration{KeyHash: declared.HashKey(apiSecret)}))
	own, err := o.api.declared(hub, o.auth.authorizer(allow{}, &o.api.users))
	require.NoError(t, err)
	a := o.auth.everybody(own)
	for remote, ok := range map[string]bool{"192.0.2.1:5": false, "198.51.100.1:5": true} {
		r := &auth.Request{Action: auth.Publish, Stream: "live/cam", Token: apiSecret, Remote: netip.MustParseAddrPort(remote)}
		_, err := a.Authorize(ctx, r)
		require.Equal(t, ok, err == nil, "%s: %v", remote, err)
		r.Token = "wrong"
		_, err = a.Authorize(ctx, r)
		require.ErrorIs(t, err, auth.ErrDenied)
	}
}
