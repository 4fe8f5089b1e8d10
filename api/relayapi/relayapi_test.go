package relayapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/resttest"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

func TestDocument(t *testing.T) { resttest.Parse(t, openAPI).Routes(t, (&Handler{}).routes()) }

func ask(t *testing.T, h http.Handler, query string, status int) relayList {
	t.Helper()
	return get[relayList](t, h, "/api/v2/relays", query, status)
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

// get makes a request of this machine, and holds the answer against the document.
func get[T any](t *testing.T, h http.Handler, path, query string, status int) (answer T) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path+query, nil)
	r.RemoteAddr = "127.0.0.1:5000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, status, w.Code, w.Body.String())
	resttest.Parse(t, openAPI).Answer(t, http.MethodGet, path, status, w.Header().Get("Content-Type"), w.Body.Bytes())
	if status == http.StatusOK {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	}
	return answer
}

func TestCluster(t *testing.T) {
	const servers, streams = "/api/v2/cluster", "/api/v2/cluster/streams"
	log := slog.New(slog.DiscardHandler)
	gate := &access.Gate{Log: log}
	get[serverList](t, &Handler{Gate: gate}, servers, "", http.StatusNotFound)
	registry := &relay.MemoryRegistry{}
	r := &relay.Relay{
		Hub: &stream.Hub{Log: log}, Log: log, ID: "b", Registry: registry, Advertise: "runnel://b?token=secret",
		Public: map[string]string{"https": "https://b.example"}, TURN: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478")},
		Load: func() (float64, bool) { return 0.25, false },
	}
	defer r.Hub.Close()
	require.NoError(t, registry.Announce(t.Context(), relay.Server{ID: "a", URL: "runnel://a", Draining: true, Edge: true}))
	for _, name := range []string{"live/2", "live/1", "live/3"} {
		require.NoError(t, registry.Claim(t.Context(), "a", name))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	h := &Handler{Gate: gate, Relay: r}
	require.Eventually(t, func() bool {
		m := r.Members()
		return len(m) == 2 && m[0].Streams == 3
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, serverList{Total: 2, Servers: []server{
		{ID: "a", URL: "runnel://a", Draining: true, Edge: true, Streams: 3},
		{ID: "b", URL: "runnel://b", Load: 0.25, Self: true, Public: r.Public, TURN: r.TURN},
	}}, get[serverList](t, h, servers, "", http.StatusOK))
	first := get[serverList](t, h, servers, "?limit=1", http.StatusOK)
	require.Equal(t, "a", first.Next)
	require.Equal(t, "b", get[serverList](t, h, servers, "?limit=1&after=a", http.StatusOK).Servers[0].ID)

	list := get[claimList](t, h, streams, "?server=a&limit=2", http.StatusOK)
	require.Equal(t, claimList{Total: 3, Next: "live/2", Streams: []claim{{"live/1", "a"}, {"live/2", "a"}}}, list)
	require.Equal(t, []claim{{"live/3", "a"}}, get[claimList](t, h, streams, "?server=a&after=live/2", http.StatusOK).Streams)
	require.Empty(t, get[claimList](t, h, streams, "?server=nobody", http.StatusOK).Streams)
	get[claimList](t, h, streams, "", http.StatusBadRequest)
	get[claimList](t, &Handler{Gate: gate, Relay: &relay.Relay{}}, streams, "?server=a", http.StatusNotFound)
	cancel()
	require.NoError(t, <-done)
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
