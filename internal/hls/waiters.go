package hls

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// A Waiter is a request that is held back.
type Waiter struct {
	table *waiters
	r     Rendition
	who   netip.Addr
	wish  wish
	wake  func()
	place int // in waiters.held, guarded by waiters.mu; -1: not there any more
}

// waiters are the requests that are held back. Whoever wakes does not touch it:
// 2000 would stand in line for the lock.
type waiters struct {
	max, maxPerAddr int

	mu      sync.Mutex
	total   int
	perAddr map[netip.Addr]int
	held    [renditions][]*Waiter
}

// enter has w wait. It returns nil if there is no need to by now.
func (w *Waiter) enter(snap *atomic.Pointer[snapshot]) (*Waiter, error) {
	t := w.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if ok, err := w.wish.granted(snap.Load()); ok || err != nil {
		return nil, err
	}
	if t.max > 0 && t.total >= t.max {
		return nil, ErrWaiters
	}
	if t.maxPerAddr > 0 && w.who.IsValid() {
		if t.perAddr[w.who] >= t.maxPerAddr {
			return nil, ErrWaiters
		}
		if t.perAddr == nil {
			t.perAddr = make(map[netip.Addr]int)
		}
		t.perAddr[w.who]++
	}
	t.total++
	w.place = len(t.held[w.r])
	t.held[w.r] = append(t.held[w.r], w)
	return w, nil
}

// Stop ends the wait, and reports whether that is before wake: if not, it was
// called, or is about to be.
func (w *Waiter) Stop() bool {
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	if w.place < 0 {
		return false
	}
	w.leave()
	return true
}

// leave is called with the table locked.
func (w *Waiter) leave() {
	t := w.table
	list := t.held[w.r]
	last := len(list) - 1
	list[w.place] = list[last]
	list[w.place].place = w.place
	list[last] = nil
	t.held[w.r] = list[:last]
	w.place = -1
	t.total--
	if n, ok := t.perAddr[w.who]; ok {
		if n == 1 {
			delete(t.perAddr, w.who)
		} else {
			t.perAddr[w.who] = n - 1
		}
	}
}

// wake wakes those whose wish the new snapshot of a rendition grants.
func (t *waiters) wake(s *snapshot) {
	for _, w := range t.release(s) {
		w.wake()
	}
}

func (t *waiters) release(s *snapshot) (ready []*Waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.held[s.r]) - 1; i >= 0; i-- { // backwards: one that leaves is replaced by one that was seen
		w := t.held[s.r][i]
		if ok, err := w.wish.granted(s); ok || err != nil {
			w.leave()
			ready = append(ready, w)
		}
	}
	return ready
}

// any reports whether somebody waits for a rendition.
func (t *waiters) any(r Rendition) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held[r]) > 0
}

func (t *waiters) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}
