package fanout

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// inOrder checks that units are what a player with room enough is sent that
// starts at frame from of which there are n.
func inOrder(t testing.TB, all []unit, first bool, from, n int) {
	t.Helper()
	if first {
		require.Equal(t, "H0", all[0].String())
		all = all[1:]
	}
	require.Equal(t, "P0", all[0].String())
	all = all[1:]
	require.Len(t, all, n-from)
	for i, u := range all {
		require.Equal(t, fmt.Sprint("F", from+i), u.String())
	}
}

func TestAllBytesReachAll(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		const players, frames = 20, 150
		l := newSource(&Log{})
		l.key()
		var wg sync.WaitGroup
		got := make([][]unit, players)
		var attached []*Player
		var ends []<-chan error
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := range players {
			server, client := tr.dial(t)
			wg.Go(func() {
				var err error
				if got[i], err = readAll(client); err != nil {
					t.Error(err)
				}
			})
			onEnd, end := ended()
			ends = append(ends, end)
			attached = append(attached, l.Attach(server, Options{First: makeUnit('H', 0, 5), OnEnd: func(err error) {
				onEnd(err)
				go server.(net.Conn).Close()
			}}))
			require.Equal(t, tr.raw, attached[i].raw != nil)
			l.frame(unitHeader + rnd.IntN(100))
			l.Flush()
		}
		for l.frames < frames {
			for range 1 + rnd.IntN(5) {
				size := rnd.IntN(5000)
				if rnd.IntN(20) == 0 {
					size = rnd.IntN(2 * fullChunk)
				}
				l.append(unitHeader+size, rnd.IntN(2*size+1))
			}
			l.Flush()
			time.Sleep(100 * time.Microsecond)
		}
		l.End(nil)
		for _, end := range ends {
			require.NoError(t, wait(t, end))
		}
		wg.Wait()
		for i := range got {
			inOrder(t, got[i], true, 0, l.frames)
			whole, err := attached[i].Detach()
			require.True(t, whole)
			require.NoError(t, err)
		}
		require.Zero(t, l.Players())
	})
}

// A reader reads units of one connection for a test.
type reader struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func newReader(t testing.TB, c net.Conn) *reader { return &reader{t, c, bufio.NewReader(c)} }

func (r *reader) expect(units ...string) {
	r.t.Helper()
	for _, want := range units {
		require.NoError(r.t, r.c.SetReadDeadline(time.Now().Add(30*time.Second)))
		u, err := readUnit(r.r)
		require.NoError(r.t, err, want)
		require.Equal(r.t, want, u.String())
	}
}

// half waits for the first byte of the next unit, the log's last, and until p
// knows that it has begun.
func (r *reader) half(p *Player) {
	r.t.Helper()
	require.NoError(r.t, r.c.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err := r.r.Peek(1)
	require.NoError(r.t, err)
	require.Eventually(r.t, func() bool {
		p.lock.Lock()
		defer p.lock.Unlock()
		return p.partly || p.pos == p.log.head
	}, 30*time.Second, time.Millisecond)
}

// nothing checks that nothing comes for a while.
func (r *reader) nothing() {
	r.t.Helper()
	require.NoError(r.t, r.c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := r.r.Peek(1)
	ne := net.Error(nil)
	require.True(r.t, errors.As(err, &ne) && ne.Timeout(), "%v", err)
}

func TestStart(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := newSource(&Log{})
		server, client := tr.dial(t)
		early := newReader(t, client)
		p := l.Attach(server, Options{First: makeUnit('H', 0, 3)})
		early.expect("H0") // before there is anything else
		l.frame(100)       // before any point
		l.Flush()
		early.nothing()
		l.key()
		l.frame(100)
		l.frame(100)
		l.Flush()
		early.expect("P0", "F1", "F2")

		server, client = tr.dial(t)
		late := newReader(t, client)
		q := l.Attach(server, Options{})
		late.expect("P0", "F1", "F2")
		l.version = 1
		l.key()
		l.frame(100)
		l.Flush()
		early.expect("F3") // the muxer has put the new configuration into the frame
		late.expect("F3")

		server, client = tr.dial(t)
		latest := newReader(t, client)
		r := l.Attach(server, Options{})
		latest.expect("P1", "F3")
		l.frame(100)
		l.Flush()
		for _, rd := range []*reader{early, late, latest} {
			rd.expect("F4")
		}
		require.Equal(t, 3, l.Players())
		for _, p := range []*Player{p, q, r} {
			whole, err := p.Detach()
			require.True(t, whole)
			require.NoError(t, err)
		}
		require.Zero(t, l.Players())
	})
}

