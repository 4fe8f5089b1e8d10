package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/console"
	"github.com/runnel-media/runnel/api/internal/resttest"
	"github.com/runnel-media/runnel/api/mediaapi"
	"github.com/runnel-media/runnel/api/mediaprom"
	"github.com/runnel-media/runnel/api/recordapi"
	"github.com/runnel-media/runnel/api/srsapi"
	"github.com/runnel-media/runnel/api/turnapi"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/turn"
)

const secret = "0123456789abcdef"

func ask(h http.Handler, method, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "localhost", "127.0.0.1:4000"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestJoined: every part answers at its place, and with credentials only.
func TestJoined(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	token, err := access.ParseToken(secret)
	require.NoError(t, err)
	gate := &access.Gate{Auth: access.Tokens{token}, Log: slog.New(slog.DiscardHandler)}
	down := errors.New("starting")
	h := &api.Handler{
		Gate:    gate,
		Media:   &mediaapi.Handler{Hub: hub, Gate: gate},
		Record:  &recordapi.Handler{Gate: gate, Library: &record.Library{Storage: &record.Dir{Path: t.TempDir()}}},
		TURN:    &turnapi.Handler{Server: &turn.Server{Realm: "example.org"}, Gate: gate},
		SRS:     &srsapi.Handler{Hub: hub, Gate: gate},
		Metrics: gate.Guard(access.Viewer, (&mediaprom.Media{Hub: hub}).Handler()),
		Ready:   func(context.Context) error { return down },
		Console: console.Handler(),
	}
	for _, target := range []string{"/console/", "/console/app.js"} {
		require.True(t, api.Serves(target))
		require.Equal(t, 200, ask(h, "GET", target, "").Code, "the page is open, what it asks for is not")
	}
	w := ask(h, "GET", "/console", "")
	require.Equal(t, 301, w.Code)
	require.Equal(t, "console/", w.Header().Get("Location"))
	for target, want := range map[string]string{
		"/api/v2/streams":    `"streams":[]`,
		"/api/v2/turn/stats": `{`,
		"/api/v2/recordings": `"recordings":[]`,
		"/api/v1/versions":   `"code":0`,
		"/api/openapi.json":  `"openapi"`,
		"/metrics":           "runnel_streams 0",
	} {
		require.True(t, api.Serves(target))
		w := ask(h, "GET", target, secret)
		require.Equal(t, 200, w.Code, target)
		require.Contains(t, w.Body.String(), want, target)
		require.Equal(t, 401, ask(h, "GET", target, "").Code, target)
	}
	d := resttest.Parse(t, ask(h, "GET", "/api/openapi.json", secret).Body.Bytes())
	for _, o := range [][2]string{
		{"POST", "/api/v2/streams"}, {"GET", "/api/v2/recordings/{name}"}, {"DELETE", "/api/v2/turn/sessions/{id}"},
	} {
		d.Operation(t, o[0], o[1])
	}
	for _, target := range []string{"/", "/api", "/apis", "/metrics/x", "/api/v3/", "/live/cam.flv"} {
		require.Equal(t, 404, ask(h, "GET", target, secret).Code, target)
	}
	require.Equal(t, 200, ask(h, "GET", "/healthz", "").Code)
	require.Equal(t, 503, ask(h, "GET", "/readyz", "").Code)
	down = nil
	require.Equal(t, 200, ask(h, "GET", "/readyz", "").Code)
	require.Equal(t, 405, ask(h, "POST", "/healthz", "").Code)
	for _, target := range []string{"/apis", "/api", "/api/cam.flv", "/metrics/cam.flv", "/", "/consoles", "/console/cam.flv", "/console/cam/_hls/v.m3u8"} {
		require.False(t, api.Serves(target), target)
	}
}

func TestNothing(t *testing.T) {
	for _, target := range []string{"/api/v2/streams", "/api/v2/turn/stats", "/api/v2/recordings/x", "/api/v2/clips", "/api/v1/versions", "/metrics", "/api/openapi.json", "/console", "/console/"} {
		require.Equal(t, 404, ask(&api.Handler{}, "GET", target, "").Code, target)
	}
	require.Equal(t, 200, ask(&api.Handler{}, "GET", "/readyz", "").Code)
}

func ExampleHandler() {
	hub := &stream.Hub{}
	defer hub.Close()
	h := &api.Handler{Media: &mediaapi.Handler{Hub: hub}}
	fmt.Printf("%s%s", ask(h, "GET", "/readyz", "").Body, ask(h, "GET", "/api/v2/streams", "").Body)
	// Output:
	// ok
	// {"streams":[],"total":0}
}
