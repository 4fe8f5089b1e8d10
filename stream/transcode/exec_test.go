package transcode

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestExpand(t *testing.T) {
	for _, c := range []struct{ arg, name, want string }{
		{"plain", "live/a", "plain"},
		{"{stream}", "live/a", "live/a"},
		{"x{app}y{name}z", "vhost/live/a", "xvhost/liveyaz"},
		{"{app}", "a", ""},
		{"--out={name}.flv", "live/-a", "--out=-a.flv"},
		{"{name}", "live/Übertragung-1_2.x", "Übertragung-1_2.x"},
		{`{"stream":"{name}"}`, "live/a", `{"stream":"a"}`},
		{"{}{ }{", "live/a", "{}{ }{"},
		{"rtmp://h/{stream:escaped}", "live/a b;$(reboot)&'`", "rtmp://h/live/a%20b%3B%24%28reboot%29%26%27%60"},
		{"{app:escaped}", "li+ve/a", "li%2Bve"},
	} {
		got, err := expand([]string{c.arg}, c.name)
		require.NoError(t, err, c.arg)
		require.Equal(t, []string{c.want}, got)
	}
	for _, c := range []struct{ arg, name string }{
		{"{url}", "live/a"},
		{"{name:raw}", "live/a"},
		{"{name}", "live/-rf"},
		{"{name:escaped}", "live/-rf"},
		{"a{app}", "live$(x)/a"},
		{"{name}", "live/a b"},
		{"{name}", "live/a;b"},
		{"{name}", "live/a`b`"},
		{"{name}", "live/a'b"},
		{"{stream}", "live/a&b"},
	} {
		_, err := expand([]string{c.arg}, c.name)
		require.Error(t, err, "%s of %s", c.arg, c.name)
	}
}

// Whatever a stream is called, an argument is what the host wrote with a name of harmless
// characters in it.
func FuzzExpand(f *testing.F) {
	for _, name := range []string{"live/a", "a", "live/-a", "live/a b", "x/$(y)/`z`", "live/ü\xff", "a/{app}/b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := expand([]string{"{name}", "x{stream}y{app}"}, name)
		if err == nil {
			require.False(t, strings.HasPrefix(got[0], "-"))
			require.NotContains(t, got[0], "/")
			require.False(t, strings.ContainsFunc(strings.Join(got, ""), odd))
		}
		got, err = expand([]string{"{name:escaped}", "x{stream:escaped}"}, name)
		if err == nil {
			require.False(t, strings.HasPrefix(got[0], "-"))
			require.Regexp(t, `^[A-Za-z0-9._~/%-]*$`, got[0]+got[1])
		}
	})
}

// A command runs as long as its stream, once for each, and not for a name that it might
// misunderstand.
func TestExec(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "fake")
	require.NoError(t, os.Symlink(os.Args[0], script))
	hub := &stream.Hub{Log: quiet}
	defer hub.Close()
	var log logBuffer
	e := &Exec{
		Hub: hub, Log: log.logger(), Limits: Limits{Memory: -1},
		Match:   func(name string) bool { return name != "live/other" },
		Command: []string{script, filepath.Join(dir, "{name}")},
		Env:     []string{"FAKE=follow"},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	before, err := hub.Publish(t.Context(), "live/before", nil)
	require.NoError(t, err)
	go func() { ran <- e.Run(ctx) }()
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	_, err = hub.Publish(t.Context(), "live/other", nil)
	require.NoError(t, err)
	_, err = hub.Publish(t.Context(), "live/a; touch b", nil)
	require.NoError(t, err)
	pub, err := hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks((&streamtest.Pattern{}).Tracks()...))
	eventually(t, "both", func() bool { return exists("a") && exists("before") })
	require.NoError(t, pub.Close())
	eventually(t, "the end of one", func() bool { return !exists("a") })
	require.True(t, exists("before"))
	require.False(t, exists("other"))
	eventually(t, "a refusal", func() bool { return strings.Contains(log.String(), "command not run") })
	require.Equal(t, 1, strings.Count(log.String(), "command not run"))

	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
	require.False(t, exists("before"), "Run returns when all are gone")
	require.NoError(t, before.Close())

	require.Error(t, (&Exec{Hub: hub}).Run(t.Context()))
	require.ErrorIs(t, (&Exec{Hub: hub, Command: []string{"x", "{typo}"}}).Run(t.Context()), errVariable)
}

// A command that ends while its stream goes on is started again.
func TestExecAgain(t *testing.T) {
	dir := t.TempDir()
	hub := &stream.Hub{Log: quiet}
	defer hub.Close()
	_, err := hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	e := &Exec{
		Hub: hub, Log: quiet, Limits: Limits{Memory: -1}, Match: func(string) bool { return true },
		Command: []string{os.Args[0]}, Env: []string{"FAKE=once", "ONCE=" + filepath.Join(dir, "first")},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	eventually(t, "the first run", func() bool {
		_, err := os.Stat(filepath.Join(dir, "first"))
		return err == nil
	})
	require.NoError(t, os.Remove(filepath.Join(dir, "first")))
	eventually(t, "the second run", func() bool {
		_, err := os.Stat(filepath.Join(dir, "first"))
		return err == nil
	})
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
}

// What a command gets on standard input is the stream.
func TestExecFeed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ts")
	hub := &stream.Hub{Log: quiet}
	defer hub.Close()
	e := &Exec{
		Hub: hub, Log: quiet, Limits: Limits{Memory: -1}, Match: func(string) bool { return true },
		Command: []string{os.Args[0]}, Env: []string{"FAKE=save", "FILE=" + file}, Feed: true,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	p := &streamtest.Pattern{}
	pub, err := hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(p.Tracks()...))
	var sent []*stream.Frame
	for f := range p.Frames(100) {
		sent = append(sent, f)
		if len(sent) <= 20 {
			require.NoError(t, pub.Write(f))
		}
	}
	go func() { ran <- e.Run(ctx) }()
	var got reel
	read := func(n int) func() bool {
		return func() bool {
			f, err := os.Open(file)
			if err != nil {
				return false
			}
			defer f.Close()
			got = reel{}
			_, _ = (&mpegts.Demuxer{Sink: &got}).ReadFrom(f)
			return len(got.frames) >= n
		}
	}
	eventually(t, "what was there before", read(10))
	for _, f := range sent[20:] {
		require.NoError(t, pub.Write(f))
	}
	require.NoError(t, pub.Close())
	eventually(t, "all", read(90))
	require.Len(t, got.tracks, 2)
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
}
