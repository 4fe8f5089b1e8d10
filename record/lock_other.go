//go:build !unix || solaris || aix

package record

import (
	"os"
	"time"
)

// moveOpen tells that a file can be renamed while it is open.
const moveOpen = false

// lockFile reports whether nobody seems to write the file: without locks, by its
// age.
func lockFile(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && time.Since(info.ModTime()) > time.Minute
}
