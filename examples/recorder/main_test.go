package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
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
	require.Eventually(t, func() bool { // some media is on the disk
		drafts, _ := filepath.Glob(filepath.Join(dir, ".incoming", "*.draft"))
		if len(drafts) != 1 {
			return false
		}
		info, err := os.Stat(drafts[0])
		return err == nil && info.Size() > 10_000
	}, 30*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, <-ran)
	require.Contains(t, <-text, "recorded  live/demo to demo.flv")
	info, err := record.Verify(t.Context(), storage, "demo.flv")
	require.NoError(t, err)
	require.Greater(t, info.Duration, 300*time.Millisecond)
	require.Equal(t, "live/demo", info.Stream)
	require.Error(t, run(t.Context(), []string{"-format", "avi"}, io.Discard))
}
