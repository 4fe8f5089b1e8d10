package fanout

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// discardAll discards what comes to a connection, which costs as little as can be:
// the kernel does not even copy it (MSG_TRUNC).
func discardAll(c net.Conn) {
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		panic(err)
	}
	b := make([]byte, 256<<10) // nothing is written to it
	_ = rc.Read(func(fd uintptr) bool {
		for {
			n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_TRUNC, 0, 0)
			switch {
			case errno == unix.EAGAIN:
				return false
			case errno != 0 || n == 0:
				return true
			}
		}
	})
}

// crowd attaches n players over TCP whose peers read all.
func crowd(tb testing.TB, l *Log, n int, o Options) (players []*Player) {
	var wg sync.WaitGroup
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer ln.Close()
	var conns []net.Conn
	for range n {
		client, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(tb, err)
		server, err := ln.Accept()
		require.NoError(tb, err)
		conns = append(conns, server)
		players = append(players, l.Attach(server, o))
		wg.Go(func() { discardAll(client); client.Close() })
	}
	tb.Cleanup(func() {
		for i, p := range players {
			p.Detach()
			conns[i].Close()
		}
		wg.Wait()
	})
	return players
}

func TestNoAllocations(t *testing.T) {
	var observed int
	l := newSource(&Log{Latency: func(d time.Duration, n int) { observed += n }})
	l.key()
	l.frame(100)
	players := crowd(t, l.Log, 100, Options{Meter: &meter{}})
	require.Len(t, l.shards, 1)
	s := l.shards[0]
	now := time.Now()
	l.clock = func() time.Time { return now }
	s.flush()
	observed = 0

	const runs = 1000
	require.Zero(t, testing.AllocsPerRun(runs, func() {
		l.frame(300)
		s.flush()
	}), "in step")
	require.Equal(t, (runs+1)*len(players), observed)

	require.Zero(t, testing.AllocsPerRun(runs, func() {
		l.frame(300)
		s.mu.Lock()
		for _, p := range players {
			p.push(now, noLimit)
		}
		s.mu.Unlock()
	}), "each by itself")
	require.Equal(t, 2*(runs+1)*len(players), observed)
	require.Zero(t, s.blocked)
}

func TestRawPlayersNeedNoGoroutine(t *testing.T) {
	l := newSource(&Log{})
	server, client := dialTCP(t)
	other, _ := dialTCP(t)
	before := runtime.NumGoroutine()
	p := l.Attach(server, Options{})
	q := l.Attach(other, Options{})
	require.Equal(t, before+1, runtime.NumGoroutine(), "the shard's")
	l.key()
	l.frame(100)
	l.Flush()
	r := newReader(t, client)
	r.expect("P0", "F0")
	p.Detach()
	q.Detach()
	settleGoroutines(t, before)

	p = l.Attach(server, Options{}) // the shard wakes up again
	r.expect("P0", "F0")
	l.frame(100)
	l.Flush()
	r.expect("F1")
	p.Detach()
	settleGoroutines(t, before)
}

// A socket takes little that it has not sent, so that there is something left to
// skip.
func TestLittleWaitsInTheKernel(t *testing.T) {
	m := &meter{}
	l := newSource(&Log{})
	server, client := dialTCP(t)
	require.NoError(t, client.(*net.TCPConn).SetReadBuffer(64<<10))
	p := l.Attach(server, Options{Meter: m})
	l.key()
	for range 100 {
		l.frame(100_000)
	}
	l.Flush()
	time.Sleep(100 * time.Millisecond)
	require.Less(t, m.out.Load(), int64(2<<20))
	p.Detach()
}

// The publisher's goroutine wakes shards, whatever the number of players, and
// does not wait for them.
func TestFlushDoesNotWait(t *testing.T) {
	l := newSource(&Log{})
	const players = 3000
	for range players {
		p := l.Attach(&countingConn{}, Options{})
		defer p.Detach()
	}
	require.LessOrEqual(t, len(l.shards), runtime.GOMAXPROCS(0))
	for _, s := range l.shards {
		s.mu.Lock()
	}
	l.key()
	l.frame(100)
	l.Flush()
	require.Zero(t, testing.AllocsPerRun(100, l.Flush))
	for _, s := range l.shards {
		s.mu.Unlock()
	}
}

// BenchmarkFanout writes frames of a stream of 1.15 Mbit/s, 45 a second (25
// pictures and 20 or so of audio), to players over loopback TCP.
func BenchmarkFanout(b *testing.B) {
	for _, batch := range []int{1, 4} {
		for _, n := range []int{1, 100, 500} {
			b.Run(fmt.Sprintf("frames=%d/players=%d", batch, n), func(b *testing.B) {
				l := newSource(&Log{Latency: func(time.Duration, int) {}})
				l.key()
				crowd(b, l.Log, n, Options{Meter: &meter{}})
				b.ReportAllocs()
				writes := 0
				for b.Loop() {
					for range batch {
						l.frame(1_150_000 / 8 / 45)
					}
					for _, s := range l.shards { // as their goroutines do
						s.flush()
					}
					writes += n
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(writes), "ns/write")
			})
		}
	}
}

// BenchmarkAppend is what a frame costs the muxer's goroutine.
func BenchmarkAppend(b *testing.B) {
	l := newSource(&Log{MaxBytes: 4 << 20})
	frame := makeUnit('F', 0, 3000)
	b.ReportAllocs()
	for b.Loop() {
		l.Append(time.Now(), len(frame), func(b []byte) []byte { return append(b, frame...) })
		l.Flush()
	}
}
