package limit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func reason(err error) Reason {
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrReached) || errors.Is(err, auth.ErrDenied) {
		return "none"
	}
	return e.Reason
}

func TestConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{}
		l.SetPolicy(&Policy{Conns: 4, ConnsPerAddr: 2, Exempt: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}})
		open := func(a string) (func(), Reason) {
			release, err := l.Connect(addr(a))
			if err != nil {
				return nil, reason(err)
			}
			return release, ""
		}
		first, r := open("192.0.2.1")
		require.Empty(t, r)
		_, r = open("::ffff:192.0.2.1")
		require.Empty(t, r)
		_, r = open("192.0.2.1")
		require.Equal(t, ConnsPerAddr, r, "IPv4-mapped is the same address")
		first()
		first() // counts once
		_, r = open("192.0.2.1")
		require.Empty(t, r)
		_, r = open("192.0.2.1")
		require.Equal(t, ConnsPerAddr, r)

		l.SetPolicy(&Policy{Conns: 100, ConnsPerAddr: 2, Exempt: l.CurrentPolicy().Exempt})
		for range 5 {
			_, r = open("10.0.0.1")
			require.Empty(t, r, "a proxy's address is exempt")
		}
		_, r = open("2001:db8::1")
		require.Empty(t, r)
		_, r = open("2001:db8::ffff%eth0")
		require.Empty(t, r)
		_, r = open("2001:db8::2")
		require.Equal(t, ConnsPerAddr, r, "a /64 is one")
		_, r = open("2001:db8:0:1::2")
		require.Empty(t, r)

		l.SetPolicy(&Policy{Conns: 3}) // those that are there stay
		_, r = open("198.51.100.1")
		require.Equal(t, Conns, r)
		u := l.Usage()
		require.Equal(t, 10, u.Conns)
		require.Equal(t, 4, u.Addrs)
		require.EqualValues(t, 3, u.Refused[ConnsPerAddr])
		require.EqualValues(t, 1, u.Refused[Conns])
		require.Len(t, u.Refused, len(Reasons))
	})
}

func TestConnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{}
		l.SetPolicy(&Policy{ConnRatePerAddr: 10, ConnRate: 50})
		try := func(a string, n int) (ok int) {
			for range n {
				if release, err := l.Connect(addr(a)); err == nil {
					release()
					ok++
				}
			}
			return ok
		}
		require.Equal(t, 20, try("192.0.2.1", 1000), "twice the rate at once")
		require.Equal(t, 20, try("192.0.2.2", 1000), "by address")
		time.Sleep(time.Second)
		require.Equal(t, 10, try("192.0.2.1", 1000))
		all := 0
		for i := range 200 {
			all += try(fmt.Sprintf("198.51.100.%d", i), 1)
		}
		require.Less(t, all, 100, "in all")
		require.Positive(t, l.Usage().Refused[ConnRate])
		time.Sleep(time.Minute)
		for i := range 5000 { // the table does not grow with who was there
			_, _ = l.Connect(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}))
			time.Sleep(time.Second / 40)
		}
		l.SetPolicy(nil)
		release, err := l.Connect(addr("203.0.113.1"))
		require.NoError(t, err)
		release()
	})
}

// TestSourcesAreForgotten: of who was there nothing is left.
func TestSourcesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{}
		l.SetPolicy(&Policy{ConnRatePerAddr: 1})
		for i := range 20_000 {
			release, err := l.Connect(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}))
			require.NoError(t, err)
			release()
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, len(l.sources), 4000)
		require.Zero(t, l.Usage().Addrs)
	})
}

