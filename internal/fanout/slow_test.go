package fanout

import (
	"bufio"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// slowTransports are the transports with small buffers.
var slowTransports = []transport{
	{"pipe", false, dialPipe},
	{"tcp", runtime.GOOS == "linux", func(t testing.TB) (Conn, net.Conn) { return dialBuffered(t, 32<<10) }},
	{"tcp-goroutine", false, func(t testing.TB) (Conn, net.Conn) {
		server, client := dialBuffered(t, 32<<10)
		return plain{server.(net.Conn)}, client
	}},
}

// overSlow runs the test in virtual time where no socket is in the way.
func overSlow(t *testing.T, test func(t *testing.T, tr transport)) {
	for _, tr := range slowTransports {
		t.Run(tr.name, func(t *testing.T) {
			if tr.name == "pipe" {
				synctest.Test(t, func(t *testing.T) { test(t, tr) })
			} else {
				test(t, tr)
			}
		})
	}
}

// inBackground runs read, which ends when c is closed, until the end of the test.
func inBackground(t *testing.T, c net.Conn, read func()) {
	var wg sync.WaitGroup
	wg.Go(read)
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
}

// throttled reads at most n bytes a millisecond.
type throttled struct {
	io.Reader
	n int
}

func (r *throttled) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return r.Reader.Read(b[:min(len(b), r.n)])
}

// A reader that is too slow for the stream gets whole frames, and, where it
// skips, goes on with a key frame and its configuration.
func TestSlowReaderSkips(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		const group = 8
		m := &meter{}
		l := newSource(&Log{MaxLag: 30 * time.Millisecond, MaxSkips: 1000})
		server, client := tr.dial(t)
		onEnd, end := ended()
		p := l.Attach(server, Options{Meter: m, OnEnd: func(err error) {
			onEnd(err)
			go server.(net.Conn).Close()
		}})
		go func() {
			for range 40 * group {
				if l.frames%group == 0 {
					l.version = l.frames / group / 4 // it changes every fourth time
					l.key()
				}
				l.frame(5000 + l.frames%7*3000)
				l.Flush()
				time.Sleep(2 * time.Millisecond)
			}
			l.End(nil)
		}()
		r := bufio.NewReader(&throttled{client, 2000})
		next, version, skips, bytes := 0, -1, 0, 0
		frames := int64(0)  // bytes
		configured := false // by the unit before
		for {
			u, err := readUnit(r)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			bytes += unitHeader + u.size
			switch u.kind {
			case 'P':
				require.Equal(t, -1, version)
				version = u.n
			case 'C':
				require.NotEqual(t, version, u.n)
				version = u.n
				configured = true
			case 'F':
				frames += int64(unitHeader + u.size)
				require.GreaterOrEqual(t, u.n, next)
				if u.n > next {
					require.Zero(t, u.n%group)
					skips++
				} else {
					require.False(t, configured)
				}
				if u.n%group == 0 && u.n > next {
					require.Equal(t, u.n/group/4, version)
				}
				next, configured = u.n+1, false
			}
		}
		require.NoError(t, wait(t, end))
		require.Equal(t, l.frames, next, "the last frame came")
		require.NotZero(t, skips)
		require.LessOrEqual(t, int64(skips), m.skips.Load(), "it may skip again before it has sent anything")
		require.EqualValues(t, bytes, m.out.Load())
		require.EqualValues(t, l.head, frames+m.skipped.Load(), "sent, or skipped")
		p.Detach()
	})
}

// produce writes key frames until the player ends, and returns why it did.
func produce(t *testing.T, l *source, end <-chan error, size int) error {
	t.Helper()
	for range 10_000 {
		select {
		case err := <-end:
			return err
		default:
		}
		l.key()
		l.frame(size)
		l.Flush()
		time.Sleep(time.Millisecond)
	}
	require.Fail(t, "the player has not ended")
	return nil
}

// drain reads what there is until the connection ends, and returns the units
// that are whole and whether another was begun.
func drain(client net.Conn) (all []unit, cut bool) {
	_ = client.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	all, err := readAll(client)
	return all, errors.Is(err, io.ErrUnexpectedEOF)
}

