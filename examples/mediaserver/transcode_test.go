package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
)

// The examples of the documentation are files that -transcode takes.
func TestTranscodeFile(t *testing.T) {
	text, err := os.ReadFile("../../docs/transcoding.md")
	require.NoError(t, err)
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	require.Len(t, blocks, 2)
	for i, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		if runtime.GOOS == "windows" {
			block = strings.Replace(block, "user: nobody", "", 1)
		}
		o, list, err := readTranscode(t, block)
		require.NoError(t, err)
		if i == 0 {
			continue
		}
		require.Len(t, list, 1+1+2+4)
		ladder := list[0].(*transcode.Ladder)
		require.Equal(t, transcode.Step{Name: "360p-av1", Codec: stream.AV1, Height: 360, BitRate: 400e3}, ladder.Steps[2])
		require.EqualValues(t, 4e9, ladder.FFmpeg.Limits.Memory)
		require.Equal(t, 30*time.Second, ladder.Linger)
		require.True(t, ladder.Match("live/cam"))
		require.False(t, ladder.Match("other/cam"))
		require.Equal(t, 5*time.Second, list[4].(*transcode.Pull).FFmpeg.Stall)
		require.NotNil(t, o.Pictures)
	}
	for what, text := range map[string]string{
		"unknown key":  "ladders:\n  - stream: [a]\n",
		"no rendition": "ladders:\n  - streams: [a]\n",
		"bad pattern":  "ladders:\n  - streams: ['[']\n    renditions: [{name: a}]\n",
		"bad rate":     "ladders:\n  - renditions: [{name: a, bitrate: fast}]\n",
		"bad size":     "ffmpeg: {limits: {memory: big}}\n",
		"bad codec":    "ladders:\n  - renditions: [{name: a, codec: h266}]\n",
		"no user":      "ffmpeg: {user: nobody-of-that-name}\n",
		"no command":   "exec: [{streams: ['**']}]\n",
		"bad variable": "exec: [{command: [a, '{url}']}]\n",
		"bad URL":      "pull: [{stream: a, url: 'gopher://x'}]\n",
		"bad stream":   "pull: [{stream: ../a, url: x}]\n",
	} {
		_, _, err := readTranscode(t, text)
		require.Error(t, err, what)
	}
	o, list, err := readTranscode(t, "ffmpeg: {limits: {memory: none}}\nladders:\n  - renditions: [{name: a, bitrate: 800000, audio-bitrate: 64k}]\n")
	require.NoError(t, err)
	require.EqualValues(t, -1, o.FFmpeg.Limits.Memory)
	require.Equal(t, 800000, list[0].(*transcode.Ladder).Steps[0].BitRate)
	require.Equal(t, 64000, list[0].(*transcode.Ladder).Steps[0].AudioBitRate)
}

func readTranscode(t *testing.T, text string) (*transcodeOptions, []runner, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "transcode.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	hub := &stream.Hub{}
	defer hub.Close()
	o := &transcodeOptions{file: path}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is to run
	log := slog.New(slog.DiscardHandler)
	running, err := o.start(ctx, hub, nil, log)
	if err != nil {
		return nil, nil, err
	}
	running.stop()
	list, err := o.runners(&transcoding{}, hub, nil, log)
	return o, list, err
}

// Pictures of streams are beside the page's own files.
func TestTranscodeRoutes(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	get := func(h http.Handler, target string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		return w.Code
	}
	require.Equal(t, http.StatusTeapot, get((*transcoding)(nil).routes(next), "/live/a.jpg"))
	h := (&transcoding{pictures: &transcode.Snapshot{Hub: &stream.Hub{}}}).routes(next)
	for target, code := range map[string]int{
		"/live/a.jpg": http.StatusUnauthorized, "/live/a.webp": http.StatusUnauthorized,
		"/logo.png": http.StatusTeapot, "/live/a.flv": http.StatusTeapot, "/recordings/live/a.jpg": http.StatusTeapot,
	} {
		require.Equal(t, code, get(h, target), target)
	}
	(*transcoding)(nil).stop()
}
