package srt

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/udp"
)

// A network is what a proxy does to datagrams, each way.
type network struct {
	loss    float64
	delay   time.Duration // one way
	reorder float64       // of datagrams, which come late
	late    time.Duration // by
}

// tick is how exact the proxies are.
const tick = time.Millisecond

// wires are the proxies of some transfers at once. One goroutine serves them
// all, which looks at them once a tick: to wake up for each datagram would keep
// the machine busy.
type wires struct {
	loop  udp.Loop
	paths []*path // guarded by the loop
}

func newWires(t *testing.T) *wires {
	w := &wires{}
	w.loop.Rest = func() time.Duration { return tick }
	w.loop.Flush = func() {
		for _, p := range w.paths {
			_, _ = p.batch.Flush(p.out)
		}
	}
	w.loop.Tick = func(now time.Time) time.Time {
		for _, p := range w.paths {
			p.pass(now)
		}
		return now.Add(tick)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.loop.Run()
	}()
	t.Cleanup(func() {
		_ = w.loop.Close()
		<-ended
	})
	return w
}

// proxy adds a proxy to a server for one client, which loses, delays and
// reorders, always the same if what comes is. Only what has 1000 bytes or more
// is lost where dataOnly is set.
func (w *wires) proxy(t *testing.T, server string, n network, dataOnly bool) (addr string, s *stalls) {
	to, err := netip.ParseAddrPort(server)
	require.NoError(t, err)
	var sockets [2]*udp.Conn
	for i := range sockets {
		sockets[i], err = udp.Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{ReadBuffer: 4 << 20, WriteBuffer: 4 << 20})
		require.NoError(t, err)
	}
	front, back := sockets[0], sockets[1]
	s = &stalls{}
	forth, home := newPath(n, 1, dataOnly, back, s), newPath(n, 2, dataOnly, front, s)
	forth.to = to
	w.loop.Do(func() { w.paths = append(w.paths, forth, home) })
	require.NoError(t, w.loop.Add(front, udp.HandlerFunc(func(ps []udp.Packet) {
		home.to = ps[len(ps)-1].Addr
		forth.take(ps)
	})))
	require.NoError(t, w.loop.Add(back, udp.HandlerFunc(home.take)))
	return front.LocalAddr().String(), s
}

// A path is one direction. It belongs to the loop.
type path struct {
	network
	dataOnly bool
	out      *udp.Conn
	to       netip.AddrPort // zero: nobody has called yet
	batch    udp.Batch
	rand     *rand.Rand
	queue    waiting
	n        int
	heard    time.Time
	stalls   *stalls
}

func newPath(n network, seed uint64, dataOnly bool, out *udp.Conn, s *stalls) *path {
	return &path{network: n, dataOnly: dataOnly, out: out, rand: rand.New(rand.NewPCG(seed, 7)), stalls: s}
}

// take takes what came.
func (p *path) take(ps []udp.Packet) {
	now := time.Now()
	if !p.heard.IsZero() {
		p.stalls.add(p.heard, now, longSilence)
	}
	p.heard = now
	for i := range ps {
		for b := range ps[i].Datagrams() {
			if (!p.dataOnly || len(b) >= 1000) && p.rand.Float64() < p.loss {
				continue
			}
			at := now.Add(p.delay)
			if p.reorder > 0 && p.rand.Float64() < p.reorder {
				at = at.Add(p.late)
			}
			p.n++
			heap.Push(&p.queue, datagram{at, p.n, append([]byte(nil), b...)})
		}
	}
}

// pass passes on what is due.
func (p *path) pass(now time.Time) {
	for len(p.queue) > 0 && !p.queue[0].at.After(now) {
		d := heap.Pop(&p.queue).(datagram)
		p.stalls.add(d.at, now, longStall)
		if p.to.IsValid() {
			p.batch.Add(p.to, udp.Mark{}, nil, d.b)
		}
	}
}

// stalls are the times at which the machine stood still: the proxy was late, or
// one of its peers said nothing. What a real-time protocol has on its way then is
// lost by right.
type stalls struct {
	mu   sync.Mutex
	list []span
}

type span struct{ from, to time.Time }

// What a stall takes at least: less leaves time for repair. Ends say something
// each 20 ms while something is sent.
const (
	longStall   = 20 * time.Millisecond
	longSilence = 60 * time.Millisecond
)

// busy is how long before and after it a machine that stood still here may do so
// elsewhere, in a process that cannot be seen into.
const busy = 2 * time.Second

func (s *stalls) add(from, to time.Time, long time.Duration) {
	if to.Sub(from) < long {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.list); n > 0 && s.list[n-1].from.Before(to) && s.list[n-1].to.After(from) {
		x := &s.list[n-1]
		if from.Before(x.from) {
			x.from = from
		}
		if to.After(x.to) {
			x.to = to
		}
		return
	}
	s.list = append(s.list, span{from, to})
}

// excuse reports whether the machine stood still while a packet was on its way
// that was sent at a time and had so long to come.
func (s *stalls) excuse(at time.Time, latency time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.list {
		if x.to.After(at.Add(-busy)) && x.from.Before(at.Add(latency+busy)) {
			return true
		}
	}
	return false
}

// count returns how often it stood still.
func (s *stalls) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

type datagram struct {
	at time.Time
	n  int
	b  []byte
}

type waiting []datagram

func (w waiting) Len() int { return len(w) }
func (w waiting) Less(i, j int) bool {
	return w[i].at.Before(w[j].at) || w[i].at.Equal(w[j].at) && w[i].n < w[j].n
}
func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(x any)   { *w = append(*w, x.(datagram)) }
func (w *waiting) Pop() any {
	o := *w
	x := o[len(o)-1]
	*w = o[:len(o)-1]
	return x
}
