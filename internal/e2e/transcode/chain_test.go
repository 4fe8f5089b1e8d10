package transcode

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
)

// TestSources: what a ladder has made, in whatever codec, another can read, and pictures
// can be made of.
func TestSources(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	for _, codec := range []stream.Codec{stream.H265, stream.VP8, stream.VP9, stream.AV1} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			hub, s := live(t, &streamtest.Source{BFrames: true, NoAudio: true})
			start(t, (&transcode.Ladder{Hub: hub, Match: all, Steps: []transcode.Step{{Name: "first", Codec: codec, Height: 90}}}).Run)
			first := read(t, s, "first", 55)

			again := &stream.Hub{}
			t.Cleanup(func() { again.Close() })
			pub, err := again.Publish(t.Context(), "live/again", &stream.PublishOptions{Jitter: stream.JitterOff})
			require.NoError(t, err)
			require.NoError(t, pub.SetTracks(first[0].Track))
			for _, f := range first {
				copied := stream.Frame{Track: f.Track, DTS: f.DTS, PTS: f.PTS, Key: f.Key, Data: f.Data}
				require.NoError(t, pub.Write(&copied))
			}
			start(t, (&transcode.Ladder{Hub: again, Match: all, Steps: []transcode.Step{{Name: "second", Height: 60, AudioBitRate: 64000}}}).Run)
			second := read(t, pub.Stream(), "second", 3)
			require.Equal(t, stream.H264, second[0].Track.Codec)
			video, err := second[0].Track.Video()
			require.NoError(t, err)
			require.Equal(t, 60, video.Height)
			found := false
			for _, f := range first {
				found = found || f.PTS == second[0].PTS && f.Key
			}
			require.True(t, found, "a key frame's time: %v", second[0].PTS)

			pictures := &transcode.Snapshot{Hub: again}
			p, err := pictures.Picture(t.Context(), "live/again", transcode.JPEG)
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "a.jpg")
			require.NoError(t, os.WriteFile(file, p.Data, 0o600))
			require.Equal(t, []string{"160x90"}, peer.Probe(t, time.Minute, file).Sizes())
		})
	}
}

// TestSound: a rendition can have sound of its own, in time with the picture.
func TestSound(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	hub, s := live(t, &streamtest.Source{})
	start(t, (&transcode.Ladder{Hub: hub, Match: all, Steps: []transcode.Step{{Name: "low", Height: 90, Preset: "ultrafast", AudioBitRate: 48000}}}).Run)
	frames := read(t, s, "low", 120)
	first := make(map[stream.Kind]time.Duration)
	last := make(map[stream.Kind]time.Duration)
	for _, f := range frames {
		if _, ok := first[f.Track.Kind()]; !ok {
			first[f.Track.Kind()] = f.PTS
		}
		last[f.Track.Kind()] = f.PTS
	}
	require.InDelta(t, first[stream.Video], first[stream.Audio], float64(150*time.Millisecond))
	require.InDelta(t, last[stream.Video], last[stream.Audio], float64(500*time.Millisecond))
	require.Len(t, s.Rendition("low").Tracks(), 2)
}

// children returns the processes that this one has started, but those that wait to be
// reaped.
func children(t *testing.T, program string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		b, _ := os.ReadFile(path)
		before, after, ok := strings.Cut(string(b), ") ")
		words := strings.Fields(after)
		if !ok || len(words) < 2 || words[0] == "Z" || words[1] != strconv.Itoa(os.Getpid()) || !strings.HasSuffix(before, "("+program) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// TestFaults: ffmpeg runs when somebody reads and not before, is there again when it was
// killed or stopped, and is gone when nobody reads any more. It runs alone, so that all
// ffmpegs are its own.
func TestFaults(t *testing.T) {
	ffmpeg := peer.Need(t, "ffmpeg")
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs Linux's /proc")
	}
	// A name of its own, to be found by.
	path := filepath.Join(t.TempDir(), "ffmpeg-faults")
	require.NoError(t, os.Symlink(ffmpeg, path))
	running := func() []int { return children(t, "ffmpeg-faults") }
	var log lines
	hub, s := live(t, &streamtest.Source{BFrames: true})
	start(t, (&transcode.Ladder{
		Hub: hub, Match: all, Log: slog.New(slog.NewTextHandler(&log, nil)), Linger: 300 * time.Millisecond,
		FFmpeg: transcode.FFmpeg{Path: path, Stall: 2 * time.Second},
		Steps:  []transcode.Step{{Name: "a", Height: 90, Preset: "ultrafast"}},
	}).Run)
	peer.Eventually(t, 30*time.Second, "the rendition", func() bool { return s.Rendition("a") != nil })
	require.Empty(t, running(), "nobody reads")

	sub, err := s.Rendition("a").Subscribe(nil)
	require.NoError(t, err)
	defer sub.Close()
	more := func(what string) {
		t.Helper()
		for range 30 {
			_, err := next(t, sub)
			require.NoError(t, err, what)
		}
	}
	more("at first")
	for _, fault := range []struct {
		name, says string
		do         func(pid int)
	}{
		{"crash", "killed", func(pid int) { signal(t, pid, "KILL") }},
		{"hang", "it hangs", func(pid int) { signal(t, pid, "STOP") }},
	} {
		pids := running()
		require.Len(t, pids, 1)
		fault.do(pids[0])
		peer.Eventually(t, 20*time.Second, "another after "+fault.name, func() bool {
			var some [64]*stream.Frame
			_, err := sub.TryRead(some[:])
			require.NoError(t, err)
			now := running()
			return len(now) == 1 && now[0] != pids[0]
		})
		more(fault.name)
		require.Contains(t, log.String(), fault.says)
	}
	require.NoError(t, sub.Close())
	peer.Eventually(t, 30*time.Second, "the end", func() bool { return len(running()) == 0 })
	require.Equal(t, 2, strings.Count(log.String(), "failed"))
}

func signal(t *testing.T, pid int, name string) {
	t.Helper()
	peer.Run(t, 10*time.Second, "kill", "-"+name, strconv.Itoa(pid))
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
