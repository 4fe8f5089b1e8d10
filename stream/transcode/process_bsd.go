//go:build unix && !linux

package transcode

import (
	"os/exec"
	"syscall"
)

// dieWithParent does nothing: a program whose pipes break ends soon enough.
func dieWithParent(*syscall.SysProcAttr) {}

func (c *command) limit(pid int) error { return c.renice(pid) }

// reap waits for the end of the leader, kills the rest of its group, and returns how
// the leader ended. There is no way to wait here that leaves the leader's number taken,
// but numbers come round late.
func (p *process) reap(leader *exec.Cmd) error {
	err := leader.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	killGroup(leader)
	p.reaped = true
	return err
}
