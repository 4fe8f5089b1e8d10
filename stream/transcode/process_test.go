package transcode

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProcess(t *testing.T) {
	t.Setenv("SECRET", "of this process")
	got, p := output(t, fakeCommand("env", "A=b"))
	require.Equal(t, `["FAKE=env" "A=b"] "`+rootDir+`"`, strings.Replace(got, `"FAKE=env" "A=b" "SYSTEMROOT`, "", 1), "nothing of ours")
	require.False(t, p.failed())
	require.True(t, p.ended())
	p.kill(nil) // nobody any more
	p.stop(true, time.Minute)

	_, err := (&command{path: "/none/such"}).start()
	require.ErrorContains(t, err, "transcode: such: ")
}

// What a program complains of is in the error, as far as it is the end.
func TestProcessFails(t *testing.T) {
	c := fakeCommand("crash")
	c.secrets = []string{"such"}
	_, p := output(t, c)
	require.True(t, p.failed())
	require.ErrorContains(t, p.err, "exit status 3")
	require.ErrorContains(t, p.err, "no … encoder")
	require.Less(t, len(p.err.Error()), tailSize+200)
	require.NotContains(t, p.err.Error(), "a line before")
}

// A program that complains without end does its work, and little of it is kept.
func TestProcessFloods(t *testing.T) {
	c := fakeCommand("flood")
	c.feed = true
	p, err := c.start()
	require.NoError(t, err)
	for range 100 {
		_, err := p.stdin.Write(make([]byte, 1000))
		require.NoError(t, err)
		_, err = io.ReadFull(p.outputs[0], make([]byte, 1000))
		require.NoError(t, err)
	}
	p.stop(false, time.Minute)
	require.False(t, p.failed())
	require.ErrorContains(t, p.err, "complaint")
	require.Less(t, len(p.err.Error()), tailSize+200)
}

func TestProcessTime(t *testing.T) {
	c := fakeCommand("deaf")
	c.limits.Time = 50 * time.Millisecond
	_, p := output(t, c)
	require.ErrorIs(t, p.err, errTime)
}

// The end of input and SIGTERM are two ways to ask; who takes neither is killed.
func TestProcessStop(t *testing.T) {
	c := fakeCommand("copy")
	c.feed = true
	p, err := c.start()
	require.NoError(t, err)
	_, err = p.stdin.Write([]byte("the end"))
	require.NoError(t, err)
	p.stop(false, time.Minute)
	require.False(t, p.failed())
	b, err := io.ReadAll(p.outputs[0])
	require.NoError(t, err)
	require.Equal(t, "the end", string(b), "nothing is lost")

	p, err = fakeCommand("deaf").start()
	require.NoError(t, err)
	p.stop(true, time.Minute)
	require.True(t, p.failed())

	p, err = fakeCommand("stubborn").start()
	require.NoError(t, err)
	line := make([]byte, 32)
	n, err := p.outputs[0].Read(line) // it is ready
	require.NoError(t, err)
	_, err = strconv.Atoi(strings.TrimSpace(string(line[:n])))
	require.NoError(t, err)
	p.stop(true, 10*time.Millisecond)
	require.True(t, p.failed())
}

func TestTail(t *testing.T) {
	var w tail
	for i := range 1000 {
		n, err := io.WriteString(&w, strconv.Itoa(i)+"\n")
		require.NoError(t, err)
		require.Equal(t, len(strconv.Itoa(i))+1, n)
		require.LessOrEqual(t, len(w.buf), tailSize)
	}
	require.True(t, strings.HasSuffix(w.String(), "998\n999"))
	_, _ = w.Write([]byte(strings.Repeat("x", 3*tailSize) + "\xff"))
	require.Equal(t, strings.Repeat("x", tailSize-1)+"?", w.String())
	require.Equal(t, "a … b", redact("a secret b", []string{"", "secret"}))
	require.False(t, errors.Is(errTime, errExited))
}
