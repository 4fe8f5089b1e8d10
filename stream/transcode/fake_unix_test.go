//go:build unix

package transcode

import (
	"os"
	"os/signal"
	"syscall"
)

func ignoreTerminate() { signal.Ignore(syscall.SIGTERM) }

// terminated tells that the process was asked to end, from now on.
func terminated() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	return c
}
