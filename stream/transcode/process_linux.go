package transcode

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// limit sets the limits of a process that has just begun. It is called by a goroutine
// that keeps to its thread.
func (c *command) limit(pid int) error {
	if c.user == nil {
		return errors.Join(c.renice(pid), c.bound(pid))
	}
	// Without further privileges, of which containers have few, only a process's own
	// user may limit it. To the kernel a user is a thread's.
	id := func(trap uintptr, real, effective, saved int) error {
		if _, _, errno := syscall.RawSyscall(trap, uintptr(real), uintptr(effective), uintptr(saved)); errno != 0 {
			return errno
		}
		return nil
	}
	uid, gid, ours, our := int(c.user.UID), int(c.user.GID), os.Geteuid(), os.Getegid()
	if err := id(syscall.SYS_SETRESGID, gid, gid, our); err != nil {
		return err
	}
	err := id(syscall.SYS_SETRESUID, uid, uid, ours)
	if err == nil {
		err = errors.Join(c.renice(pid), c.bound(pid))
		if back := id(syscall.SYS_SETRESUID, ours, ours, ours); back != nil {
			panic(back) // it cannot be, and the thread must not go on
		}
	}
	if back := id(syscall.SYS_SETRESGID, our, our, our); back != nil {
		panic(back)
	}
	return err
}

// bound sets the limits of resources. What the process reads from us has not been sent
// yet.
func (c *command) bound(pid int) error {
	set := func(resource int, limit uint64) error {
		err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: limit, Max: limit}, nil)
		if errors.Is(err, unix.ESRCH) {
			return nil // it is gone already
		}
		return err
	}
	var errs []error
	if d := c.limits.CPU; d > 0 {
		errs = append(errs, set(unix.RLIMIT_CPU, uint64((d+time.Second-1)/time.Second)))
	}
	memory := c.limits.Memory
	if memory == 0 {
		memory = defaultMemory
	}
	if memory > 0 {
		errs = append(errs, set(unix.RLIMIT_AS, uint64(memory)))
	}
	if !c.files {
		errs = append(errs, set(unix.RLIMIT_FSIZE, 0))
	}
	return errors.Join(append(errs, set(unix.RLIMIT_CORE, 0))...)
}

// reap waits for the end of the leader, kills the rest of its group, and returns how
// the leader ended.
func (p *process) reap(leader *exec.Cmd) error {
	for { // for its end, but leave it to be reaped
		err := unix.Waitid(unix.P_PID, leader.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	killGroup(leader)
	p.reaped = true
	return leader.Wait()
}
