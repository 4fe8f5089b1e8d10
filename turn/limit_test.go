package turn

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const second = int64(time.Second)

// offer sends packets of size bytes evenly at bits a second for a time, and
// returns how many bytes passed.
func offer(take func(n int, now int64) bool, size int, bits int64, from, to int64) (passed int64) {
	gap := int64(size) * 8 * second / bits
	for now := from; now < to; now += gap {
		if take(size, now) {
			passed += int64(size)
		}
	}
	return passed
}

func TestBucketKeepsTheRate(t *testing.T) {
	for _, rate := range []int64{64_000, 1_000_000, 50_000_000, 10_000_000_000} {
		var b bucket
		b.setRate(rate)
		size := 1200
		if rate < 100_000 {
			size = 200
		}
		passed := offer(b.take, size, rate*3, 0, 2*second) // three times what it may
		want := rate / 8 * 2
		require.GreaterOrEqual(t, passed, want*98/100, "rate %d", rate)
		require.LessOrEqual(t, passed, want*115/100+int64(size), "rate %d: the burst is an eighth of two seconds", rate)

		// What stays below the rate loses nothing.
		b = bucket{}
		b.setRate(rate)
		gap := int64(size) * 8 * second / rate
		for i := range int64(1000) {
			require.True(t, b.take(size, i*gap*101/100), "rate %d, packet %d", rate, i)
		}
	}
}

func TestBucketPassesABurstAndRests(t *testing.T) {
	var b bucket
	b.setRate(8_000_000) // 1 MB a second: the burst is 250 KB
	n := 0
	for b.take(1000, 5*second) {
		n++
	}
	require.Equal(t, 250, n)
	require.True(t, b.take(1000, 5*second+int64(time.Millisecond)), "a millisecond later there is room for one")
	require.False(t, b.take(1000, 5*second+int64(time.Millisecond)))
	require.True(t, b.take(1000, 100*second))
	for n = 1; b.take(1000, 100*second); n++ {
	}
	require.Equal(t, 250, n, "an hour of silence is not saved up")
}

func TestBucketSlowerThanItsPackets(t *testing.T) {
	var b bucket
	b.setRate(8) // a byte a second
	require.True(t, b.take(100, 0))
	require.False(t, b.take(100, 99*second))
	require.True(t, b.take(100, 100*second))
}

func TestBucketWithoutBounds(t *testing.T) {
	var b bucket
	for range 1000 {
		require.True(t, b.take(1<<30, 0))
	}
	b.setRate(-5)
	require.True(t, b.take(1<<30, 0))
	b.setRate(1000)
	require.True(t, b.take(-1, 0))
	require.True(t, b.take(1<<40, 0), "the first passes, and its cost does not overflow")
	require.False(t, b.take(1, 0))
	b.setRate(0)
	require.True(t, b.take(1, 0), "a bound that was lifted")
}

