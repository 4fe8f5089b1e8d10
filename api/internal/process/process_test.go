package process

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMemory(t *testing.T) {
	require.Equal(t, Memory{Total: 8 << 20, Available: 3 << 10, SwapTotal: 0, SwapFree: 1 << 10},
		parseMemory([]byte("MemTotal:        8192 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\nSwapTotal: x kB\nSwapFree:\t1 kB\nnoise")))
}

func TestHere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	require.Positive(t, ReadMemory().Total)
	require.Positive(t, Resident())
	require.Less(t, Resident(), ReadMemory().Total)
	up, _ := Uptime()
	require.Positive(t, up)
	require.Positive(t, CPUTime())
	require.Empty(t, numbers("/proc/does-not-exist"))
}
