//go:build unix && !solaris && !aix

package record

import (
	"os"
	"syscall"
)

// moveOpen tells that a file can be renamed while it is open.
const moveOpen = true

// lockFile marks a file as being written, until it is closed or the process ends,
// and reports whether nobody else had done so. A file system without locks is
// taken for one that nobody else uses.
func lockFile(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK
}
