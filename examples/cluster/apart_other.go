//go:build !unix

package main

import "os/exec"

// apart would keep Ctrl-C from a child, which ends by it as well.
func apart(*exec.Cmd) {}
