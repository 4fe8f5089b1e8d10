package record

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/record"
)

// TestKill: a recorder that is killed leaves files that play, of all but the last
// second, and Repair completes them.
func TestKill(t *testing.T) { testKill(t, 5) }

// TestSoakKill does it often.
func TestSoakKill(t *testing.T) {
	if os.Getenv("RUNNEL_SOAK") != "1" {
		t.Skip("takes five minutes: RUNNEL_SOAK=1")
	}
	testKill(t, 50)
}

// testKill kills a recorder of each format so many times, at random moments.
func testKill(t *testing.T, times int) {
	peer.Need(t, "ffprobe")
	bin := program(t, "recorder")
	for _, format := range []string{"mp4", "flv"} {
		t.Run(format, func(t *testing.T) {
			for range times {
				dir := t.TempDir()
				p := peer.Start(t, bin, "-rtmp", "", "-demo", "-dir", dir, "-name", "a", "-format", format)
				p.WaitLog(t, "recording live/demo", 10*time.Second)
				begun := time.Now()
				late := wait(time.Second + rand.N(3*time.Second))
				lasted := time.Since(begun)
				p.Kill()

				drafts, err := filepath.Glob(filepath.Join(dir, ".incoming", "*.draft"))
				require.NoError(t, err)
				require.Len(t, drafts, 1)
				left := peer.Probe(t, 20*time.Second, "-f", map[string]string{"mp4": "mov", "flv": "flv"}[format], drafts[0])
				// On a machine that is busy the recorder is late, too.
				seconds := (lasted - time.Second - 2*late).Seconds()
				require.GreaterOrEqual(t, float64(len(left.Video)), seconds*peer.FPS, "after %v", lasted)
				require.GreaterOrEqual(t, float64(len(left.Audio)), seconds*48000/1024-1, "after %v", lasted)

				storage := &record.Dir{Path: dir}
				done, err := record.Repair(t.Context(), storage, slog.New(slog.DiscardHandler))
				require.NoError(t, err)
				require.Len(t, done, 1)
				require.True(t, done[0].Repaired)
				_, err = record.Verify(t.Context(), storage, done[0].Name)
				require.NoError(t, err)
				require.NoError(t, storage.Close())
				whole := peer.Probe(t, 20*time.Second, filepath.Join(dir, "a."+format))
				require.Empty(t, whole.Log)
				require.GreaterOrEqual(t, len(whole.Video), len(left.Video))
				require.GreaterOrEqual(t, len(whole.Audio), len(left.Audio))
				require.InDelta(t, peer.Span(whole.Video).Seconds(), done[0].Duration.Seconds(), 0.2)
				t.Logf("killed after %v: %d pictures left, %d repaired", lasted, len(left.Video), len(whole.Video))
			}
		})
	}
}

// wait waits for so long, and returns by how much a process was woken too late
// meanwhile.
func wait(d time.Duration) (late time.Duration) {
	const step = 10 * time.Millisecond
	for until := time.Now().Add(d); time.Now().Before(until); {
		before := time.Now()
		time.Sleep(step)
		late = max(late, time.Since(before)-step)
	}
	return late
}
