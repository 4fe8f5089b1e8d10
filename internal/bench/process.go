package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A family is the processes that a command has started. Closing it kills those
// that are left, and what they started; should the command itself be killed,
// the guard does that.
type family struct {
	guard  *exec.Cmd
	report io.WriteCloser // to the guard

	mu      sync.Mutex
	members map[*process]bool
}

// newFamily starts the guard, a process of this very program.
func newFamily() (*family, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &family{guard: exec.Command(self, "guard"), members: make(map[*process]bool)}
	ownGroup(f.guard)
	if f.report, err = f.guard.StdinPipe(); err != nil {
		return nil, err
	}
	if err := f.guard.Start(); err != nil {
		return nil, err
	}
	return f, nil
}

// Close kills every process that still runs and waits for its end.
func (f *family) Close() {
	f.mu.Lock()
	var left []*process
	for p := range f.members {
		left = append(left, p)
	}
	f.mu.Unlock()
	for _, p := range left {
		p.Stop()
	}
	f.report.Close()
	_ = f.guard.Wait() // it has nothing left to do and no result
}

// A process is a member of a family.
type process struct {
	name   string
	cmd    *exec.Cmd
	family *family
	log    tail
	done   chan struct{} // closed when it has ended
	err    error         // how, once done is closed
}

// Start starts a program in a process group of its own. What it prints on
// standard error, and on standard output unless cmd.Stdout is set, goes to log.
func (f *family) Start(cmd *exec.Cmd) (*process, error) {
	p := &process{name: filepath.Base(cmd.Path), cmd: cmd, family: f, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.log
	}
	cmd.Stderr = &p.log
	cmd.WaitDelay = 2 * time.Second
	ownGroup(cmd)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: %s: %w", p.name, err)
	}
	fmt.Fprintf(f.report, "+%d\n", cmd.Process.Pid)
	f.members[p] = true
	go func() {
		p.err = cmd.Wait()
		f.mu.Lock()
		delete(f.members, p)
		fmt.Fprintf(f.report, "-%d\n", cmd.Process.Pid)
		f.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// Stop asks the process to end, kills its group if it does not, and waits.
func (p *process) Stop() {
	signalGroup(p.cmd.Process.Pid, false)
	select {
	case <-p.done:
	case <-time.After(500 * time.Millisecond): // long enough: nobody needs what it would still tidy up
	}
	signalGroup(p.cmd.Process.Pid, true) // members of the group that the leader left behind, too
	<-p.done
}

// failed returns an error if the process has ended.
func (p *process) failed() error {
	select {
	case <-p.done:
		return fmt.Errorf("bench: %s ended (%v): %s", p.name, p.err, strings.TrimSpace(p.log.String()))
	default:
		return nil
	}
}

// waitFor polls until ok says so. It fails when the context or the time ends,
// or one of the processes.
func waitFor(ctx context.Context, what string, timeout time.Duration, ok func() bool, alive ...*process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("bench: not within %v: %s", timeout, what))
	defer cancel()
	for !ok() {
		if err := pause(ctx, 20*time.Millisecond, alive...); err != nil {
			return err
		}
	}
	return nil
}

// pause waits. It fails when the context ends or one of the processes.
func pause(ctx context.Context, d time.Duration, alive ...*process) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
	}
	for _, p := range alive {
		if err := p.failed(); err != nil {
			return err
		}
	}
	return nil
}

// tail keeps the last bytes that are written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// interrupt ends a process that tidies up on an interrupt, such as perf.
func (p *process) interrupt() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.Stop()
	}
}
