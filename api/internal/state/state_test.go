package state

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	got := map[string]int{"kept": 1}
	require.NoError(t, Read(path, &got))
	require.Equal(t, map[string]int{"kept": 1}, got)
	for i := range 2 {
		require.NoError(t, Write(path, map[string]int{"a": i}))
	}
	got = nil
	require.NoError(t, Read(path, &got))
	require.Equal(t, map[string]int{"a": 1}, got)
	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.Error(t, Write(path, func() {}))
	require.Error(t, Write(filepath.Join(dir, "none", "x.json"), 1))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing is left behind")
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	require.ErrorContains(t, Read(path, &got), "x.json")
}
