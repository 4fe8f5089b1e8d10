package rtp

// A Counter makes numbers that wrap (sequence numbers, timestamps) into ones
// that do not. The zero value is ready: the first number stays as it is.
type Counter struct {
	last  int64
	begun bool
}

// Next16 returns a number of 16 bits as the nearest to the last one.
func (c *Counter) Next16(v uint16) int64 {
	return c.next(int64(v), func(last int64) int64 { return int64(int16(v - uint16(last))) })
}

// Next32 returns a number of 32 bits as the nearest to the last one.
func (c *Counter) Next32(v uint32) int64 {
	return c.next(int64(v), func(last int64) int64 { return int64(int32(v - uint32(last))) })
}

func (c *Counter) next(v int64, step func(last int64) int64) int64 {
	if c.begun {
		v = c.last + step(c.last)
	}
	c.last, c.begun = v, true
	return v
}