func TestSessions(t *testing.T) {
	var trips []Trip
	l := &Limiter{Tripped: func(t Trip) { trips = append(trips, t) }}
	l.SetPolicy(&Policy{Sessions: 9, SessionsPerAddr: 3, SessionsPerUser: 4, SessionsPerStream: 5})
	enter := func(a, user, stream string, most int) (*Lease, Reason) {
		p := Peer{Action: auth.Play, Addr: addr(a), User: user, Stream: stream, Limits: auth.Limits{Sessions: most}}
		checked := l.Check(p)
		le, err := l.Enter(p)
		require.Equal(t, checked == nil, err == nil)
		if err != nil {
			return nil, reason(err)
		}
		return le, ""
	}
	var leases []*Lease
	for _, c := range []struct {
		a, user, stream string
		most            int
		want            Reason
	}{
		{"192.0.2.1", "ann", "a", 0, ""}, {"192.0.2.1", "ann", "a", 0, ""}, {"192.0.2.1", "", "a", 0, ""},
		{"192.0.2.1", "bob", "a", 0, SessionsPerAddr},
		{"192.0.2.2", "ann", "a", 2, SessionsPerUser}, // the grant's own, smaller
		{"192.0.2.2", "ann", "a", 3, ""}, {"192.0.2.2", "ann", "b", 9, ""},
		{"192.0.2.2", "ann", "b", 9, SessionsPerUser}, // the policy's
		{"192.0.2.3", "", "a", 0, ""}, {"192.0.2.3", "", "a", 0, SessionsPerStream},
		{"192.0.2.3", "", "b", 0, ""}, {"192.0.2.4", "", "b", 0, ""}, {"192.0.2.4", "", "b", 0, ""},
		{"192.0.2.5", "", "c", 0, Sessions},
	} {
		le, r := enter(c.a, c.user, c.stream, c.most)
		require.Equal(t, c.want, r, "%+v", c)
		if le != nil {
			leases = append(leases, le)
		}
	}
	u := l.Usage()
	require.Equal(t, []int{9, 4, 1, 2}, []int{u.Sessions, u.Addrs, u.Users, u.Streams})
	require.Equal(t, []Reason{SessionsPerAddr, SessionsPerUser, SessionsPerStream, Sessions},
		[]Reason{trips[0].Reason, trips[1].Reason, trips[2].Reason, trips[3].Reason})
	require.Len(t, trips, 4, "once a second for each reason")
	for _, le := range leases {
		le.Leave()
		le.Leave()
	}
	u = l.Usage()
	require.Equal(t, []int{0, 0, 0, 0}, []int{u.Sessions, u.Addrs, u.Users, u.Streams})
	require.Empty(t, l.sources)
}

func (l *Limiter) ticking() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ticker != nil
}

// watched is a session with a rate.
type watched struct {
	bytes atomic.Uint64
	asked atomic.Int32
	ended chan error
}

func (w *watched) Bytes() uint64 { return w.bytes.Load() }
func (w *watched) End(err error) { w.ended <- err }
func (w *watched) Reauthorize()  { w.asked.Add(1) }

// run moves bits a second until the session is ended or the time is over, and
// returns when it was ended; 0: it was not.
func (w *watched) run(bits float64, d time.Duration) (after time.Duration, err error) {
	start := time.Now()
	for time.Since(start) < d {
		select {
		case err := <-w.ended:
			return time.Since(start), err
		case <-time.After(100 * time.Millisecond):
			w.bytes.Add(uint64(bits / 80))
		}
	}
	return 0, nil
}

func watchOver(t *testing.T, l *Limiter, p Peer) (*watched, *Lease) {
	t.Helper()
	le, err := l.Enter(p)
	require.NoError(t, err)
	w := &watched{ended: make(chan error, 1)}
	le.Watch(w)
	return w, le
}

