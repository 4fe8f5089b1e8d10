package srt

// timing says when packets are due (TSBPD, draft 4.5), whatever the peer's
// clock does.
type timing struct {
	base    micros // our time at which the peer's was 0
	latency micros
	newest  micros // timestamp, unwrapped

	began   micros // of the samples
	samples int
	sum     micros
	rtt     micros // of the first samples: half of a change of it is no drift
}

const (
	driftSamples = 100
	driftSpan    = 10 * second // of samples
)

func (t *timing) init(base, latency, now micros) {
	t.base, t.latency, t.began = base, latency, now
	t.newest = now - base
}

// unwrap makes of a timestamp, which wraps every 71 minutes, one that does not.
func (t *timing) unwrap(stamp uint32) micros {
	at := t.newest + micros(int32(stamp-uint32(t.newest)))
	t.newest = max(t.newest, at)
	return at
}

// due returns when a packet is to be handed out.
func (t *timing) due(at micros) micros { return t.base + at + t.latency }

// sample compares the clocks, by a packet that the peer has sent at a time of
// its own. The mean over some seconds is drift.
func (t *timing) sample(now, at, rtt micros) {
	if t.rtt == 0 {
		t.rtt = max(rtt, 1)
	}
	d := now - (t.base + at) - (rtt-t.rtt)/2
	if abs(d) > 5*second {
		return // no clock drifts that far between two
	}
	t.sum += d
	t.samples++
	if t.samples >= driftSamples && now-t.began >= driftSpan {
		t.base += t.sum / micros(t.samples)
		t.began, t.samples, t.sum = now, 0, 0
	}
}