// A player that reads a little, but never as much as there is.
func TestTooManySkips(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		m := &meter{}
		l := newSource(&Log{MaxLag: 50 * time.Millisecond, MaxSkips: 3})
		server, client := tr.dial(t)
		inBackground(t, client, func() { io.Copy(io.Discard, &throttled{client, 3000}) })
		onEnd, end := ended()
		p := l.Attach(server, Options{OnEnd: onEnd, Meter: m})
		require.Equal(t, ErrSlow, produce(t, l, end, 20_000))
		require.GreaterOrEqual(t, m.skips.Load(), int64(4)) // one that a busy machine has delayed is forgiven
		if tr.name == "pipe" {                              // in virtual time
			require.EqualValues(t, 4, m.skips.Load())
		}
		_, err := p.Detach()
		require.Equal(t, ErrSlow, err)
		require.Zero(t, l.Players())
	})
}

// One that keeps up for a while in between may skip as often as it must.
func TestSkipsAreForgiven(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		m := &meter{}
		l := newSource(&Log{MaxLag: 10 * time.Millisecond, MaxSkips: 1})
		server, client := tr.dial(t)
		p := l.Attach(server, Options{Meter: m})
		r := newReader(t, client)
		for range 4 {
			for range 50 {
				l.key()
				l.frame(20_000)
			}
			l.Flush()
			time.Sleep(30 * time.Millisecond) // for all of it to be late
			l.key()
			l.frame(100)
			l.Flush()
			for last := -1; last != l.frames-1; {
				require.NoError(t, client.SetReadDeadline(time.Now().Add(30*time.Second)))
				u, err := readUnit(r.r)
				require.NoError(t, err)
				if u.kind == 'F' {
					last = u.n
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		require.GreaterOrEqual(t, m.skips.Load(), int64(3))
		_, err := p.Detach()
		require.NoError(t, err)
	})
}

func TestStall(t *testing.T) {
	for _, tt := range []struct {
		name     string
		read     func(net.Conn)
		min, max time.Duration
	}{
		{"nothing is read", func(net.Conn) {}, 100 * time.Millisecond, 200 * time.Millisecond},
		{"a byte now and then", func(c net.Conn) { // on a socket that takes some
			for b := make([]byte, 1); ; time.Sleep(10 * time.Millisecond) {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}, 100 * time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			overSlow(t, func(t *testing.T, tr transport) {
				l := newSource(&Log{Stall: 100 * time.Millisecond})
				server, client := tr.dial(t)
				inBackground(t, client, func() { tt.read(client) })
				onEnd, end := ended()
				began := time.Now()
				p := l.Attach(server, Options{OnEnd: onEnd})
				l.key()
				l.frame(4 << 20)
				l.Flush()
				require.Equal(t, ErrSlow, wait(t, end))
				took := time.Since(began)
				require.GreaterOrEqual(t, took, tt.min)
				if tr.name == "pipe" { // in virtual time
					require.Less(t, took, tt.max)
				}
				whole, err := p.Detach()
				require.False(t, whole)
				require.Equal(t, ErrSlow, err)
				if tr.raw {
					s := p.shard
					require.Eventually(t, func() bool {
						s.mu.Lock()
						defer s.mu.Unlock()
						return !s.running && s.blocked == 0
					}, 30*time.Second, time.Millisecond)
				}
			})
		})
	}
}

// A peer that is slow, but fast enough for the stream, may take as long as it
// likes.
func TestSlowIsNotStalled(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		if tr.name == "tcp-goroutine" {
			t.Skip("its pace is that of the pipe, in real time")
		}
		stall, pace := 300*time.Millisecond, 2000
		if tr.name == "tcp" { // a busy machine may forget the reader for a while
			stall, pace = 2*time.Second, 1000
		}
		l := newSource(&Log{Stall: stall, MaxLag: time.Minute})
		server, client := tr.dial(t)
		onEnd, end := ended()
		p := l.Attach(server, Options{OnEnd: func(err error) {
			onEnd(err)
			go server.(net.Conn).Close()
		}})
		l.key()
		for range 100 { // longer than Stall
			l.frame(25_000)
		}
		l.Flush()
		l.End(nil)
		all, err := readAll(readOnly{client, &throttled{client, pace}})
		require.NoError(t, err)
		inOrder(t, all, false, 0, 100)
		require.NoError(t, wait(t, end))
		p.Detach()
	})
}

type readOnly struct {
	net.Conn
	r io.Reader
}

func (c readOnly) Read(b []byte) (int, error) { return c.r.Read(b) }