func TestStartLive(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := newSource(&Log{Live: true})
		l.key()
		l.frame(100)
		l.frame(100)
		l.Flush()
		server, client := tr.dial(t)
		r := newReader(t, client)
		p := l.Attach(server, Options{})
		l.frame(100)
		l.Flush()
		r.nothing()
		l.key()
		l.frame(100)
		l.Flush()
		r.expect("P0", "F3")
		p.Detach()
	})
}

func TestReplies(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := newSource(&Log{})
		server, client := tr.dial(t)
		r := newReader(t, client)
		p := l.Attach(server, Options{})
		p.Reply(nil)
		p.Reply(makeUnit('R', 0, 4))
		r.expect("R0") // without a point
		l.key()
		l.frame(100)
		l.Flush()
		r.expect("P0", "F0")
		p.Reply(makeUnit('R', 1, 4))
		r.expect("R1")
		p.Pause(true)
		p.Reply(makeUnit('R', 2, 4))
		r.expect("R2")
		p.Detach()
		p.Reply(makeUnit('R', 3, 4))
		r.nothing()
	})
}

// Replies and skips come between two frames, however full the socket is.
func TestRepliesToSlow(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		l := newSource(&Log{})
		server, client := tr.dial(t)
		p := l.Attach(server, Options{})
		l.key()
		for range 60 {
			l.frame(50_000)
		}
		l.Flush()
		for i := range 100 { // more than is kept for a peer that does not read
			p.Reply(makeUnit('R', i, 1000))
		}
		p.lock.Lock()
		require.LessOrEqual(t, len(p.control)+len(p.pend), 50_000+maxControl)
		p.lock.Unlock()
		onEnd := make(chan struct{})
		go func() {
			defer close(onEnd)
			for i := 0; i < 20; i++ {
				l.frame(1000)
				l.Flush()
				time.Sleep(time.Millisecond)
			}
			l.End(nil)
		}()
		r := newReader(t, client)
		frames, replies := 0, 0
		for frames < 80 {
			require.NoError(t, client.SetReadDeadline(time.Now().Add(30*time.Second)))
			u, err := readUnit(r.r)
			require.NoError(t, err)
			switch u.kind {
			case 'F':
				require.Equal(t, frames, u.n)
				frames++
			case 'R':
				require.GreaterOrEqual(t, u.n, replies)
				replies = u.n + 1
				require.Less(t, frames, 30, "the reply waited for the end of the backlog")
			}
		}
		require.GreaterOrEqual(t, replies, 3)
		<-onEnd
		p.Detach()
	})
}

func TestPause(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		m := &meter{}
		l := newSource(&Log{})
		l.key()
		l.frame(100)
		server, client := tr.dial(t)
		r := newReader(t, client)
		p := l.Attach(server, Options{Meter: m})
		r.expect("P0", "F0")
		p.Pause(true)
		l.frame(100)
		l.Flush()
		r.nothing()
		p.Pause(false) // within the group of pictures: nothing is left out, nothing comes twice
		r.expect("F1")
		p.Pause(true)
		p.Pause(true)
		l.frame(100)
		l.key()
		l.frame(100)
		l.Flush()
		p.Pause(false)
		r.expect("F3")
		p.Pause(true)
		l.version++
		l.frame(100)
		l.key()
		l.frame(100)
		l.Flush()
		p.Pause(false)
		r.expect("C1", "F5")
		require.Zero(t, m.skips.Load(), "a pause is no sign of slowness")

		p.Pause(true)
		l.End(nil) // ends those that are paused, too
		require.Eventually(t, func() bool { return l.Players() == 0 }, 30*time.Second, time.Millisecond)
		_, err := p.Detach()
		require.NoError(t, err)
	})
}