func TestBitRate(t *testing.T) {
	for _, c := range []struct {
		name     string
		policy   Policy
		peer     Peer
		bits     float64
		from, to time.Duration // when it is ended; 0: it is not
	}{
		{"a publisher", Policy{PublisherBitRate: 1e6}, Peer{Action: auth.Publish}, 2e6, 5 * time.Second, 8 * time.Second},
		{"a publisher at its bound", Policy{PublisherBitRate: 1e6}, Peer{Action: auth.Publish}, 0.99e6, 0, 0},
		{"a publisher's grant", Policy{PublisherBitRate: 9e6}, Peer{Action: auth.Publish, Limits: auth.Limits{BitRate: 1e6}}, 2e6, 5 * time.Second, 8 * time.Second},
		{"a grant without a policy", Policy{}, Peer{Action: auth.Publish, Limits: auth.Limits{BitRate: 1e6}}, 2e6, 5 * time.Second, 8 * time.Second},
		{"a grant above the policy", Policy{PublisherBitRate: 1e6}, Peer{Action: auth.Publish, Limits: auth.Limits{BitRate: 9e6}}, 2e6, 5 * time.Second, 8 * time.Second},
		{"a player", Policy{PlayerBitRate: 1e6}, Peer{Action: auth.Play}, 2e6, 30 * time.Second, 33 * time.Second},
		{"a user", Policy{BitRatePerUser: 1e6}, Peer{User: "ann"}, 2e6, 10 * time.Second, 13 * time.Second},
		{"another's bound", Policy{PublisherBitRate: 1e6}, Peer{Action: auth.Play}, 2e6, 0, 0},
		{"nobody's bound", Policy{BitRatePerUser: 1e6}, Peer{}, 2e6, 0, 0},
		{"all", Policy{BitRate: 1e6}, Peer{}, 2e6, 10 * time.Second, 13 * time.Second},
		{"an address", Policy{BitRatePerAddr: 1e6}, Peer{Addr: addr("192.0.2.1")}, 2e6, 10 * time.Second, 13 * time.Second},
		{"an exempt address", Policy{BitRatePerAddr: 1e6, Exempt: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}, Peer{Addr: addr("192.0.2.1")}, 2e6, 0, 0},
		{"a stream", Policy{BitRatePerStream: 1e6}, Peer{Stream: "a"}, 2e6, 10 * time.Second, 13 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Limiter{}
				l.SetPolicy(&c.policy)
				w, le := watchOver(t, l, c.peer)
				after, err := w.run(c.bits, time.Minute)
				require.GreaterOrEqual(t, after, c.from)
				require.LessOrEqual(t, after, c.to)
				require.Equal(t, c.to > 0, err != nil)
				if err != nil {
					require.ErrorIs(t, err, auth.ErrDenied)
					require.ErrorIs(t, err, ErrReached)
				}
				le.Leave()
				time.Sleep(2 * time.Second)
				require.False(t, l.ticking(), "nobody is looked at any more")
			})
		})
	}
}

// TestYoungestGoes: of those who share a bound the last to come is ended, and
// the others stay; a new policy holds for those that are there.
func TestYoungestGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{}
		var all []*watched
		var wg sync.WaitGroup
		after := make([]time.Duration, 3)
		for i := range 3 {
			w, le := watchOver(t, l, Peer{User: "ann", Stream: fmt.Sprint(i)})
			all = append(all, w)
			wg.Go(func() {
				after[i], _ = w.run(1e6, 5*time.Minute)
				le.Leave()
			})
		}
		time.Sleep(time.Minute)
		require.Empty(t, l.Usage().Refused[BitRatePerUser])
		l.SetPolicy(&Policy{BitRatePerUser: 2.2e6})
		wg.Wait()
		require.Zero(t, after[0])
		require.Zero(t, after[1])
		require.Greater(t, after[2], time.Minute)
		require.EqualValues(t, 1, l.Usage().Refused[BitRatePerUser])
	})
}

func TestReauthorize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{}
		l.SetPolicy(&Policy{Reauthorize: 10 * time.Second})
		w, le := watchOver(t, l, Peer{})
		time.Sleep(35 * time.Second)
		require.EqualValues(t, 3, w.asked.Load())
		l.SetPolicy(&Policy{})
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, w.asked.Load())
		l.SetPolicy(&Policy{Reauthorize: time.Second})
		time.Sleep(5500 * time.Millisecond)
		require.Greater(t, w.asked.Load(), int32(6))
		le.Leave()
		time.Sleep(2 * time.Second)
		require.False(t, l.ticking())
	})
}

