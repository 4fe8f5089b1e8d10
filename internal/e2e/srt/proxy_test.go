package srt

import (
	"container/heap"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A network is what a proxy does to datagrams, each way.
type network struct {
	loss    float64
	delay   time.Duration // one way
	reorder float64       // of datagrams, which come late
	late    time.Duration // by
}

// proxy is a UDP proxy to a server for one client, which loses, delays and
// reorders, always the same if what comes is. Only what has 1000 bytes or more
// is lost where dataOnly is set. late tells by how much it was behind at most,
// which says how busy the machine is.
func proxy(t *testing.T, server string, n network, dataOnly bool) (addr string, late func() time.Duration) {
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	back, err := net.Dial("udp4", server)
	require.NoError(t, err)
	_ = front.SetReadBuffer(4 << 20)
	_ = back.(*net.UDPConn).SetReadBuffer(4 << 20)
	var mu sync.Mutex
	var client netip.AddrPort
	var wg sync.WaitGroup
	done := make(chan struct{})
	forth := newPath(n, 1, dataOnly, func(b []byte) { _, _ = back.Write(b) })
	home := newPath(n, 2, dataOnly, func(b []byte) {
		mu.Lock()
		to := client
		mu.Unlock()
		if to.IsValid() {
			_, _ = front.WriteToUDPAddrPort(b, to)
		}
	})
	for _, p := range []*path{forth, home} {
		wg.Go(func() { p.run(done) })
	}
	wg.Go(func() {
		b := make([]byte, 2000)
		for {
			k, from, err := front.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			mu.Lock()
			client = from
			mu.Unlock()
			forth.take(b[:k])
		}
	})
	wg.Go(func() {
		b := make([]byte, 2000)
		for {
			k, err := back.Read(b)
			if err != nil {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond): // the server is not there yet
					continue
				}
			}
			home.take(b[:k])
		}
	})
	t.Cleanup(func() {
		close(done)
		front.Close()
		back.Close()
		wg.Wait()
	})
	return front.LocalAddr().String(), func() time.Duration { return max(forth.worst(), home.worst()) }
}

// A path is one direction.
type path struct {
	network
	dataOnly bool
	send     func([]byte)
	wake     chan struct{}

	mu     sync.Mutex
	rand   *rand.Rand
	queue  waiting
	n      int
	behind time.Duration
}

func (p *path) worst() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.behind
}

func newPath(n network, seed uint64, dataOnly bool, send func([]byte)) *path {
	return &path{network: n, dataOnly: dataOnly, send: send, wake: make(chan struct{}, 1), rand: rand.New(rand.NewPCG(seed, 7))}
}

func (p *path) take(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if (!p.dataOnly || len(b) >= 1000) && p.rand.Float64() < p.loss {
		return
	}
	at := time.Now().Add(p.delay)
	if p.reorder > 0 && p.rand.Float64() < p.reorder {
		at = at.Add(p.late)
	}
	p.n++
	heap.Push(&p.queue, datagram{at, p.n, append([]byte(nil), b...)})
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *path) run(done chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := time.Hour
		p.mu.Lock()
		for len(p.queue) > 0 {
			if wait = time.Until(p.queue[0].at); wait > 0 {
				break
			}
			d := heap.Pop(&p.queue).(datagram)
			p.behind = max(p.behind, -wait)
			p.send(d.b)
			wait = time.Hour
		}
		p.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-done:
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
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
