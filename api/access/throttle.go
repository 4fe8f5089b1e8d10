package access

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// A throttle counts wrong credentials by source, so that nobody tries many. Its
// size is fixed: sources that fall together share a count.
type throttle struct {
	mu    sync.Mutex
	slots [1024]attempts
	seed  maphash.Seed
	ready bool
}

type attempts struct {
	count int
	since time.Time
}

const (
	maxAttempts  = 20
	attemptsTime = time.Minute
)

// slot returns the count of a source; mu is held.
func (t *throttle) slot(from netip.Addr) *attempts {
	if !t.ready {
		t.seed, t.ready = maphash.MakeSeed(), true
	}
	if from.Is6() { // whoever has one address of a network has all of it
		if p, err := from.WithZone("").Prefix(64); err == nil {
			from = p.Addr()
		}
	}
	a := &t.slots[maphash.Comparable(t.seed, from)%uint64(len(t.slots))]
	if time.Since(a.since) > attemptsTime {
		*a = attempts{since: time.Now()}
	}
	return a
}

// tired reports whether a source has failed too often of late.
func (t *throttle) tired(from netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slot(from).count >= maxAttempts
}

// failed counts a failure.
func (t *throttle) failed(from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slot(from).count++
}