func TestBucketOfManyGoroutines(t *testing.T) {
	var b bucket
	b.setRate(8_000_000)
	var wg sync.WaitGroup
	passed := make([]int, 4)
	for i := range passed {
		wg.Go(func() {
			for range 1000 {
				if b.take(1000, second) {
					passed[i]++
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 250, passed[0]+passed[1]+passed[2]+passed[3])
}

func TestLeaseRates(t *testing.T) {
	var q quotas
	limits := quotaLimits{SessionRate: 8_000_000, UserRate: 12_000_000, RealmRate: 16_000_000, BitRate: 20_000_000}
	lease := func(realm, user string) *lease {
		l, err := q.acquire(realm, user, limits)
		require.NoError(t, err)
		return l
	}
	all := []*sender{{lease("r", "a"), 0}, {lease("r", "a"), 0}, {lease("r", "b"), 0}, {lease("s", "a"), 0}}
	// Everybody sends as much as he likes, in turns, for ten seconds.
	for now := int64(0); now < 10*second; now += 100_000 {
		for _, l := range all {
			if l.allow(toPeer, 250, now) {
				l.passed += 250
			}
		}
	}
	mbit := func(ls ...*sender) float64 {
		var sum int64
		for _, l := range ls {
			sum += l.passed
		}
		return float64(sum) * 8 / 10 / 1e6
	}
	for _, l := range all {
		require.LessOrEqual(t, mbit(l), 8*1.03, "session")
	}
	require.LessOrEqual(t, mbit(all[0], all[1]), 12*1.03, "user a")
	require.LessOrEqual(t, mbit(all[0], all[1], all[2]), 16*1.03, "realm r")
	require.LessOrEqual(t, mbit(all...), 20*1.03, "server")
	require.GreaterOrEqual(t, mbit(all...), 20*.97, "what one level refuses is not charged to the others")

	// The other way has its own.
	require.True(t, all[0].allow(toClient, 1000, 10*second))
	// Rates change while sessions live.
	all[0].setRate(0)
	q.setRates("r", quotaLimits{})
	q.setRates("s", quotaLimits{})
	for range 10000 {
		require.True(t, all[0].allow(toPeer, 1000, 10*second))
	}
	all[0].setRate(8000)
	require.False(t, all[0].allow(toPeer, 1000, 10*second) && all[0].allow(toPeer, 1000, 10*second))
}

type sender struct {
	*lease
	passed int64
}

func TestQuotas(t *testing.T) {
	var q quotas
	limits := quotaLimits{User: 2, Realm: 4, Server: 6}
	acquire := func(realm, user string, want error) *lease {
		t.Helper()
		l, err := q.acquire(realm, user, limits)
		require.ErrorIs(t, err, want)
		return l
	}
	a1 := acquire("r", "a", nil)
	acquire("r", "a", nil)
	acquire("r", "a", errUserQuota)
	acquire("s", "a", nil) // another realm's a
	acquire("r", "b", nil)
	acquire("r", "c", nil)
	acquire("r", "d", errRealmQuota)
	acquire("s", "e", nil)
	acquire("s", "f", errServerQuota)

	a1.release()
	a1.release() // the end of the connection and the end of the session
	server, realm, user := q.counts("r", "a")
	require.Equal(t, [3]int{5, 3, 1}, [3]int{server, realm, user})
	acquire("r", "a", nil)
	acquire("r", "a", errServerQuota)

	limits = quotaLimits{}
	acquire("r", "a", nil)
	(*lease)(nil).release()
}

// GHSA-f6hc-79w3-p8pq: a quota that was given back twice. Also nothing is kept
// of users who have left.
func TestQuotasAreReleasedOnce(t *testing.T) {
	var q quotas
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 500 {
				l, err := q.acquire(fmt.Sprint(n%3), fmt.Sprint(n%7), quotaLimits{UserRate: 1000})
				if err != nil {
					t.Error(err)
					return
				}
				for range 1 + i%3 {
					wg.Go(l.release)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, q.count)
	require.Empty(t, q.users)
	require.Empty(t, q.realms)
}

func TestLeaseDoesNotAllocate(t *testing.T) {
	var q quotas
	l, err := q.acquire("r", "a", quotaLimits{SessionRate: 1e9, UserRate: 1e9, RealmRate: 1e9, BitRate: 1e9})
	require.NoError(t, err)
	now := int64(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		now += 1e6
		l.allow(toPeer, 1200, now)
	}))
}

func TestSourceLimiter(t *testing.T) {
	s := newSourceLimiter(10, 5)
	src := netip.MustParseAddr("192.0.2.1")
	got := 0
	for range 50 { // coturn with its limit on: 50 forged requests, 4 answers
		if s.allow(src, second) {
			got++
		}
	}
	require.Equal(t, 5, got)
	require.True(t, s.allow(netip.MustParseAddr("192.0.2.2"), second), "another source")
	require.False(t, s.allow(netip.MustParseAddr("::ffff:192.0.2.1"), second), "the same in IPv6 dress")

	got = 0
	for now := second; now < 11*second; now += second / 1000 {
		if s.allow(src, now) {
			got++
		}
	}
	require.InDelta(t, 100, got, 2, "10 a second")
	require.True(t, s.allow(src, 100*second))
}

func TestSourceLimiterTakesIPv6PrefixAsOneSource(t *testing.T) {
	s := newSourceLimiter(1, 1)
	require.True(t, s.allow(netip.MustParseAddr("2001:db8::1"), 0))
	require.False(t, s.allow(netip.MustParseAddr("2001:db8::ffff:2"), 0))
	require.True(t, s.allow(netip.MustParseAddr("2001:db8:0:1::1"), 0))
}

func TestSourceLimiterOff(t *testing.T) {
	s := newSourceLimiter(0, 5)
	require.Nil(t, s)
	for range 100 {
		require.True(t, s.allow(netip.MustParseAddr("192.0.2.1"), 0))
	}
}

// A flood from a million forged sources neither silences an honest one nor
// lets one of its victims get more than it may, give or take what the table
// forgets.
func TestSourceLimiterUnderFlood(t *testing.T) {
	s := newSourceLimiter(10, 5)
	rnd := rand.New(rand.NewPCG(3, 4))
	victim := netip.MustParseAddr("203.0.113.7")
	honest, answers := 0, 0
	const flood = 100_000 // forged packets a second
	for i := range int64(5 * flood) {
		now := i * second / flood
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], rnd.Uint32())
		s.allow(netip.AddrFrom4(b), now)
		if i%(flood/1000) == 0 && s.allow(victim, now) { // a thousand a second
			answers++
		}
		if i%flood == 0 && s.allow(netip.AddrFrom4([4]byte{198, 51, 100, byte(i / flood)}), now) {
			honest++
		}
	}
	require.Equal(t, 5, honest)
	require.Less(t, answers, 1000, "of 5000 requests")
}

func TestSourceLimiterOfManyGoroutines(t *testing.T) {
	s := newSourceLimiter(1, 100)
	var wg sync.WaitGroup
	got := make([]int, 4)
	for i := range got {
		wg.Go(func() {
			for range 1000 {
				if s.allow(netip.MustParseAddr("192.0.2.1"), second) {
					got[i]++
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, got[0]+got[1]+got[2]+got[3], 100)
	require.Positive(t, got[0]+got[1]+got[2]+got[3])
}

func TestSourceLimiterDoesNotAllocate(t *testing.T) {
	s := newSourceLimiter(10, 5)
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		s.allow(four, second)
		s.allow(six, second)
	}))
}

func BenchmarkLeaseAllow(b *testing.B) {
	for name, limits := range map[string]quotaLimits{
		"unlimited": {},
		"4 levels":  {SessionRate: 1e12, UserRate: 1e12, RealmRate: 1e12, BitRate: 1e12},
	} {
		b.Run(name, func(b *testing.B) {
			var q quotas
			l, _ := q.acquire("r", "a", limits)
			now := int64(0)
			for b.Loop() {
				now += 1000
				l.allow(toPeer, 1200, now)
			}
		})
	}
}

func BenchmarkSourceLimiter(b *testing.B) {
	s := newSourceLimiter(10, 5)
	now := int64(0)
	for b.Loop() {
		now += 1000
		s.allow(netip.AddrFrom4([4]byte{10, byte(now >> 10), byte(now >> 18), byte(now >> 26)}), now)
	}
}
