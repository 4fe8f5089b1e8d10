package main

import (
	"context"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain: the command starts itself again for its players and its guard, so
// the test's binary is the command if it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.ContainsFunc(commands(), func(c command) bool { return c.name == os.Args[1] }) {
		main()
		return
	}
	os.Exit(m.Run())
}

// need skips the test without the file or program, or fails it where
// RUNNEL_E2E=1 says that every peer must be there.
func need(t *testing.T, what string, ok bool) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("RUNNEL_E2E") == "1":
		t.Fatalf("%s is missing and RUNNEL_E2E=1: make peers installs it", what)
	default:
		t.Skipf("%s is missing: make peers installs it", what)
	}
}

// TestFanout is the whole command in small: real servers, publisher and
// players. What it measures is not judged, but that every player is served.
func TestFanout(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(supported())
	}
	for _, program := range []string{"ffmpeg", findNginx()} {
		_, err := exec.LookPath(program)
		need(t, program, err == nil)
	}
	_, err := os.Stat(nginxModule)
	need(t, "nginx's RTMP module", err == nil)
	_, err = exec.LookPath("go")
	need(t, "the go command", err == nil)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, log strings.Builder
	err = runFanout(ctx, []string{"-short", "-md", "-protocols", "flv,ws,rtmp", "-players", "30", "-window", "1500ms", "-cache", t.TempDir()}, nil, &out, &log)
	require.NoError(t, err, log.String())
	t.Log(log.String() + out.String())
	rows := 0
	for line := range strings.Lines(out.String()) {
		cells := strings.Split(line, " | ")
		if len(cells) != len(columns) || cells[2] == "---" || cells[1] == columns[1] {
			continue
		}
		rows++
		require.Equal(t, "0", cells[7], "starved: %s", line)
		require.Equal(t, "0", cells[8], "lost: %s", line)
		require.NotContains(t, cells[9], "0.0 / 0.0", "no picture was matched: %s", line)
	}
	require.Equal(t, 4, rows)
}

// TestGuard: what a command has started ends with it, however it ends.
func TestGuard(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(supported())
	}
	f, err := newFamily()
	require.NoError(t, err)
	script := filepath.Join(t.TempDir(), "ready")
	p, err := f.Start(exec.Command("sh", "-c", "trap '' TERM INT; touch "+script+"; sleep 60 & wait; wait"))
	require.NoError(t, err)
	err = waitFor(t.Context(), "the child", 10*time.Second, func() bool { _, err := os.Stat(script); return err == nil }, p)
	require.NoError(t, err)
	f.report.Close() // as the kernel does for a process that was killed
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Error("the guard has not killed it")
	}
	f.Close()
	require.Error(t, p.failed())
}

func TestFamilyStops(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(supported())
	}
	f, err := newFamily()
	require.NoError(t, err)
	p, err := f.Start(exec.Command("sh", "-c", "echo hello >&2; sleep 60"))
	require.NoError(t, err)
	require.NoError(t, p.failed())
	err = waitFor(t.Context(), "its word", 10*time.Second, func() bool { return p.log.String() == "hello\n" }, p)
	require.NoError(t, err)
	f.Close()
	require.ErrorContains(t, p.failed(), "hello")
	_, err = f.Start(exec.Command("/nonexistent/program"))
	require.Error(t, err)
}

func TestUsage(t *testing.T) {
	var log strings.Builder
	require.ErrorIs(t, dispatch(t.Context(), nil, nil, io.Discard, &log), flag.ErrHelp)
	require.Contains(t, log.String(), "fanout")
	require.NotContains(t, log.String(), "guard")
	for _, args := range [][]string{{"-servers", "x"}, {"-protocols", "x"}, {"-intervals", "x"}, {"-players", "0"}, {"x"}} {
		require.Error(t, dispatch(t.Context(), append([]string{"fanout"}, args...), nil, io.Discard, io.Discard), args)
	}
}

func TestVariants(t *testing.T) {
	f := &fanout{servers: "nginx-rtmp,runnel", protocols: "flv,rtmp", intervals: "0s,40ms"}
	vs, err := f.variants()
	require.NoError(t, err)
	require.Equal(t, []variant{
		{serverNginx, protoRTMP, 0},
		{serverRunnel, protoFLV, 0}, {serverRunnel, protoFLV, 40 * time.Millisecond},
		{serverRunnel, protoRTMP, 0}, {serverRunnel, protoRTMP, 40 * time.Millisecond},
	}, vs)
}