func listen(t *testing.T, l *Limiter) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln = l.Listen(ln)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// TestFlood: thousands of connections of one address do not get past its bound,
// and cost those that are there nothing.
func TestFlood(t *testing.T) {
	l := &Limiter{}
	l.SetPolicy(&Policy{ConnsPerAddr: 20})
	ln := listen(t, l)
	var open, most atomic.Int32
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				open.Add(-1)
				c.Close()
			}()
		}
	}()
	const flood = 3000
	var wg sync.WaitGroup
	held := make(chan net.Conn, flood)
	for range 20 {
		wg.Go(func() {
			for range flood / 20 {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					continue
				}
				_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if _, err := c.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
					c.Close() // it was thrown out
					continue
				}
				held <- c
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return l.Usage().Conns == 20 }, 20*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 20, most.Load())
	require.Greater(t, l.Usage().Refused[ConnsPerAddr], uint64(flood/2))
	close(held)
	for c := range held {
		c.Close()
	}
	require.Eventually(t, func() bool { return l.Usage().Conns == 0 }, 20*time.Second, 10*time.Millisecond)
	require.Zero(t, l.Usage().Addrs)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestFirstByte(t *testing.T) {
	l := &Limiter{}
	l.SetPolicy(&Policy{FirstByte: 100 * time.Millisecond})
	ln := listen(t, l)
	silent, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer silent.Close()
	s1, err := ln.Accept()
	require.NoError(t, err)
	_, err = s1.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	s1.Close()
	require.Eventually(t, func() bool { return l.Usage().Refused[FirstByte] == 1 }, 30*time.Second, time.Millisecond)

	l.SetPolicy(&Policy{FirstByte: time.Minute})
	speaks, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer speaks.Close()
	s2, err := ln.Accept()
	require.NoError(t, err)
	defer s2.Close()
	_, err = speaks.Write([]byte("x"))
	require.NoError(t, err)
	_, err = s2.Read(make([]byte, 1))
	require.NoError(t, err)
	require.False(t, s2.(*tcpConn).counted.timer.Stop(), "the deadline is over")
	require.NotNil(t, s2.(interface{ NetConn() net.Conn }).NetConn())
	_, err = s2.(*tcpConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, s2.(*tcpConn).CloseWrite())
}

func TestOtherConns(t *testing.T) {
	l := &Limiter{}
	a, b := net.Pipe()
	defer a.Close()
	require.NoError(t, l.connect(netip.Addr{}))
	c := l.count(b, netip.Addr{})
	require.Equal(t, 1, l.Usage().Conns)
	require.Zero(t, l.Usage().Addrs)
	require.ErrorIs(t, c.(*otherConn).CloseWrite(), errors.ErrUnsupported)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.Zero(t, l.Usage().Conns)
}

func BenchmarkConnect(b *testing.B) {
	l := &Limiter{}
	l.SetPolicy(&Policy{ConnsPerAddr: 10, ConnRate: 1e9, ConnRatePerAddr: 1e9, Conns: 1000})
	a := addr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		_ = l.connect(a)
		l.disconnect(a)
	}
}

// TestAlwaysExempt: what a host exempts stays so, whatever the Policy.
func TestAlwaysExempt(t *testing.T) {
	l := &Limiter{Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for range 2 {
		l.SetPolicy(&Policy{ConnsPerAddr: 1})
		for range 3 {
			_, err := l.Connect(netip.MustParseAddr("::ffff:10.0.0.1"))
			require.NoError(t, err)
		}
	}
	_, err := l.Connect(netip.MustParseAddr("192.0.2.1"))
	require.NoError(t, err)
	_, err = l.Connect(netip.MustParseAddr("192.0.2.1"))
	require.ErrorIs(t, err, ErrReached)
	l.SetPolicy(&Policy{SessionsPerAddr: 1})
	for range 3 {
		_, err := l.Enter(Peer{Addr: netip.MustParseAddr("10.0.0.1")})
		require.NoError(t, err)
	}
	_, err = l.Enter(Peer{Addr: netip.MustParseAddr("192.0.2.1")})
	require.NoError(t, err)
	_, err = l.Enter(Peer{Addr: netip.MustParseAddr("192.0.2.1")})
	require.ErrorIs(t, err, ErrReached)
}
