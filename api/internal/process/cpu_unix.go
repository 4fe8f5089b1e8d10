//go:build unix

package process

import (
	"syscall"
	"time"
)

// CPUTime is what this process has used, in its own code and in the system's; 0
// if that is not known.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
