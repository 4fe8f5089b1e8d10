package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		start := time.Now()
		require.NoError(t, run(t.Context(), &out, 2*time.Second))
		require.InDelta(t, 2*time.Second, time.Since(start), float64(50*time.Millisecond))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 4)
		require.Contains(t, lines[0], "0s: key frame, avc1.64001f, 640x360, ")
		require.Contains(t, lines[1], "1s: key frame")
		require.Contains(t, lines[2], "h264: 50 frames, ")
		require.Contains(t, lines[3], "aac: 94 frames, ")
	})
}
