package whep

import (
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/webrtc"
)

// A chooser says which of several layers a path carries, by what is known of it.
// It goes down soon and up late, and later the more often that has failed.
type chooser struct {
	turned   time.Time     // when it last went to another layer
	lossy    int           // looks one after the other at which packets were lost
	low      int           // and at which the estimate was low
	patience time.Duration // how long it waits before it tries to go up; 0: minPatience
	climbed  bool          // the last turn was up
	tried    time.Time     // when it began to see if the path carries more; zero: it does not
	before   int64         // the estimate then, or before it climbed
	recent   [2]int64      // estimates of the last looks
}

const (
	lookEvery   = 500 * time.Millisecond
	lossyLooks  = 3       // before it goes down
	lowLooks    = 6       // and for an estimate, which begins below what there is
	lowRate     = 150_000 // bits a second: below, an estimate says nothing
	settleTime  = 2 * time.Second
	minPatience = 5 * time.Second
	maxPatience = 2 * time.Minute
	probeTime   = 3 * time.Second
	failTime    = 15 * time.Second // a fall within that says that the climb before was wrong

	lossLimit = 0.10 // of packets
	lossNone  = 0.02
)

// look takes the layers' rates in bits a second, from the highest, and which of
// them is sent, less than 0 for none of them. It returns which is to be, and a rate
// to which the path is to be filled to see if it carries that.
func (c *chooser) look(now time.Time, at int, rates []int64, st webrtc.SendStats) (to int, probe int64) {
	if at < 0 || at >= len(rates) {
		return c.turn(now, fitting(rates, 0, st.Bandwidth), false), 0
	}
	if c.patience == 0 {
		c.patience, c.turned = minPatience, now
	}
	count := func(n *int, bad bool) bool {
		if *n++; !bad {
			*n = 0
		}
		return bad
	}
	rises := st.Bandwidth > c.recent[0]
	c.recent = [2]int64{c.recent[1], st.Bandwidth}
	// An estimate that is a little low, or rises, or has not fallen since less was
	// sent, is one that has not been tried.
	fresh := c.climbed && now.Sub(c.turned) < failTime && st.Bandwidth >= c.before
	lossy := count(&c.lossy, st.FractionLost > lossLimit)
	low := count(&c.low, st.Bandwidth > 0 && !rises && !fresh && rates[at] > lowRate && float64(st.Bandwidth) < 0.8*float64(rates[at]))
	bad := lossy || low
	if (c.lossy >= lossyLooks || c.low >= lowLooks) && at < len(rates)-1 && now.Sub(c.turned) >= settleTime {
		to = fitting(rates, at+1, st.Bandwidth)
		if c.climbed && now.Sub(c.turned) < failTime {
			c.later()
		}
		return c.turn(now, to, false), 0
	}
	if at == 0 || bad || now.Sub(c.turned) < c.patience {
		if bad && !c.tried.IsZero() {
			c.giveUp(now)
		}
		return at, 0
	}
	need := rates[at-1] + rates[at-1]/7
	if rates[at-1] <= lowRate {
		need = 0
	}
	switch {
	case st.Bandwidth >= need, st.Bandwidth == 0 && st.FractionLost < lossNone:
		c.before = st.Bandwidth
		return c.turn(now, at-1, true), 0
	case st.Bandwidth == 0:
		return at, 0
	case c.tried.IsZero():
		c.tried, c.before = now, st.Bandwidth
	case now.Sub(c.tried) <= probeTime:
	case st.FractionLost < lossNone && st.Bandwidth >= c.before:
		// It has carried that much, whatever the estimate, which may rise slowly.
		return c.turn(now, at-1, true), 0
	default:
		c.giveUp(now)
		return at, 0
	}
	return at, need
}

// fitting returns the first of the rates from one on that an estimate allows, or
// the last.
func fitting(rates []int64, from int, estimate int64) int {
	if i := slices.IndexFunc(rates[from:], func(r int64) bool { return estimate == 0 || r <= estimate-estimate/10 }); i >= 0 {
		return from + i
	}
	return len(rates) - 1
}

func (c *chooser) turn(now time.Time, to int, up bool) int {
	c.turned, c.lossy, c.low, c.climbed, c.tried = now, 0, 0, up, time.Time{}
	c.patience = max(c.patience, minPatience)
	return to
}

// giveUp ends a trial that has failed.
func (c *chooser) giveUp(now time.Time) {
	c.tried, c.turned = time.Time{}, now
	c.later()
}

func (c *chooser) later() { c.patience = min(2*c.patience, maxPatience) }
