package relay

import (
	"context"
	"math/rand/v2"
	"time"
)

// A backoff says how long to wait before the next attempt.
type backoff struct {
	min, max time.Duration
	next     time.Duration
}

func (r *Relay) backoff() backoff {
	b := backoff{min: or(r.MinBackoff, defaultMinBackoff), max: or(r.MaxBackoff, defaultMaxBackoff)}
	b.max = max(b.min, b.max)
	return b
}

func (b *backoff) reset() { b.next = 0 }

// wait sleeps until the next attempt is due or ctx ends, whose error it
// returns. The time is between half of and all of one that doubles, so that
// those who lost the same server do not come back together.
func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(b.next*2, b.min), b.max)
	t := time.NewTimer(b.next/2 + rand.N(b.next/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
