package config

import (
	"flag"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Setenv("RUNNEL_WRITE_INTERVAL", "350ms")
	t.Setenv("RUNNEL_RTMP", ":2935")
	t.Setenv("RUNNEL_FORWARD", "rtmp://a/live, rtmp://b/live")
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	rtmp := fs.String("rtmp", ":1935", "")
	http := fs.String("http", ":8080", "")
	interval := fs.Duration("write-interval", 0, "")
	var forward List
	fs.Var(&forward, "forward", "")
	require.NoError(t, Parse(fs, []string{"-rtmp", ":1"}))
	require.Equal(t, ":1", *rtmp, "a flag wins over the environment")
	require.Equal(t, ":8080", *http)
	require.Equal(t, 350*time.Millisecond, *interval)
	require.Equal(t, List{"rtmp://a/live", "rtmp://b/live"}, forward)
}

func TestParseRefuses(t *testing.T) {
	newSet := func() *flag.FlagSet {
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.Duration("grace", 0, "")
		return fs
	}
	require.Error(t, Parse(newSet(), []string{"stray"}))
	require.Error(t, Parse(newSet(), []string{"-unknown"}))
	t.Setenv("RUNNEL_GRACE", "soon")
	require.ErrorContains(t, Parse(newSet(), nil), "RUNNEL_GRACE")
}
