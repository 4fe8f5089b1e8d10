package transcode

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// alive reports whether a process runs; one that waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	after := string(b[strings.LastIndexByte(string(b), ')')+1:])
	return !strings.HasPrefix(strings.TrimSpace(after), "Z")
}

// child reads the number of the process that a fake has started.
func child(t *testing.T, p *process) int {
	t.Helper()
	line, err := bufio.NewReader(p.outputs[0]).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.True(t, alive(pid))
	return pid
}

// What a program starts ends with it, whoever ends it, though it takes no SIGTERM.
func TestProcessGroup(t *testing.T) {
	p, err := fakeCommand("fork").start()
	require.NoError(t, err)
	pid := child(t, p)
	p.kill(errTime)
	<-p.exited
	require.ErrorIs(t, p.err, errTime)
	eventually(t, "the child's end", func() bool { return !alive(pid) })

	p, err = fakeCommand("leave").start()
	require.NoError(t, err)
	line, err := bufio.NewReader(p.outputs[0]).ReadString('\n')
	if !errors.Is(err, io.EOF) { // or killed before it said so
		require.NoError(t, err)
		pid, err = strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err)
		eventually(t, "the child's end", func() bool { return !alive(pid) })
	}
	<-p.exited
}

// It does not outlive the process that has started it, even if that is killed.
func TestProcessParent(t *testing.T) {
	p, err := fakeCommand("parent").start()
	require.NoError(t, err)
	pid := child(t, p) // of another group
	require.NoError(t, syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL))
	<-p.exited
	eventually(t, "the grandchild's end", func() bool { return !alive(pid) })
}

func TestProcessLimits(t *testing.T) {
	c := fakeCommand("burn")
	c.limits.CPU = time.Second
	_, p := output(t, c)
	require.True(t, p.failed())
	require.ErrorContains(t, p.err, "signal: ")

	file := filepath.Join(t.TempDir(), "file")
	c = fakeCommand("write", "FILE="+file)
	c.feed = true
	got, _ := output(t, c)
	require.Contains(t, got, "file too large")
	c.files = true
	got, _ = output(t, c)
	require.Equal(t, "<nil>", got)
}

func TestProcessMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes terabytes of address space")
	}
	c := fakeCommand("eat")
	c.limits.Memory = 2 << 30
	c.limits.Time = time.Minute
	_, p := output(t, c)
	require.True(t, p.failed())
	require.NotErrorIs(t, p.err, errTime)
}

func TestProcessUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	c := &command{path: "/bin/sh", args: []string{"-c", "read line; id -u; id -g; nice; ulimit -f"}, feed: true, outputs: 1, user: &User{UID: 65534, GID: 65533}, limits: Limits{Nice: 5}}
	got, p := output(t, c)
	require.False(t, p.failed(), "%v", p.err)
	require.Equal(t, "65534\n65533\n5\n0\n", got)
}
