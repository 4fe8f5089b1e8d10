package relayapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/resttest"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

func TestDocument(t *testing.T) { resttest.Parse(t, openAPI).Routes(t, (&Handler{}).routes()) }

// ask makes a request of this machine, and holds the answer against the document.
func ask(t *testing.T, h http.Handler, query string, status int) (list relayList) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/api/v2/relays"+query, nil)
	r.RemoteAddr = "127.0.0.1:5000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, status, w.Code, w.Body.String())
	resttest.Parse(t, openAPI).Answer(t, http.MethodGet, "/api/v2/relays", status, w.Header().Get("Content-Type"), w.Body.Bytes())
	if status == http.StatusOK {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
	}
	return list
}

func TestRelays(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	require.Empty(t, ask(t, &Handler{Gate: &access.Gate{Log: log}}, "", http.StatusOK).Relays)
	r := &relay.Relay{Hub: &stream.Hub{Log: log}, Log: log}
	defer r.Hub.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, name := range []string{"in/a", "in/b"} {
		go func() { done <- r.Pull(ctx, name, "rtmp://127.0.0.1:1/live/"+name+"?token=secret") }()
	}
	h := &Handler{Gate: &access.Gate{Log: log}, Relay: r}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list := ask(t, h, "", http.StatusOK)
		if list.Total == 2 && list.Relays[0].Error != "" && list.Relays[1].Error != "" {
			break
		}
		require.True(t, time.Now().Before(deadline), "both have failed by now")
	}
	list := ask(t, h, "?stream=in/b", http.StatusOK)
	require.Len(t, list.Relays, 1)
	got := list.Relays[0]
	require.Equal(t, relay.Pulling, got.Kind)
	require.Equal(t, "rtmp://127.0.0.1:1/live/in/b", got.URL, "no secret")
	require.False(t, got.Running)
	require.NotZero(t, got.Attempts)
	require.NotEmpty(t, got.Session)
	first := ask(t, h, "?limit=1", http.StatusOK)
	second := ask(t, h, "?limit=1&after="+first.Next, http.StatusOK)
	require.NotEqual(t, first.Relays[0].ID, second.Relays[0].ID)
	require.Empty(t, second.Next)
	ask(t, h, "?x=1", http.StatusBadRequest)
	cancel()
	for range 2 {
		require.ErrorIs(t, <-done, context.Canceled)
	}
	require.Empty(t, ask(t, h, "", http.StatusOK).Relays)
}

func Example() {
	relays := &relay.Relay{Hub: &stream.Hub{}, Origins: []string{"rtmp://origin.example"}}
	mux := http.NewServeMux()
	mux.Handle("/api/v2/relays", &Handler{Relay: relays, Gate: &access.Gate{}}) // for this machine alone

	r := httptest.NewRequest("GET", "http://localhost/api/v2/relays", nil)
	r.RemoteAddr = "127.0.0.1:50000"
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"relays":[],"total":0}
}
