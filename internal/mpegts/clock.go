package mpegts

import (
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A clock unwraps the 33-bit timestamps of all streams of a programme
// together, so that those before and after the wrap stay in step. Its zero
// value is ready.
type clock struct {
	last  int64
	begun bool
}

// maxTicks bounds unwrapped timestamps, at some six years: a peer that pretends
// to be older starts again.
const maxTicks = 1 << 44

// unwrap returns the timestamp in 64 bits: the one nearest to the last among
// those that have these low bits. The first is as it is.
func (c *clock) unwrap(ticks int64) int64 {
	if next := c.last + nearest(ticks-c.last); c.begun && next < maxTicks && next > -maxTicks {
		c.last = next
	} else {
		c.last, c.begun = ticks, true
	}
	return c.last
}

// nearest returns the difference of two timestamps, of which only 33 bits are
// known, with its sign.
func nearest(difference int64) int64 {
	difference &= clockMask
	if difference > clockMask/2 {
		difference -= clockMask + 1
	}
	return difference
}

// maxDelay is how long a picture may wait from decoding to presentation.
const maxDelay = 10 * clockRate

// times returns the DTS and PTS for those in a PES header. A PTS that can't
// belong to the DTS is replaced by it.
func (c *clock) times(pts, dts int64) (d, p time.Duration) {
	delay := nearest(pts - dts)
	if delay < 0 || delay > maxDelay {
		delay = 0
	}
	t := c.unwrap(dts)
	return stream.FromTicks(t, clockRate), stream.FromTicks(t+delay, clockRate)
}
