package transcode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Limits bound what a run of a program may take. Beyond them it is killed.
type Limits struct {
	// CPU is processor time, of all threads together. Linux only; 0: no bound.
	CPU time.Duration
	// Memory is address space, in bytes. Programs map more than they use, and
	// drivers of graphics cards much more. Linux only; 0: 4 GiB, negative: no
	// bound.
	Memory int64
	// Time is what passes on the clock. 0: no bound.
	Time time.Duration
	// Nice is by how much everything else goes first, 0 to 19. Unix only.
	Nice int
}

// defaultMemory is what an encoder of 4K pictures does not reach.
const defaultMemory = 4 << 30

// A User is whom a program runs as, for hosts that are root. Unix only.
type User struct {
	UID, GID uint32
	Groups   []uint32 // further groups, such as the one that owns a graphics card
}

// A command is what a process is started from.
type command struct {
	path    string
	args    []string
	env     []string // all of it: nothing of this process's environment is added
	dir     string   // "": the root
	feed    bool     // standard input is a pipe; else it is empty
	outputs int      // pipes that it writes to: standard output, then descriptors 3, 4, …
	files   bool     // it may write files
	limits  Limits
	user    *User
	secrets []string // words that are not to be logged
}

// A process is a running program, the leader of a process group of its own. The
// group does not outlive it, and it does not outlive this process.
type process struct {
	stdin   *os.File   // nil without a feed
	outputs []*os.File // to be read to their end, which may be up to a second after exited
	exited  chan struct{}
	err     error // how it ended, once exited is closed; with what it said last

	mu     sync.Mutex
	cmd    *exec.Cmd
	reaped bool  // its number is nobody's, or somebody else's
	killed error // why it was killed, the first time
}

var errTime = errors.New("time limit")

// errExited is what Wait returns of a program that ended without a fault.
var errExited = errors.New("it ended")

// start starts the program. Somebody must read the outputs, or it will wait.
func (c *command) start() (*process, error) {
	p := &process{exited: make(chan struct{})}
	var theirs []*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			f.Close()
		}
	}
	cmd := exec.Command(c.path, c.args...)
	cmd.Env = append([]string{}, c.env...) // not nil, which means all of ours
	cmd.Dir = cmp.Or(c.dir, rootDir)
	if err := c.prepare(cmd); err != nil {
		return nil, err
	}
	stderr, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = w
	theirs = append(theirs, w)
	fail := func(err error) (*process, error) {
		closeAll(theirs)
		closeAll(p.outputs)
		stderr.Close()
		if p.stdin != nil {
			p.stdin.Close()
		}
		return nil, fmt.Errorf("transcode: %s: %w", filepath.Base(c.path), err)
	}
	if c.feed {
		r, w, err := os.Pipe()
		if err != nil {
			return fail(err)
		}
		cmd.Stdin, p.stdin = r, w
		theirs = append(theirs, r)
	}
	for i := range c.outputs {
		r, w, err := os.Pipe()
		if err != nil {
			return fail(err)
		}
		p.outputs, theirs = append(p.outputs, r), append(theirs, w)
		if i == 0 {
			cmd.Stdout = w
		} else {
			cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		}
	}
	started := make(chan error)
	go p.live(c, cmd, stderr, started)
	err = <-started
	if err != nil {
		return fail(err)
	}
	closeAll(theirs)
	return p, nil
}

// live starts the program and sees to its end. It keeps to one thread, for the
// death of the thread that has started it is what Linux takes for this process's.
func (p *process) live(c *command, cmd *exec.Cmd, stderr *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.cmd = cmd
	limited := c.limit(cmd.Process.Pid)
	started <- nil
	if limited != nil {
		p.kill(limited)
	}
	said := make(chan string)
	go func() {
		var last tail
		_, _ = io.Copy(&last, stderr) // to its end, whatever comes
		stderr.Close()
		said <- last.String()
	}()
	if c.limits.Time > 0 {
		timer := time.AfterFunc(c.limits.Time, func() { p.kill(errTime) })
		defer timer.Stop()
	}
	err := p.reap(cmd) // and kill what is left of the group
	p.mu.Lock()
	if p.killed != nil {
		err = p.killed
	}
	p.mu.Unlock()
	// What has left the group may hold the pipes open, and is not waited for.
	last := time.Now().Add(time.Second)
	_ = stderr.SetReadDeadline(last)
	for _, f := range p.outputs {
		_ = f.SetReadDeadline(last)
	}
	if err == nil {
		err = errExited
	}
	p.err = fmt.Errorf("transcode: %s: %w", filepath.Base(c.path), err)
	if text := redact(<-said, c.secrets); text != "" {
		p.err = fmt.Errorf("%w: %s", p.err, text)
	}
	close(p.exited)
}

// kill ends the process and its group at once. It does not wait.
func (p *process) kill(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	if p.killed == nil {
		p.killed = why
	}
	killGroup(p.cmd)
}

// stop asks the process to end, by the end of its input and, with term, by
// SIGTERM, kills it after a while, and returns when it is gone.
func (p *process) stop(term bool, grace time.Duration) {
	if p.stdin != nil {
		p.stdin.Close()
	}
	if term {
		p.mu.Lock()
		if !p.reaped {
			terminate(p.cmd)
		}
		p.mu.Unlock()
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.kill(context.DeadlineExceeded)
		<-p.exited
	}
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// failed says whether a process that has exited did so with a fault.
func (p *process) failed() bool { return !errors.Is(p.err, errExited) }

// tail keeps the end of what is written to it.
type tail struct{ buf []byte }

// tailSize is how much of a program's complaints is of use in a log.
const tailSize = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	n := len(b)
	if len(b) > tailSize {
		b = b[len(b)-tailSize:]
	}
	if over := len(t.buf) + len(b) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, b...)
	return n, nil
}

func (t *tail) String() string {
	return string(bytes.ToValidUTF8(bytes.TrimSpace(t.buf), []byte("?")))
}

// redact takes secrets out of what a program has said.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	return text
}
