package turn

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
)

// A sourceLimiter bounds how many answers to unauthenticated requests (401,
// 438, 400 …) one source gets, so that a forged source is not flooded through
// us. A source is an IPv4 address, or the /64 of an IPv6 one, which a single
// machine has at will.
//
// Its memory is fixed: a table of sets of four entries, found by a keyed hash
// that strangers can't steer. An entry is one word, a mark of the source and
// the time until which its answers are spent, so that there is no lock. A new
// source takes over the entry of its set that is free the longest: a flood of
// forged sources can't use up the answers of an honest one, and each forged
// source is bounded all the same.
type sourceLimiter struct {
	seed  maphash.Seed
	table []sourceSet
	gap   int64 // microseconds between two answers
	burst int64 // microseconds that a source may run ahead
}

// A sourceSet fills half of a cache line.
type sourceSet [4]atomic.Uint64 // 16 bits of mark, 48 bits of time in microseconds

const (
	sourceSets    = 4096 // 128 KB
	sourceTime    = 1<<48 - 1
	sourceMarkBit = 48
)

// newSourceLimiter returns one that allows rate answers a second to a source
// after the first few, burst of them. It returns nil, which allows everything,
// if rate is not positive.
func newSourceLimiter(rate float64, burst int) *sourceLimiter {
	if !(rate > 0) {
		return nil
	}
	gap := max(int64(1e6/rate), 1)
	return &sourceLimiter{
		seed:  maphash.MakeSeed(),
		table: make([]sourceSet, sourceSets),
		gap:   gap,
		burst: gap * int64(max(burst, 1)),
	}
}

// allow reports whether src may have one more answer at now, a monotonic time
// in nanoseconds that is not negative, and counts it. For any number of
// goroutines; it does not allocate.
func (s *sourceLimiter) allow(src netip.Addr, now int64) bool {
	if s == nil {
		return true
	}
	h := s.hash(src)
	set := &s.table[h%sourceSets]
	mark := h >> sourceMarkBit << sourceMarkBit
	us := max(now, 0) / 1000
	for range 8 { // each round lost means that others were answered
		var entry *atomic.Uint64
		var old uint64
		oldest := int64(1) << 62
		for i := range set {
			v := set[i].Load()
			if v>>sourceMarkBit<<sourceMarkBit == mark && v&sourceTime != 0 {
				entry, old = &set[i], v
				break
			}
			if t := int64(v & sourceTime); t < oldest {
				entry, old, oldest = &set[i], v, t
			}
		}
		due := us
		if old>>sourceMarkBit<<sourceMarkBit == mark {
			due = max(due, int64(old&sourceTime))
		}
		due += s.gap
		if due-us > s.burst {
			return false
		}
		if entry.CompareAndSwap(old, mark|uint64(due)&sourceTime) {
			return true
		}
	}
	return false
}

// hash is keyed by a seed of this limiter's own.
func (s *sourceLimiter) hash(src netip.Addr) uint64 {
	src = src.Unmap()
	if src.Is4() {
		b := src.As4()
		return maphash.Comparable(s.seed, binary.BigEndian.Uint32(b[:]))
	}
	b := src.As16()
	return maphash.Comparable(s.seed, binary.BigEndian.Uint64(b[:8]))
}
