package turn

import (
	"context"
	"sync"
	"time"
)

// A clientDeadline is a deadline that can be moved while somebody waits for it.
type clientDeadline struct {
	mu    sync.Mutex
	at    time.Time
	timer *time.Timer
	over  chan struct{} // closed when it has passed
}

// wait returns what is closed when the deadline passes.
func (d *clientDeadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over == nil {
		d.over = make(chan struct{})
	}
	return d.over
}

func (d *clientDeadline) passed() bool {
	select {
	case <-d.wait():
		return true
	default:
		return false
	}
}

// set moves the deadline; the zero time is none.
func (d *clientDeadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fired := d.timer != nil && !d.timer.Stop()
	d.timer, d.at = nil, at
	if d.over == nil {
		d.over = make(chan struct{})
	}
	over := d.over
	select {
	case <-over:
		over = make(chan struct{})
		d.over = over
	default:
		if fired { // the timer's function is on its way: it must not close the new one
			over = make(chan struct{})
			d.over = over
		}
	}
	if at.IsZero() {
		return
	}
	if left := time.Until(at); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(over) })
	} else {
		close(over)
	}
}

// context returns a context that ends at the deadline as it is now.
func (d *clientDeadline) context(parent context.Context) (context.Context, context.CancelFunc) {
	d.mu.Lock()
	at := d.at
	d.mu.Unlock()
	if at.IsZero() {
		return context.WithCancel(parent)
	}
	return context.WithDeadline(parent, at)
}
