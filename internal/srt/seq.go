package srt

// A seq is a packet sequence number: 31 bits that wrap.
type seq uint32

const seqMask = 1<<31 - 1

// add returns the number n packets on, or back if n < 0.
func (s seq) add(n int) seq { return seq(uint32(s)+uint32(int32(n))) & seqMask }

// sub returns how many packets s is after o, as the shorter way round says:
// from -2^30 to 2^30-1.
func (s seq) sub(o seq) int { return int(int32((uint32(s)-uint32(o))<<1) >> 1) }

func (s seq) before(o seq) bool { return s.sub(o) < 0 }
