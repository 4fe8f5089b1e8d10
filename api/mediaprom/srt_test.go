package mediaprom

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/stream"
)

func TestSRT(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	in := &ingest.Server{Hub: hub, Auth: auth.AllowAll, Log: log}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	at := pc.LocalAddr().String()
	served := make(chan struct{})
	go func() { defer close(served); _ = in.ServeSRT(pc, nil) }()
	t.Cleanup(func() {
		in.Close()
		<-served
		hub.Close()
	})
	require.Zero(t, testutil.CollectAndCount(SRT{Server: in}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := srt.Dial(ctx, at, nil, srt.DialOptions{StreamID: "#!::r=live/a,m=publish"})
	require.NoError(t, err)
	defer c.Close()
	require.Eventually(t, func() bool { return testutil.CollectAndCount(SRT{Server: in}, "runnel_srt_connections") == 1 }, 20*time.Second, 5*time.Millisecond)
	problems, err := testutil.CollectAndLint(SRT{Server: in})
	require.NoError(t, err)
	require.Empty(t, problems)
	for s := range hub.Sessions() {
		require.NotNil(t, s.Measured(), "the API shows it too")
	}
}
