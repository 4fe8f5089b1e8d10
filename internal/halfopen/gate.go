// Package halfopen bounds what peers cost before they have said enough to be
// judged: connections whose first bytes, header or handshake are awaited. A
// Gate counts them, in all and by source; a Listener lets them open beside its
// accept loop, under a deadline.
package halfopen

import (
	"net/netip"
	"sync"
)

// A Gate admits so many at a time, in all and of one source. The zero Gate
// admits everybody. It is for any number of goroutines.
type Gate struct {
	Max       int // in all; 0: no bound
	PerSource int // of one source; 0: no bound

	mu      sync.Mutex
	count   int                // guarded by mu
	sources map[netip.Addr]int // guarded by mu; no more entries than count
}

// Source returns what a Gate takes for one source: the IPv4 address, or the /64
// of the IPv6 address, since a single machine has all of that.
func Source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// Enter admits one more from a, or returns false. The invalid address counts in
// all only. Who was admitted has to Leave.
func (g *Gate) Enter(a netip.Addr) bool {
	src := Source(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Max > 0 && g.count >= g.Max {
		return false
	}
	if g.PerSource > 0 && src.IsValid() {
		if g.sources[src] >= g.PerSource {
			return false
		}
		if g.sources == nil {
			g.sources = make(map[netip.Addr]int)
		}
		g.sources[src]++
	}
	g.count++
	return true
}

// Leave takes back one Enter from a that returned true.
func (g *Gate) Leave(a netip.Addr) {
	src := Source(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count--
	if n, ok := g.sources[src]; ok {
		if n <= 1 {
			delete(g.sources, src)
		} else {
			g.sources[src] = n - 1
		}
	}
}

// Len returns how many are inside.
func (g *Gate) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

type gateError string

func (e gateError) Error() string { return string(e) }

// errFull is told to Failed.
const errFull gateError = "halfopen: too many connections are opening"
