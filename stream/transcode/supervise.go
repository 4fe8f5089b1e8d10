package transcode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstDelay = time.Second
	lastDelay  = 30 * time.Second
	// steady is how long a run must have lasted for the next failure to be the
	// first again.
	steady = time.Minute
)

// errAgain is what a run ends with that is to be followed by another at once.
var errAgain = errors.New("transcode: another run is due")

// supervise calls run again and again, with a delay that doubles from failure to
// failure, until ctx ends or run returns nil or io.EOF, which is the end of what it
// works on. Each failure is logged.
func supervise(ctx context.Context, log *slog.Logger, run func(context.Context) error) error {
	delay := firstDelay
	for {
		began := time.Now()
		err := run(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil, errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errAgain):
			continue
		}
		if time.Since(began) >= steady {
			delay = firstDelay
		}
		// Not all at once, when all have failed for the same reason.
		wait := delay + rand.N(delay/4)
		log.Warn("transcode: failed", "err", err, "again", wait.Round(time.Millisecond))
		delay = min(2*delay, lastDelay)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// A watchdog barks when something takes a number of items and gives nothing back for a
// while. What it watches may wait for some items before it gives the first back, so that
// both must be exceeded.
type watchdog struct {
	stall time.Duration
	most  int // items
	bark  func()

	mu      sync.Mutex
	owed    int       // items since the last that came back
	since   time.Time // when the first of them went
	timer   *time.Timer
	stopped bool
}

// owes is told that an item has been taken.
func (d *watchdog) owes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed++; d.owed == 1 {
		d.since = time.Now()
	}
	if d.timer == nil && !d.stopped {
		d.timer = time.AfterFunc(d.stall/4, d.look)
	}
}

// fed is told that something came back.
func (d *watchdog) fed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed = 0
}

func (d *watchdog) look() {
	d.mu.Lock()
	late := !d.stopped && d.owed > d.most && time.Since(d.since) >= d.stall
	if !d.stopped {
		d.timer.Reset(d.stall / 4)
	}
	d.mu.Unlock()
	if late {
		d.bark()
	}
}

// stop ends the watch.
func (d *watchdog) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	if d.timer != nil {
		d.timer.Stop()
	}
}
