package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReadYAML(t *testing.T) {
	type settings struct {
		Every  time.Duration `yaml:"every"`
		Things []struct {
			Name string `yaml:"name"`
		} `yaml:"things"`
	}
	read := func(text string) (s settings, err error) {
		path := filepath.Join(t.TempDir(), "a.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		err = ReadYAML(path, &s)
		return s, err
	}
	s, err := read("# a comment\nevery: 10s\nthings:\n  - name: a\n  - {name: b}\n")
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, s.Every)
	require.Equal(t, "b", s.Things[1].Name)
	for _, empty := range []string{"", "# nothing\n"} {
		_, err = read(empty)
		require.NoError(t, err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"unknown key": {"every: 1s\nthings:\n  - nmae: a\n", "[3:"},
		"twice":       {"every: 1s\nevery: 2s\n", "[2:"},
		"wrong type":  {"things: 5\n", "[1:"},
		"no YAML":     {"every: [\n", "a.yaml"},
		"two":         {"every: 1s\n---\nevery: 1s\n", "second document"},
		"large":       {strings.Repeat("#\n", maxYAML/2+1), "more than"},
	} {
		_, err := read(c.text)
		require.ErrorContains(t, err, c.says, name)
	}
	require.ErrorIs(t, ReadYAML(filepath.Join(t.TempDir(), "none"), &settings{}), os.ErrNotExist)
}
