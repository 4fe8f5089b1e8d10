package srt

import (
	"math/bits"
	"sync"
)

// A wheel wakes connections: one timer for all of them. Times in it are exact
// to tickUnit. A connection has one entry, which may come early but not late.
type wheel struct {
	mu    sync.Mutex
	slots [wheelSize]*Conn
	used  [wheelSize / 64]uint64 // slots that are not empty
	at    int64                  // slot that was looked at last, counted from the start
	plan  micros                 // when the loop wakes up anyway; 0: unknown
}

const (
	wheelSize = 2048
	tickUnit  = 1 * millisecond
	// longest is how far ahead an entry may be: less than a turn.
	longest = 1500 * millisecond
	// grid is what is not urgent waits for, so that connections are served
	// together, and with what has come meanwhile.
	grid = 10 * millisecond
)

// timer is a Conn's place in a wheel.
type timer struct {
	prev, next *Conn
	slot       int // -1: none
	when       micros
}

// schedule has c woken at a time, if not before. It reports whether the loop
// must be woken to know.
func (w *wheel) schedule(c *Conn, when micros) (wake bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.timer.slot >= 0 && c.timer.when <= when {
		return false
	}
	w.removeLocked(c)
	now := micros(w.at) * tickUnit
	when = min(max(when, now+tickUnit), now+longest)
	when = (when + tickUnit - 1) / tickUnit * tickUnit
	i := int(when/tickUnit) % wheelSize
	c.timer = timer{next: w.slots[i], slot: i, when: when}
	if c.timer.next != nil {
		c.timer.next.timer.prev = c
	}
	w.slots[i] = c
	w.used[i/64] |= 1 << (i % 64)
	if w.plan == 0 || when < w.plan {
		w.plan = when
		return true
	}
	return false
}

func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removeLocked(c)
}

func (w *wheel) removeLocked(c *Conn) {
	t := &c.timer
	if t.slot < 0 {
		return
	}
	if t.next != nil {
		t.next.timer.prev = t.prev
	}
	if t.prev != nil {
		t.prev.timer.next = t.next
	} else if w.slots[t.slot] = t.next; t.next == nil {
		w.used[t.slot/64] &^= 1 << (t.slot % 64)
	}
	*t = timer{slot: -1}
}

// expired takes out a connection whose time has come, nil if there is none.
func (w *wheel) expired(now micros) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := int64(now / tickUnit)
	if end-w.at >= wheelSize {
		w.at = end - wheelSize + 1 // it slept: every slot is looked at once
	}
	for w.at <= end {
		i := int(w.at % wheelSize)
		if c := w.slots[i]; c != nil {
			w.removeLocked(c)
			return c
		}
		w.at++
	}
	w.at = end
	return nil
}

// next returns when the next entry is due, and takes it that the loop will
// come then.
func (w *wheel) next(now micros) micros {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan = never
	first := int(w.at % wheelSize)
	for k := 0; k <= len(w.used); k++ { // the first word twice: its end, and its begin
		at := (first/64 + k) % len(w.used)
		word := w.used[at]
		if k == 0 {
			word &= ^uint64(0) << (first % 64)
		}
		if word != 0 {
			w.plan = w.slots[at*64+bits.TrailingZeros64(word)].timer.when
			break
		}
	}
	return w.plan
}