// The rest of a frame that is half sent when the log forgets it comes first.
func TestHalfSentFrameIsFinished(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		m := &meter{}
		l := newSource(&Log{MaxBytes: 400_000})
		server, client := tr.dial(t)
		p := l.Attach(server, Options{Meter: m})
		l.key()
		l.frame(300_000)
		l.Flush()
		r := newReader(t, client)
		r.expect("P0")
		r.half(p)
		for range 30 {
			l.frame(100_000)
		}
		l.version++
		l.key()
		l.frame(100_000)
		l.Flush()
		require.Negative(t, l.find(0))
		r.expect("F0", "C1", "F31")
		require.EqualValues(t, 1, m.skips.Load())
		require.EqualValues(t, 30*100_000, m.skipped.Load())
		l.frame(100)
		l.Flush()
		r.expect("F32")
		p.Detach()
	})
}

// Without a point to go on from the player waits for one.
func TestWindowLost(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		m := &meter{}
		l := newSource(&Log{MaxBytes: 400_000})
		l.key()
		for range 31 { // one group of pictures, larger than the window
			l.frame(100_000)
		}
		l.Flush()
		require.False(t, l.marked)
		server, client := tr.dial(t)
		p := l.Attach(server, Options{Meter: m})
		r := newReader(t, client)
		r.nothing()
		l.key()
		l.frame(100)
		l.Flush()
		r.expect("P0", "F31")
		p.Detach()

		server, client = tr.dial(t)
		p = l.Attach(server, Options{Meter: m})
		r = newReader(t, client)
		r.expect("P0", "F31")
		l.frame(100_000)
		l.Flush()
		r.half(p)
		for range 30 {
			l.frame(100_000)
		}
		l.Flush()
		r.expect("F32")
		for l.frames < 70 { // with what a muxer would put into the log at a change
			l.frame(100_000)
			l.Flush()
		}
		l.key()
		l.frame(100)
		l.Flush()
		for u := ""; u != "F70"; {
			require.NoError(t, client.SetReadDeadline(time.Now().Add(30*time.Second)))
			got, err := readUnit(r.r)
			require.NoError(t, err)
			require.Equal(t, byte('F'), got.kind, "no second prefix, and no configuration but that it has")
			u = got.String()
		}
		require.NotZero(t, m.skips.Load())
		p.Detach()
	})
}

// Detach from the middle of a frame, with the peer not reading.
func TestDetachHalfSent(t *testing.T) {
	overSlow(t, func(t *testing.T, tr transport) {
		before := runtime.NumGoroutine()
		l := newSource(&Log{Stall: time.Hour})
		server, client := tr.dial(t)
		p := l.Attach(server, Options{OnEnd: func(error) { t.Error("OnEnd after Detach") }})
		l.key()
		l.frame(4 << 20)
		l.Flush()
		time.Sleep(20 * time.Millisecond)
		began := time.Now()
		whole, err := p.Detach()
		require.NoError(t, err)
		require.False(t, whole)
		require.Less(t, time.Since(began), lastWrite+30*time.Second)
		go server.(net.Conn).Close()
		all, cut := drain(client)
		require.LessOrEqual(t, len(all), 1)
		require.True(t, cut || tr.name == "pipe")
		settleGoroutines(t, before)
	})
}

// Nobody who reads nothing keeps the log's bytes in memory for long.
func TestWindowIsBounded(t *testing.T) {
	for _, maxBytes := range []int{100_000, 1 << 20, 4 << 20} {
		synctest.Test(t, func(t *testing.T) {
			l := newSource(&Log{MaxBytes: maxBytes, Stall: time.Hour})
			server, client := net.Pipe()
			p := l.Attach(server, Options{})
			held := 0
			l.key()
			for range 2000 {
				if l.frames%300 == 0 {
					l.key()
				}
				l.frame(10_000)
				l.Flush()
				sum := 0
				for _, c := range l.chunks {
					sum += cap(c.buf)
				}
				held = max(held, sum)
				time.Sleep(40 * time.Millisecond)
			}
			require.LessOrEqual(t, held, maxBytes+2*fullChunk)
			client.Close()
			p.Detach()
		})
	}
}

// What is older than MaxLag and not needed by a new player goes too.
func TestWindowIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSource(&Log{MaxLag: 2 * time.Second})
		for range 1000 {
			if l.frames%10 == 0 {
				l.key()
			}
			l.frame(20_000)
			time.Sleep(40 * time.Millisecond)
		}
		require.Less(t, l.head-l.chunks[0].base, int64(2*25*20_000+2*fullChunk))
		require.True(t, l.marked)
	})
}
