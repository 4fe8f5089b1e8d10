package turn

import (
	"errors"
	"sync"
	"sync/atomic"
)

// A bucket bounds a rate of bytes. It holds no tokens but the time at which
// what has passed so far would have passed at the full rate: one word, so that
// taking is one compare-and-swap and costs no lock and no allocation. Any
// number of goroutines may use one. The zero bucket is without bounds.
type bucket struct {
	rate atomic.Int64 // bits a second; 0 is no bound
	due  atomic.Int64 // nanoseconds, on the clock that callers give
}

// burst is how far ahead of its rate a bucket lets a sender run: what a video
// encoder puts out at once after a key frame passes, and over any second no
// more than 1.25 times the rate does.
const burst = int64(250e6) // nanoseconds

// setRate sets the rate in bits a second, 0 for no bound, from now on.
func (b *bucket) setRate(bits int64) { b.rate.Store(max(bits, 0)) }

// take lets n bytes pass at now, a monotonic time in nanoseconds, if the rate
// allows it. A bucket whose rate is less than one packet a burst lets a packet
// pass when nothing is due, so that it slows a sender and never silences it.
func (b *bucket) take(n int, now int64) bool {
	rate := b.rate.Load()
	if rate == 0 {
		return true
	}
	cost := cost(n, rate)
	for {
		due := b.due.Load()
		start := max(due, now)
		if start > now && start+cost-now > burst {
			return false
		}
		if b.due.CompareAndSwap(due, start+cost) {
			return true
		}
	}
}

// putBack undoes a take of n bytes.
func (b *bucket) putBack(n int) {
	if rate := b.rate.Load(); rate != 0 {
		b.due.Add(-cost(n, rate))
	}
}

// cost is how many nanoseconds n bytes take at rate bits a second. The bound on
// n keeps the product in 63 bits.
func cost(n int, rate int64) int64 {
	return int64(min(max(n, 0), 1<<29)) * 8e9 / rate
}

// A direction is which way relayed data goes.
type direction uint8

const (
	toPeer   direction = iota // from the client to a peer
	toClient                  // from a peer to the client
)

// A meter is one level at which bandwidth is bounded: a session, a user, a
// realm or the server, each way by itself. The zero meter is without bounds.
type meter [2]bucket

// setRate sets the rate of either way in bits a second; 0 is no bound.
func (m *meter) setRate(bits int64) {
	m[toPeer].setRate(bits)
	m[toClient].setRate(bits)
}

// allow lets n bytes pass the given way at now if every one of the meters does.
// nil meters are skipped. now is monotonic, in nanoseconds.
func allow(meters *[4]*meter, d direction, n int, now int64) bool {
	for i, m := range meters {
		if m == nil || m[d].take(n, now) {
			continue
		}
		for _, m := range meters[:i] {
			if m != nil {
				m[d].putBack(n)
			}
		}
		return false
	}
	return true
}

// quotaLimits are the bounds that one allocation is admitted under. Zero is no
// bound.
type quotaLimits struct {
	User, Realm, Server                       int   // allocations at a time
	SessionRate, UserRate, RealmRate, BitRate int64 // bits a second each way; BitRate is the server's
}

// Why an allocation was not admitted.
var (
	errUserQuota   = errors.New("turn: user quota reached")   // 486
	errRealmQuota  = errors.New("turn: realm quota reached")  // 486
	errServerQuota = errors.New("turn: server quota reached") // 508
)

// quotas counts allocations by user, realm and in all, and holds the meters
// that the allocations of a user, a realm and the server share. The zero value
// is ready. All of it is for any number of goroutines; it is asked once an
// allocation, never once a packet.
type quotas struct {
	total meter

	mu     sync.Mutex
	users  map[userKey]*account // guarded by mu, and the counts in it
	realms map[string]*account
	count  int
}

type userKey struct{ realm, user string }

// An account is what one user, or one realm, has at the moment. It is
// forgotten when it has nothing.
type account struct {
	count int
	meter meter
}

// A lease is one admitted allocation: its share of the quotas until release,
// and the meters that its data passes, its own first.
type lease struct {
	meters [4]*meter // session, user, realm, server; nil where there is no bound to share

	q           *quotas
	realm, user string
	own         meter
	released    atomic.Bool
}

// acquire admits one more allocation of a user of a realm, or says which quota
// is full. The rates of the user, the realm and the server become those of
// limits at once, for their live allocations too.
func (q *quotas) acquire(realm, user string, limits quotaLimits) (*lease, error) {
	key := userKey{realm, user}
	q.mu.Lock()
	defer q.mu.Unlock()
	u, r := q.users[key], q.realms[realm]
	switch {
	case limits.Server > 0 && q.count >= limits.Server:
		return nil, errServerQuota
	case limits.Realm > 0 && r != nil && r.count >= limits.Realm:
		return nil, errRealmQuota
	case limits.User > 0 && u != nil && u.count >= limits.User:
		return nil, errUserQuota
	}
	if q.users == nil {
		q.users, q.realms = make(map[userKey]*account), make(map[string]*account)
	}
	if u == nil {
		u = new(account)
		q.users[key] = u
	}
	if r == nil {
		r = new(account)
		q.realms[realm] = r
	}
	u.count++
	r.count++
	q.count++

	l := &lease{q: q, realm: realm, user: user}
	l.own.setRate(limits.SessionRate)
	u.meter.setRate(limits.UserRate)
	r.meter.setRate(limits.RealmRate)
	q.total.setRate(limits.BitRate)
	l.meters = [4]*meter{&l.own, &u.meter, &r.meter, &q.total}
	return l, nil
}

// allow lets n bytes pass the given way at now, a monotonic time in
// nanoseconds, if the session, its user, its realm and the server all may. It
// neither locks nor allocates.
func (l *lease) allow(d direction, n int, now int64) bool { return allow(&l.meters, d, n, now) }

// setRate changes the rate of the session alone, in bits a second each way.
func (l *lease) setRate(bits int64) { l.own.setRate(bits) }

// release gives the lease back. Only the first call counts, whoever makes it:
// the end of a connection, the end of a session and a mobility transition that
// both leave behind may come together.
func (l *lease) release() {
	if l == nil || l.released.Swap(true) {
		return
	}
	q := l.q
	q.mu.Lock()
	defer q.mu.Unlock()
	key := userKey{l.realm, l.user}
	if u := q.users[key]; u != nil {
		if u.count--; u.count == 0 {
			delete(q.users, key)
		}
	}
	if r := q.realms[l.realm]; r != nil {
		if r.count--; r.count == 0 {
			delete(q.realms, l.realm)
		}
	}
	q.count--
}

// setRates changes the rates of a realm, of each of its users that have
// allocations, and of the server, in bits a second each way, for live
// allocations too.
func (q *quotas) setRates(realm string, limits quotaLimits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total.setRate(limits.BitRate)
	if r := q.realms[realm]; r != nil {
		r.meter.setRate(limits.RealmRate)
	}
	for key, u := range q.users {
		if key.realm == realm {
			u.meter.setRate(limits.UserRate)
		}
	}
}

// counts returns how many allocations there are in all, of a realm and of one
// user of it.
func (q *quotas) counts(realm, user string) (server, inRealm, ofUser int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.realms[realm]; r != nil {
		inRealm = r.count
	}
	if u := q.users[userKey{realm, user}]; u != nil {
		ofUser = u.count
	}
	return q.count, inRealm, ofUser
}
