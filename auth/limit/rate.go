package limit

import (
	"time"

	"github.com/runnel-media/runnel/auth"
)

// How far media may run ahead of its bound, in seconds of it.
const (
	publisherBurst = 5
	playerBurst    = 30
	groupBurst     = 10
)

// tick is how often bit rates are measured.
const tick = time.Second

// maxAsking bounds the Authorizer's questions about sessions that are there.
const maxAsking = 64

// A meter measures a bit rate by what has come in each tick. The Limiter's mu
// guards it.
type meter struct {
	bits  uint64  // of this tick
	last  float64 // bits a second of the last tick
	level float64 // bits beyond the bound so far
	total uint64  // bytes at the last tick; of a session
	young *Lease  // the youngest of this tick; of a group
}

// add counts what a session has moved in this tick.
func (m *meter) add(bits uint64, le *Lease) {
	m.bits += bits
	if m.young == nil || le.serial > m.young.serial {
		m.young = le
	}
}

// settle ends a tick of d seconds, and reports whether the bound is exceeded by
// more than what it allows for burst seconds.
func (m *meter) settle(bound int64, burst, d float64) bool {
	bits := float64(m.bits)
	m.bits = 0
	m.last = bits / d
	if bound <= 0 {
		m.level = 0
		return false
	}
	m.level = max(0, m.level+bits-float64(bound)*d)
	if m.level <= float64(bound)*burst {
		return false
	}
	m.level = float64(bound) * burst / 2 // what an end changes is yet to be seen
	return true
}

// startTicking sees to it that sessions are looked at if there is a reason to.
// mu is held.
func (l *Limiter) startTicking() {
	if l.ticker != nil || !l.ticks() {
		return
	}
	l.ticked = time.Now()
	for le := range l.leases { // what was before does not count
		le.meter.total = le.watched.Bytes()
	}
	l.ticker = time.AfterFunc(tick, l.tick)
}

// ticks reports whether anything of the sessions is bounded.
func (l *Limiter) ticks() bool {
	if len(l.leases) == 0 {
		return false
	}
	p := l.CurrentPolicy()
	return l.bounded > 0 || p.rates() || p.Reauthorize > 0
}

// An ending is a session that is to be ended, once mu is free.
type ending struct {
	lease  *Lease
	reason Reason
	told   *Trip
}

func (l *Limiter) tick() {
	now := time.Now()
	l.mu.Lock()
	if l.ticker = nil; !l.ticks() {
		l.all.meter.last = 0
		l.mu.Unlock()
		return
	}
	d := now.Sub(l.ticked).Seconds()
	l.ticked = now
	l.ticker = time.AfterFunc(tick, l.tick)
	endings := l.measure(max(d, 0.001), now)
	asks := l.due(now)
	l.mu.Unlock()
	for _, e := range endings {
		l.tell(e.told)
		e.lease.watched.End(reached(e.reason))
	}
	for _, le := range asks {
		go func() {
			le.watched.Reauthorize()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.asking--
			le.asking = false
		}()
	}
}

// measure looks at what each session has moved in the last d seconds, and
// returns those that are to end. mu is held.
func (l *Limiter) measure(d float64, now time.Time) []ending {
	p := l.CurrentPolicy()
	var endings []ending
	end := func(le *Lease, r Reason) {
		if le == nil || le.ended {
			return
		}
		le.ended = true
		_, told := l.trip(le.peer.trip(r), now)
		endings = append(endings, ending{le, r, told})
	}
	for le := range l.leases {
		total := le.watched.Bytes()
		bits := (total - le.meter.total) * 8
		le.meter.total, le.meter.bits = total, bits
		bound, burst := le.bound(p)
		if le.meter.settle(bound, burst, d) {
			end(le, BitRatePerSession)
		}
		if le.ended {
			continue
		}
		l.all.meter.add(bits, le)
		if le.addr != nil {
			le.addr.meter.add(bits, le)
		}
		if le.user != nil {
			le.user.meter.add(bits, le)
		}
		if le.strm != nil {
			le.strm.meter.add(bits, le)
		}
	}
	settle := func(g *group, bound int64, r Reason) {
		young := g.meter.young
		g.meter.young = nil
		if g.meter.settle(bound, groupBurst, d) {
			end(young, r)
		}
	}
	for _, s := range l.sources {
		settle(&s.group, p.BitRatePerAddr, BitRatePerAddr)
	}
	for _, u := range l.users {
		settle(u, p.BitRatePerUser, BitRatePerUser)
	}
	for _, s := range l.streams {
		settle(s, p.BitRatePerStream, BitRatePerStream)
	}
	settle(&l.all, p.BitRate, BitRate)
	return endings
}

// bound returns the bit rate of a session, and how far it may run ahead.
func (le *Lease) bound(p *Policy) (bound int64, burst float64) {
	bound, burst = p.PlayerBitRate, playerBurst
	if le.peer.Action == auth.Publish {
		bound, burst = p.PublisherBitRate, publisherBurst
	}
	if n := le.peer.Limits.BitRate; n > 0 && (bound <= 0 || n < bound) {
		bound = n
	}
	return bound, burst
}

// due returns the sessions about which the Authorizer is to be asked now. mu is
// held.
func (l *Limiter) due(now time.Time) (list []*Lease) {
	every := l.CurrentPolicy().Reauthorize
	if every <= 0 {
		return nil
	}
	for le := range l.leases {
		if l.asking >= maxAsking {
			break // the others a tick later
		}
		if le.asking || le.ended || now.Sub(le.asked) < every {
			continue
		}
		le.asked, le.asking = now, true
		l.asking++
		list = append(list, le)
	}
	return list
}
