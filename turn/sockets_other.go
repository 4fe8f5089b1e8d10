//go:build !linux

package turn

// socketCount is 1: SO_REUSEPORT does not share the clients out elsewhere.
func socketCount(int) int { return 1 }
