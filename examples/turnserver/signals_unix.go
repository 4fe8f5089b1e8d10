//go:build unix

package main

import (
	"os"
	"syscall"
)

// controls are the signals that change something.
func controls() []os.Signal { return []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} }

func actionOf(s os.Signal) action {
	switch s {
	case syscall.SIGUSR1:
		return drain
	case syscall.SIGUSR2:
		return reloadCertificates
	}
	return reload
}