func TestPauseBeforeStart(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := newSource(&Log{})
		server, client := tr.dial(t)
		r := newReader(t, client)
		p := l.Attach(server, Options{})
		p.Pause(true)
		l.key()
		l.frame(100)
		l.Flush()
		r.nothing()
		p.Pause(false)
		r.expect("P0", "F0")
		p.Detach()
	})
}

func TestEnd(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		reason := errors.New("reason")
		for _, tt := range []struct {
			name   string
			do     func(l *source)
			expect []string
		}{
			{"empty", func(l *source) {}, []string{"H0"}},
			{"no point", func(l *source) { l.frame(100) }, []string{"H0"}},
			{"not flushed", func(l *source) { l.key(); l.frame(100); l.frame(3 * fullChunk) }, []string{"H0", "P0", "F0", "F1"}},
			{"flushed", func(l *source) { l.key(); l.frame(100); l.Flush() }, []string{"H0", "P0", "F0"}},
		} {
			for _, before := range []bool{true, false} {
				t.Run(fmt.Sprint(tt.name, before), func(t *testing.T) {
					l := newSource(&Log{})
					server, client := tr.dial(t)
					onEnd, end := ended()
					r := newReader(t, client)
					o := Options{First: makeUnit('H', 0, 1), OnEnd: onEnd}
					var p *Player
					if before {
						p = l.Attach(server, o)
					}
					tt.do(l)
					l.End(reason)
					if !before {
						p = l.Attach(server, o) // it came too late, or just in time
					}
					r.expect(tt.expect...)
					require.Equal(t, reason, wait(t, end))
					whole, err := p.Detach()
					require.True(t, whole)
					require.Equal(t, reason, err)
					_, err = p.Detach()
					require.Equal(t, reason, err)
				})
			}
		}
	})
}

// A player that joins when nothing more is written, and whose socket is full at
// once, gets the rest all the same.
func TestJoinWithoutFlush(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		for _, end := range []bool{false, true} {
			l := newSource(&Log{})
			server, client := tr.dial(t)
			other := newReader(t, client)
			p := l.Attach(server, Options{})
			l.key()
			l.frame(100)
			l.Flush()
			other.expect("P0", "F0")
			l.key()
			l.frame(8 << 20)
			server, client = tr.dial(t)
			if end {
				l.End(nil)
				other.expect("F1")
			}
			time.Sleep(20 * time.Millisecond) // the shard has nothing to do
			q := l.Attach(server, Options{})
			newReader(t, client).expect("P0", "F1")
			p.Detach()
			q.Detach()
		}
	})
}

func TestConnectionFails(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := newSource(&Log{})
		server, client := tr.dial(t)
		onEnd, end := ended()
		p := l.Attach(server, Options{First: makeUnit('H', 0, 1), OnEnd: onEnd})
		newReader(t, client).expect("H0")
		client.Close()
		l.key()
		for len(end) == 0 {
			l.frame(10_000)
			l.Flush()
			time.Sleep(time.Millisecond)
		}
		require.Error(t, wait(t, end))
		_, err := p.Detach()
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrSlow)
		require.Zero(t, l.Players())
	})
}

