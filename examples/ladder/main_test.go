package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/transcode"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]transcode.Step{
		"720p=720:2.5M": {Name: "720p", Height: 720, BitRate: 2500000},
		"a=90:64k:12.5": {Name: "a", Height: 90, BitRate: 64000, FPS: 12.5},
		"b=90:1000":     {Name: "b", Height: 90, BitRate: 1000},
	} {
		got, err := parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "a", "a=1", "a=x:1k", "a=1:k", "a=1:1kk", "a=1:-1", "a=1:NaN", "a=1:1:x", "a=1:1:1:1"} {
		_, err := parse(text)
		require.Error(t, err, text)
	}
}

// What a newcomer does: start it, and open what it prints.
func TestRun(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		if os.Getenv("RUNNEL_E2E") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() {
		ran <- run(ctx, []string{"-rtmp", "127.0.0.1:0", "-http", "127.0.0.1:0"}, in)
		in.Close()
	}()
	watch := ""
	lines := bufio.NewScanner(out)
	for range 4 {
		require.True(t, lines.Scan())
		if words := strings.Fields(lines.Text()); words[0] == "Watch" {
			watch = words[1]
		}
	}
	require.True(t, strings.HasSuffix(watch, "/live/demo.m3u8"), watch)
	get := func(url string) string {
		r, err := http.Get(url)
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return string(b)
	}
	playlist := ""
	for deadline := time.Now().Add(30 * time.Second); strings.Count(playlist, "RESOLUTION=") < 3; time.Sleep(100 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "all three sizes in\n%s", playlist)
		playlist = get(watch)
	}
	for _, size := range []string{"640x360", "426x240", "256x144"} {
		require.Contains(t, playlist, "RESOLUTION="+size)
	}
	require.True(t, strings.HasPrefix(get(strings.TrimSuffix(watch, "m3u8")+"jpg"), "\xff\xd8\xff"), "a JPEG")
	cancel()
	require.NoError(t, <-ran)
	require.Error(t, run(t.Context(), []string{"-rendition", "x"}, io.Discard))
	require.Error(t, run(t.Context(), []string{"-ffmpeg", "/none/such"}, io.Discard))
}
