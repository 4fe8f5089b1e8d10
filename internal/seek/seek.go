// Package seek does the sums of an io.Seeker whose size is known.
package seek

import (
	"errors"
	"io"
)

var (
	errWhence = errors.New("seek: invalid whence")
	errBefore = errors.New("seek: before the start")
)

// To returns the place that a Seek leads to from a place in something of that size. It
// may be behind the end.
func To(at, size, offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += at
	case io.SeekEnd:
		offset += size
	default:
		return at, errWhence
	}
	if offset < 0 {
		return at, errBefore
	}
	return offset, nil
}
