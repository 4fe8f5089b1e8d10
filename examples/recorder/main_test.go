package main

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/record"
)

// What a newcomer does: record the demo, and end it.
func TestRun(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	dir := t.TempDir()
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() {
		ran <- run(ctx, []string{"-rtmp", "127.0.0.1:0", "-http", "127.0.0.1:0", "-dir", dir, "-name", "{name}", "-demo", "-format", "flv"}, in)
		in.Close()
	}()
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(out)
		text <- string(b)
	}()
	storage := &record.Dir{Path: dir}
	defer storage.Close()
	time.Sleep(1500 * time.Millisecond) // of media
	cancel()
	require.NoError(t, <-ran)
	require.Contains(t, <-text, "recorded  live/demo to demo.flv")
	info, err := record.Verify(t.Context(), storage, "demo.flv")
	require.NoError(t, err)
	require.Greater(t, info.Duration, time.Second)
	require.Error(t, run(t.Context(), []string{"-format", "avi"}, io.Discard))
}
