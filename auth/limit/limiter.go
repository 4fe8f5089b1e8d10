package limit

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
)

// A Limiter counts and bounds peers. The zero Limiter has no bounds but those
// of Grants. All methods may be called from many goroutines at once; it must
// not be copied.
type Limiter struct {
	// Tripped, if set, is told of refusals and of sessions that are ended: for
	// each Reason at most once a second, with how many there were. It is called
	// from the goroutines that peers wait for and must not block. Set it before
	// first use.
	Tripped func(Trip)

	// Exempt are addresses like those of Policy.Exempt, whatever the Policy: the
	// proxies that a host knows of. Set it before first use.
	Exempt []netip.Prefix

	policy atomic.Pointer[Policy]

	mu       sync.Mutex
	conns    int
	connRate bucket
	sources  map[netip.Addr]*source
	swept    int // how many sources were left after the last sweep
	users    map[string]*group
	streams  map[string]*group
	all      group
	leases   map[*Lease]struct{} // sessions that are watched
	bounded  int                 // those of leases whose Grants bound a bit rate
	serial   uint64
	asking   int // sessions that are asked about again
	ticker   *time.Timer
	ticked   time.Time
	refused  map[Reason]uint64
	told     map[Reason]*telling
}

// A Trip is a bound that was reached.
type Trip struct {
	Reason Reason
	Addr   netip.Addr // of the last peer; invalid if there is none
	User   string
	Stream string
	Count  int // of refusals since the last Trip of the Reason, this one included
}

// telling is how far Tripped was told of a Reason.
type telling struct {
	at    time.Time
	count int // since then
}

// A group is what peers share: an address, a user, a stream, or all.
type group struct {
	sessions int
	meter    meter
}

// A source is what is known of an address.
type source struct {
	group
	conns int
	rate  bucket
}

func (s *source) idle(now time.Time) bool {
	return s.conns == 0 && s.sessions == 0 && !s.rate.due.After(now)
}

// A bucket bounds a rate of events. It holds the time at which those so far
// would have come at the full rate. The Limiter's mu guards it.
type bucket struct{ due time.Time }

// take lets one more pass at now if the rate allows it.
func (b *bucket) take(rate float64, now time.Time) bool {
	if !b.ready(rate, now) {
		return false
	}
	if rate > 0 {
		if b.due.Before(now) {
			b.due = now
		}
		b.due = b.due.Add(time.Duration(float64(time.Second) / rate))
	}
	return true
}

func (b *bucket) ready(rate float64, now time.Time) bool {
	if rate <= 0 {
		return true
	}
	burst := max(2*rate, 10)
	return b.due.Sub(now) <= time.Duration((burst-1)/rate*float64(time.Second))
}

// SetPolicy puts p in force from now on. nil is a Policy without bounds. p must
// not be changed afterwards.
func (l *Limiter) SetPolicy(p *Policy) {
	if p == nil {
		p = &Policy{}
	}
	l.policy.Store(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startTicking()
}

// CurrentPolicy returns the policy in force, which must not be changed.
func (l *Limiter) CurrentPolicy() *Policy {
	if p := l.policy.Load(); p != nil {
		return p
	}
	return &Policy{}
}

// Usage is what there is at one moment.
type Usage struct {
	Conns    int     // open connections
	Sessions int     // open sessions
	Addrs    int     // addresses, and /64 networks, that have either
	Users    int     // users with sessions
	Streams  int     // streams with sessions
	BitRate  float64 // bits a second in the last second; 0 while no bit rate is bounded
	// Refused counts refusals, and sessions that were ended, by Reason. All
	// Reasons are in it.
	Refused map[Reason]uint64
}

// Usage returns the figures now.
func (l *Limiter) Usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := Usage{Conns: l.conns, Sessions: l.all.sessions, Users: len(l.users), Streams: len(l.streams),
		BitRate: l.all.meter.last, Refused: make(map[Reason]uint64, len(Reasons))}
	for _, s := range l.sources {
		if s.conns > 0 || s.sessions > 0 {
			u.Addrs++
		}
	}
	for _, r := range Reasons {
		u.Refused[r] = 0
	}
	maps.Copy(u.Refused, l.refused)
	return u
}

// source returns the entry of an address, nil for the invalid address. mu is
// held.
func (l *Limiter) source(a netip.Addr, now time.Time) *source {
	if !a.IsValid() {
		return nil
	}
	a = halfopen.Source(a)
	s := l.sources[a]
	if s == nil {
		if l.sources == nil {
			l.sources = make(map[netip.Addr]*source)
		}
		if len(l.sources) >= 2*l.swept+1024 { // each entry is looked at once for each that came
			maps.DeleteFunc(l.sources, func(_ netip.Addr, s *source) bool { return s.idle(now) })
			l.swept = len(l.sources)
		}
		s = &source{}
		l.sources[a] = s
	}
	return s
}

// forget takes the entry of an address away if there is nothing in it. mu is
// held.
func (l *Limiter) forget(a netip.Addr, s *source, now time.Time) {
	if s != nil && s.idle(now) {
		delete(l.sources, halfopen.Source(a))
	}
}

// trip counts a refusal. It returns the error, and what Tripped is to be told
// when mu is not held any more; nil: nothing. mu is held.
func (l *Limiter) trip(t Trip, now time.Time) (error, *Trip) {
	if l.refused == nil {
		l.refused, l.told = make(map[Reason]uint64), make(map[Reason]*telling)
	}
	l.refused[t.Reason]++
	told := l.told[t.Reason]
	if told == nil {
		told = &telling{}
		l.told[t.Reason] = told
	}
	told.count++
	if l.Tripped == nil || now.Sub(told.at) < time.Second {
		return &Error{t.Reason}, nil
	}
	t.Count = told.count
	told.at, told.count = now, 0
	return &Error{t.Reason}, &t
}

func (l *Limiter) tell(t *Trip) {
	if t != nil {
		l.Tripped(*t)
	}
}
