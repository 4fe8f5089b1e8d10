package console

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/console"
	"github.com/runnel-media/runnel/api/mediaapi"
	"github.com/runnel-media/runnel/api/relayapi"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// TestCluster: the servers with their loads and streams, as they change.
func TestCluster(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	defer hub.Close()
	registry := &relay.MemoryRegistry{}
	r := &relay.Relay{Hub: hub, Log: log, ID: "b", Registry: registry, Advertise: "runnel://b", Public: map[string]string{"https": "https://b.example"}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	other, stop := context.WithCancel(context.Background())
	a := &relay.Relay{
		Hub: &stream.Hub{Log: log}, Log: log, ID: "a", Registry: registry, Advertise: "runnel://a", Edge: true,
		Load: func() (float64, bool) { return 0.42, true },
	}
	defer a.Hub.Close()
	gone := make(chan struct{})
	go func() { defer close(gone); _ = a.Run(other) }()
	defer func() { stop(); <-gone }()

	token, err := access.ParseToken("viewer:" + viewer)
	require.NoError(t, err)
	gate := &access.Gate{Auth: access.Tokens{token}, Log: log}
	web := httptest.NewServer(&api.Handler{
		Gate: gate, Media: &mediaapi.Handler{Hub: hub, Gate: gate}, Relay: &relayapi.Handler{Gate: gate, Relay: r}, Console: console.Handler(),
	})
	t.Cleanup(func() { // when the browser is gone
		web.CloseClientConnections()
		web.Close()
	})
	pub, err := hub.Publish(ctx, "live/a&amp;b", nil)
	require.NoError(t, err)
	defer pub.Close()

	page := peer.StartBrowser(t).Open(t, web.URL+"/console/#/cluster")
	in(t, page, viewer)
	page.Until(t, live, `document.querySelectorAll("#view tbody tr").length === 2`)
	rows := text(t, page, "#view tbody")
	for _, want := range []string{"runnel://a", "42%", "draining, edge", "serving, this one", "https://b.example"} {
		require.Contains(t, rows, want)
	}
	peer.Eval[any](t, page, `[...document.querySelectorAll("#view tbody button")].find(b => b.ariaLabel.endsWith(" b")).click(), null`)
	page.Until(t, live, `document.querySelector("#view section tbody")?.innerText.includes("live/a&amp;b")`)
	require.Equal(t, "Streams of b: 1", text(t, page, "#view section h3"))
	accessible(t, page, "cluster")
	page.Screenshot(t, "console-cluster")
	stop()
	page.Until(t, live, `document.querySelectorAll("#view table")[0].tBodies[0].rows.length === 1`)
	require.NotContains(t, page.Console(), "exception")
}
