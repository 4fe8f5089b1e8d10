package transcode

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain runs the tests, or is the program that they start: a fake ffmpeg, which does
// what FAKE says.
func TestMain(m *testing.M) {
	if mode := os.Getenv("FAKE"); mode != "" {
		fake(mode)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeFFmpeg is an FFmpeg that does not transcode. The race detector needs more address
// space than there is.
func fakeFFmpeg(mode string, env ...string) FFmpeg {
	return FFmpeg{Path: os.Args[0], Env: append([]string{"FAKE=" + mode}, env...), Limits: Limits{Memory: -1}, Stall: 10 * time.Second}
}

func fakeCommand(mode string, env ...string) *command {
	f := fakeFFmpeg(mode, env...)
	c := f.command()
	c.outputs = 1
	return c
}

func fake(mode string) {
	outputs := []io.Writer{os.Stdout}
	for i := 3; ; i++ {
		f := os.NewFile(uintptr(i), "")
		if _, err := f.Stat(); err != nil || !strings.Contains(strings.Join(os.Args, " "), "pipe:"+strconv.Itoa(i)) {
			break
		}
		outputs = append(outputs, f)
	}
	out := io.MultiWriter(outputs...)
	switch mode {
	case "env":
		dir, _ := os.Getwd()
		fmt.Printf("%q %q", os.Environ(), dir)
	case "args":
		fmt.Printf("%q", os.Args[1:])
	case "copy":
		_, _ = io.Copy(out, os.Stdin)
	case "crash": // when it has copied a little
		_, _ = io.CopyN(out, os.Stdin, 20*188)
		fmt.Fprintln(os.Stderr, "a line before", strings.Repeat("long ", 1000))
		fmt.Fprintln(os.Stderr, "no such encoder")
		os.Exit(3)
	case "once": // crashes the first time
		name := os.Getenv("ONCE")
		if _, err := os.Stat(name); err != nil {
			_ = os.WriteFile(name, nil, 0o600)
			_, _ = io.CopyN(out, os.Stdin, 20*188)
			os.Exit(3)
		}
		_, _ = io.Copy(out, os.Stdin)
	case "deaf": // takes nothing
		time.Sleep(time.Hour)
	case "dumb": // says nothing
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "flood":
		go func() {
			w := bufio.NewWriter(os.Stderr)
			for i := 0; ; i++ {
				fmt.Fprintln(w, "complaint", i)
			}
		}()
		_, _ = io.Copy(out, os.Stdin)
	case "stubborn": // does not end when it is asked to
		ignoreTerminate()
		fmt.Println(os.Getpid())
		time.Sleep(time.Hour)
	case "fork", "leave": // starts another, which holds its pipes too, and stays or leaves
		child := exec.Command(os.Args[0])
		child.Env = []string{"FAKE=stubborn"}
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		if mode == "fork" {
			time.Sleep(time.Hour)
		}
	case "parent": // starts one as this package does, and waits to be killed
		p, err := fakeCommand("stubborn").start()
		if err != nil {
			panic(err)
		}
		_, _ = io.Copy(os.Stdout, p.outputs[0])
	case "burn":
		for {
		}
	case "eat":
		for kept := [][]byte{}; ; {
			kept = append(kept, make([]byte, 16<<20))
			for i := 0; i < len(kept[len(kept)-1]); i += 4096 {
				kept[len(kept)-1][i] = 1
			}
		}
	case "write": // when its limits are set
		_, _ = io.Copy(io.Discard, os.Stdin)
		err := os.WriteFile(os.Getenv("FILE"), []byte("x"), 0o600)
		fmt.Print(err)
	case "follow": // is there as long as a file is
		asked := terminated() // before anybody sees the file
		if err := os.WriteFile(os.Args[1], nil, 0o600); err != nil {
			panic(err)
		}
		<-asked
		_ = os.Remove(os.Args[1])
	case "save": // what it is given
		f, err := os.Create(os.Getenv("FILE"))
		if err != nil {
			panic(err)
		}
		_, _ = io.Copy(f, os.Stdin)
	case "dump": // its environment and what it is to read
		fmt.Fprintf(os.Stderr, "%q %q", os.Environ(), os.Args[1:])
		os.Exit(1)
	case "ts", "endless": // a file, and then an end or silence
		f, err := os.Open(os.Getenv("FILE"))
		if err != nil {
			panic(err)
		}
		_, _ = io.Copy(os.Stdout, f)
		if mode == "endless" {
			time.Sleep(time.Hour)
		}
	}
}

// A logBuffer is a log to look into.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

// output starts a command, and returns what it writes and the process when that is gone.
func output(t *testing.T, c *command) (string, *process) {
	t.Helper()
	p, err := c.start()
	require.NoError(t, err)
	if p.stdin != nil {
		p.stdin.Close()
	}
	b, err := io.ReadAll(p.outputs[0])
	require.NoError(t, err)
	<-p.exited
	return string(b), p
}
