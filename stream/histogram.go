package stream

import (
	"sync/atomic"
	"time"
)

// A Histogram counts durations in buckets that double from 64 µs to 16 s. The
// zero Histogram is ready; all methods may be called at once.
type Histogram struct {
	counts [histogramBuckets + 1]atomic.Uint64
	sum    atomic.Int64
}

const (
	histogramBuckets = 19
	histogramFirst   = 64 * time.Microsecond
)

// Observe counts d n times.
func (h *Histogram) Observe(d time.Duration, n int) {
	i := 0
	for bound := histogramFirst; i < histogramBuckets && d > bound; bound *= 2 {
		i++
	}
	h.counts[i].Add(uint64(n))
	h.sum.Add(int64(d) * int64(n))
}

// A HistogramBucket counts the durations that are at most Bound and more than
// the bucket before's.
type HistogramBucket struct {
	Bound time.Duration // 0 in the last: no bound
	Count uint64
}

// Snapshot returns the buckets, the number of durations and their sum.
func (h *Histogram) Snapshot() (buckets []HistogramBucket, count uint64, sum time.Duration) {
	buckets = make([]HistogramBucket, len(h.counts))
	bound := histogramFirst
	for i := range h.counts {
		n := h.counts[i].Load()
		buckets[i] = HistogramBucket{bound, n}
		bound *= 2
		count += n
	}
	buckets[len(buckets)-1].Bound = 0
	return buckets, count, time.Duration(h.sum.Load())
}

// Quantile returns an upper estimate of the q-quantile (0.5 is the median): the
// bound of the bucket it falls in, interpolated. 0 if nothing was observed.
func (h *Histogram) Quantile(q float64) time.Duration {
	buckets, count, _ := h.Snapshot()
	rank := q * float64(count)
	var seen float64
	var lower time.Duration
	for _, b := range buckets {
		if b.Count > 0 && seen+float64(b.Count) >= rank {
			upper := b.Bound
			if upper == 0 {
				return lower
			}
			return lower + time.Duration((rank-seen)/float64(b.Count)*float64(upper-lower))
		}
		seen += float64(b.Count)
		lower = b.Bound
	}
	return 0
}
