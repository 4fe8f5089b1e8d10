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

// kills is how often each format is killed; RUNNEL_SOAK=1 does it often.
func kills() int {
	if os.Getenv("RUNNEL_SOAK") == "1" {
		return 50
	}
	return 5
}

// TestKill: a recorder that is killed leaves files that play, of all but the last
// second, and Repair completes them.
func TestKill(t *testing.T) {
	peer.Need(t, "ffprobe")
	bin := program(t, "recorder")
	for _, format := range []string{"mp4", "flv"} {
		t.Run(format, func(t *testing.T) {
			for range kills() {
				dir := t.TempDir()
				p := peer.Start(t, bin, "-rtmp", "", "-demo", "-dir", dir, "-name", "a", "-format", format)
				p.WaitLog(t, "recording live/demo", 10*time.Second)
				begun := time.Now()
				time.Sleep(time.Second + rand.N(3*time.Second))
				p.Kill()
				lasted := time.Since(begun)

				drafts, err := filepath.Glob(filepath.Join(dir, ".incoming", "*.draft"))
				require.NoError(t, err)
				require.Len(t, drafts, 1)
				left := peer.Probe(t, 20*time.Second, "-f", map[string]string{"mp4": "mov", "flv": "flv"}[format], drafts[0])
				seconds := lasted.Seconds() - 1
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