// Players come, pause, ask and go while the log is written; this is for the
// race detector, and for the goroutines that are left.
func TestConcurrency(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		certificate()
		base := 0
		l := newSource(&Log{MaxLag: 20 * time.Millisecond, MaxBytes: 1 << 20, Stall: 100 * time.Millisecond,
			Latency: func(time.Duration, int) {}})
		var conns [12]struct {
			server Conn
			client net.Conn
		}
		for i := range conns {
			conns[i].server, conns[i].client = tr.dial(t)
		}
		base = len(conns) // those that drain, below
		base += runtime.NumGoroutine()
		var wg, drains sync.WaitGroup
		for i, c := range conns {
			drains.Go(func() {
				b := make([]byte, 1<<16)
				for {
					if _, err := c.client.Read(b); err != nil {
						return
					}
					if i%3 == 0 {
						time.Sleep(5 * time.Millisecond)
					}
				}
			})
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 0))
				for range 20 {
					p := l.Attach(c.server, Options{First: makeUnit('H', 0, 10), Meter: &meter{}, OnEnd: func(error) {}})
					for range rnd.IntN(6) {
						switch rnd.IntN(3) {
						case 0:
							p.Pause(rnd.IntN(2) == 0)
						case 1:
							p.Reply(makeUnit('R', 0, 10))
						case 2:
							time.Sleep(time.Duration(rnd.IntN(4)) * time.Millisecond)
						}
					}
					for range 2 {
						wg.Go(func() { p.Detach() })
					}
					p.Detach()
					if tr.name == "tls" {
						return // a write that was cut off spoils the connection
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for open := true; open; {
			select {
			case <-done:
				open = false
			default:
			}
			if l.frames%25 == 0 {
				l.version++
				l.key()
			}
			l.frame(3000)
			l.Flush()
			time.Sleep(200 * time.Microsecond)
		}
		require.Zero(t, l.Players())
		settleGoroutines(t, base)
		for _, c := range conns {
			c.server.(net.Conn).Close()
			c.client.Close()
		}
		drains.Wait()
	})
}

// A countingConn counts writes and takes no time for them.
type countingConn struct {
	mu     sync.Mutex
	writes []time.Time
	bytes  int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, time.Now())
	c.bytes += len(b)
	return len(b), nil
}

func (c *countingConn) SetWriteDeadline(time.Time) error { return nil }

// Without a Flush nothing goes out, and one covers all that waits.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSource(&Log{})
		c := &countingConn{}
		p := l.Attach(c, Options{})
		l.key()
		for range 5 {
			time.Sleep(10 * time.Second)
			for range 10 {
				l.frame(500)
				synctest.Wait()
			}
			writes := len(c.writes)
			l.Flush()
			synctest.Wait()
			require.LessOrEqual(t, len(c.writes), writes+2, "the prefix, and the frames")
			require.Equal(t, time.Now(), c.writes[len(c.writes)-1])
			require.Equal(t, l.frames*500+20+unitHeader, c.bytes)
		}
		p.Detach()
	})
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []time.Duration
		l := newSource(&Log{Latency: func(d time.Duration, n int) {
			require.Equal(t, 1, n)
			seen = append(seen, d)
		}})
		l.key()
		l.frame(100)
		time.Sleep(3 * time.Second)
		p := l.Attach(&countingConn{}, Options{})
		synctest.Wait()
		require.Empty(t, seen, "that frame was there before the player")
		for range 4 {
			l.frame(100)
			time.Sleep(30 * time.Millisecond)
		}
		l.Flush()
		synctest.Wait()
		p.Detach()
		require.Equal(t, []time.Duration{120 * time.Millisecond, 90 * time.Millisecond, 60 * time.Millisecond, 30 * time.Millisecond}, seen)
	})
}

func TestLatencyRaw(t *testing.T) {
	var mu sync.Mutex
	count := 0
	l := newSource(&Log{Latency: func(d time.Duration, n int) {
		mu.Lock()
		defer mu.Unlock()
		count += n
	}})
	l.key()
	l.frame(100)
	const players = 2*observeEvery + 1
	for range players {
		server, client := dialTCP(t)
		p := l.Attach(server, Options{})
		defer p.Detach()
		newReader(t, client).expect("P0", "F0")
	}
	for range 10 {
		l.frame(100)
		l.Flush()
		time.Sleep(time.Millisecond)
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return count == 10*players
	}, 30*time.Second, time.Millisecond)
}
