//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// apart keeps Ctrl-C from a child: it is told to end by its parent.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
