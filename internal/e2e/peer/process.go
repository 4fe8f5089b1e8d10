package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Process is a program that runs beside a test. It and what it started are
// killed when the test ends; if the test failed its log is printed.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  tail
	done chan struct{} // closed when the program has ended
	err  error         // how, once done is closed
}

// Start starts a program, found by Need if it is a bare name. Its output goes
// to Log.
func Start(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	return StartIn(t, "", nil, program, args...)
}

// StartIn is Start in a folder and with more environment, as "NAME=value".
func StartIn(t testing.TB, dir string, env []string, program string, args ...string) *Process {
	t.Helper()
	if !strings.ContainsRune(program, os.PathSeparator) {
		program = Need(t, program)
	}
	p := &Process{name: program, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = 2 * time.Second
	ownGroup(p.cmd)
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		killGroup(p.cmd)
		<-p.done
		if t.Failed() {
			t.Logf("%s %s\nended with: %v\n%s", program, strings.Join(args, " "), p.err, p.Log())
		}
	})
	return p
}

// Log returns the end of what the program printed so far.
func (p *Process) Log() string { return p.log.String() }

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running reports whether the program has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the program to end by itself and returns how: nil for exit
// status 0. The test fails if it takes longer than the timeout.
func (p *Process) Wait(t testing.TB, timeout time.Duration) error {
	t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		t.Fatalf("%s still runs after %v", p.name, timeout)
		return nil
	}
}

// Stop asks the program to end, as SIGTERM does, and is Wait.
func (p *Process) Stop(t testing.TB, timeout time.Duration) error {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("%s: %v", p.name, err)
	}
	return p.Wait(t, timeout)
}

// Kill ends the program without a word to anybody.
func (p *Process) Kill() {
	killGroup(p.cmd)
	<-p.done
}

// WaitLog waits until the program has printed the text.
func (p *Process) WaitLog(t testing.TB, text string, timeout time.Duration) {
	t.Helper()
	Eventually(t, timeout, text+" in the log of "+p.name, func() bool {
		if strings.Contains(p.Log(), text) {
			return true
		}
		if !p.Running() {
			t.Fatalf("%s ended (%v) without printing %q", p.name, p.err, text)
		}
		return false
	})
}

// Eventually polls until the condition holds, and fails the test at the
// timeout.
func Eventually(t testing.TB, timeout time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", timeout, what)
		}
	}
}

// Run runs a program to its end and returns what it wrote to standard output.
// Failure or the timeout fails the test with what it said on standard error.
func Run(t testing.TB, timeout time.Duration, program string, args ...string) []byte {
	t.Helper()
	out, log, err := Try(t, timeout, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, log)
	}
	return out
}

// Try is Run for programs that may fail: it also returns what the program
// said on standard error and how it ended. Unlike Run it may be called from
// any goroutine, once Need has found the program.
func Try(t testing.TB, timeout time.Duration, program string, args ...string) (out []byte, log string, err error) {
	t.Helper()
	var stdout bytes.Buffer
	var stderr tail
	cmd := exec.Command(Need(t, program), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 2 * time.Second
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	timer := time.AfterFunc(timeout, func() { killGroup(cmd) })
	err = cmd.Wait()
	if !timer.Stop() {
		err = fmt.Errorf("still running after %v", timeout)
	}
	return stdout.Bytes(), stderr.String(), err
}

// tail keeps the last bytes that are written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 64 << 10

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, b...)
	if over := len(w.buf) - tailSize; over > tailSize { // move rarely
		w.buf = append(w.buf[:0], w.buf[over:]...)
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.buf[max(0, len(w.buf)-tailSize):])
}
