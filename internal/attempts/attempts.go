// Package attempts counts wrong credentials by source, so that nobody tries
// many.
package attempts

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
)

// A Counter counts by source: an IPv4 address or the /64 of an IPv6 address.
// Its size is fixed: sources that fall together, which strangers can't steer,
// share a count. The zero Counter is ready; it is for any number of goroutines.
type Counter struct {
	mu    sync.Mutex
	slots []slot // made by the first Add
	seed  maphash.Seed
}

type slot struct {
	count int
	since time.Time
}

const slots = 4096

// slot returns the count of a source; mu is held.
func (c *Counter) slot(from netip.Addr, per time.Duration) *slot {
	s := &c.slots[maphash.Comparable(c.seed, halfopen.Source(from))%slots]
	if time.Since(s.since) > per {
		*s = slot{since: time.Now()}
	}
	return s
}

// Count returns how often a source has failed of late: since a failure that is
// no longer ago than per.
func (c *Counter) Count(from netip.Addr, per time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots == nil {
		return 0
	}
	return c.slot(from, per).count
}

// Add counts a failure.
func (c *Counter) Add(from netip.Addr, per time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots == nil {
		c.slots, c.seed = make([]slot, slots), maphash.MakeSeed()
	}
	c.slot(from, per).count++
}
