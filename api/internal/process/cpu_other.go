//go:build !unix

package process

import "time"

// CPUTime is not known here.
func CPUTime() time.Duration { return 0 }
