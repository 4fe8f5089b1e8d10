package record

import (
	"context"
	"time"
)

// A Retention bounds what is kept of recordings. Zero fields do not.
type Retention struct {
	Age   time.Duration // since the recording's end
	Bytes int64         // of all recordings
	Count int           // of recordings of one stream
}

func (k Retention) bounds() bool { return k.Age > 0 || k.Bytes > 0 || k.Count > 0 }

// retain enforces Keep until ctx ends.
func (r *Recorder) retain(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	l := &Library{Storage: r.Storage, Log: r.Log, Audit: r.Audit}
	begun := time.Now()
	var clock wallClock
	for {
		keep, now := r.Keep, time.Now()
		if !clock.steady(now, now.Sub(begun)) {
			keep.Age = 0
			r.log().Warn("record: the clock has jumped: nothing is deleted for its age until it has been steady for an hour")
		}
		if _, err := l.Retain(ctx, keep); err != nil && ctx.Err() == nil {
			r.log().Warn("record: retention", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
