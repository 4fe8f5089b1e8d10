//go:build unix

package main

import (
	"os"
	"syscall"
)

// reopenSignals ask for the log to be opened anew.
var reopenSignals = []os.Signal{syscall.SIGUSR1}
