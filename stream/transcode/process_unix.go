//go:build unix

package transcode

import (
	"os/exec"
	"syscall"
)

// rootDir is where programs run: relative names lead nowhere of interest.
const rootDir = "/"

func (c *command) prepare(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	if c.user != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.user.UID, Gid: c.user.GID, Groups: c.user.Groups}
	}
	return nil
}

// renice makes everything else go before a process.
func (c *command) renice(pid int) error {
	if c.limits.Nice <= 0 {
		return nil
	}
	// Of the group, so that it is of all its threads.
	return syscall.Setpriority(syscall.PRIO_PGRP, pid, min(c.limits.Nice, 19))
}

// killGroup kills the group of a process that has not been reaped: until then its
// number is nobody else's.
func killGroup(leader *exec.Cmd) { _ = syscall.Kill(-leader.Process.Pid, syscall.SIGKILL) }

func terminate(leader *exec.Cmd) { _ = syscall.Kill(-leader.Process.Pid, syscall.SIGTERM) }
