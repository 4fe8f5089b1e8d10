// Package ipset answers, for one IP address and without allocating, the
// questions that a server asks before it sends something there: does it lie in
// one of these ranges, what is its special purpose, and which other addresses
// does it stand for (IPv4 addresses inside IPv6 ones).
package ipset

import (
	"encoding/binary"
	"net/netip"
	"sort"
)

// A Range is every address from From to To, both included. Both are of the
// same family; IPv4-mapped IPv6 addresses count as IPv4.
type Range struct {
	From, To netip.Addr
}

// A Set is a set of addresses. The zero Set is empty. It is immutable, so that
// any number of goroutines may ask it.
type Set struct {
	v4 []span4
	v6 []span6
}

type span4 struct{ from, to uint32 }

type span6 struct{ from, to key6 }

// A key6 is an IPv6 address as a number. Comparing its bytes one range end at
// a time is not enough: the order is that of the whole number.
type key6 struct{ hi, lo uint64 }

func (a key6) less(b key6) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a key6) next() key6 {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a
}

func num4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func num6(a netip.Addr) key6 {
	b := a.As16()
	return key6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// New returns the set of the addresses in any of the ranges, which may overlap
// and come in any order. Ranges that are no ranges (an invalid end, ends of two
// families, To before From) hold no address and are left out.
func New(ranges ...Range) Set {
	var s Set
	for _, r := range ranges {
		from, to := r.From.Unmap(), r.To.Unmap()
		switch {
		case !from.IsValid() || from.BitLen() != to.BitLen():
		case from.Is4():
			if f, t := num4(from), num4(to); f <= t {
				s.v4 = append(s.v4, span4{f, t})
			}
		default:
			if f, t := num6(from), num6(to); !t.less(f) {
				s.v6 = append(s.v6, span6{f, t})
			}
		}
	}
	s.v4 = merge(s.v4,
		func(a, b span4) bool { return a.from < b.from },
		func(a, b span4) bool { return b.from <= a.to || b.from-1 == a.to },
		func(a *span4, b span4) { a.to = max(a.to, b.to) })
	s.v6 = merge(s.v6,
		func(a, b span6) bool { return a.from.less(b.from) },
		func(a, b span6) bool { return !a.to.less(b.from) || a.to.next() == b.from },
		func(a *span6, b span6) {
			if a.to.less(b.to) {
				a.to = b.to
			}
		})
	return s
}

// merge sorts spans and joins those that overlap or touch, so that a search
// need look at one only.
func merge[S any](spans []S, less, touch func(a, b S) bool, join func(a *S, b S)) []S {
	sort.Slice(spans, func(i, j int) bool { return less(spans[i], spans[j]) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && touch(out[n-1], s) {
			join(&out[n-1], s)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// Contains reports whether a is in the set. An IPv4-mapped address is the IPv4
// address; a zone is not looked at. The invalid address is in no set. It takes
// time in proportion to the logarithm of the number of ranges.
func (s *Set) Contains(a netip.Addr) bool {
	switch {
	case !a.IsValid():
		return false
	case a.Is4() || a.Is4In6():
		return contains4(s.v4, num4(a))
	default:
		return contains6(s.v6, num6(a))
	}
}

func contains4(spans []span4, n uint32) bool {
	lo, hi := 0, len(spans) // spans[:lo] begin at or before n, spans[hi:] after
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if spans[mid].from <= n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo > 0 && n <= spans[lo-1].to
}

func contains6(spans []span6, n key6) bool {
	lo, hi := 0, len(spans)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if n.less(spans[mid].from) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo > 0 && !spans[lo-1].to.less(n)
}

// Empty reports whether the set holds no address.
func (s *Set) Empty() bool { return len(s.v4) == 0 && len(s.v6) == 0 }
