package rtp

import (
	"math"
	"time"
)

// A Packet is one that has been received, without its header.
type Packet struct {
	Sequence  uint16
	Timestamp uint32
	Marker    bool
	Payload   []byte
	Arrived   time.Time
	// Again says that it came as a retransmission.
	Again bool
	// Lost says how many packets before this one have been given up.
	Lost int
}

const (
	// window is how many packets may be on their way or missing at once.
	window = 1024
	// maxWait bounds how long packets are held back on long paths.
	maxWait = time.Second
	// nackTries is how often a packet is asked for.
	nackTries = 10
	// reorder is how long a packet may be late before it is asked for, and
	// maxReorder where packets come at odd times.
	reorder    = 5 * time.Millisecond
	maxReorder = 30 * time.Millisecond
	// maxSkew is by how much a sequence number may differ from the last
	// before the sender must have begun anew.
	maxSkew = 3000
)

// A Receiver puts the packets of one SSRC into order, knows which are missing,
// and keeps the figures of its receiver reports. It is used by one goroutine.
type Receiver struct {
	// Wait is how long later packets are held back for one that is missing,
	// if the path is not so long that this is no use; default 200 ms.
	Wait time.Duration
	// Rate is the clock's, in Hz; for the jitter.
	Rate int

	counter Counter
	begun   bool
	first   int64
	next    int64 // that is due
	newest  int64
	lost    int           // given up since the last Pop
	rtt     time.Duration // from a request to what was asked for, smoothed; 0: unknown
	odd     uint32        // the sequence number that would tell of another beginning, behind 1<<16
	slots   []slot

	// figures
	received, repeated uint64
	transit            float64
	jitter             float64
	expectedBefore     int64
	receivedBefore     uint64
}

// A slot is what is known of a packet between next and newest.
type slot struct {
	packet  Packet
	here    bool
	missing time.Time // since when it is missing
	asked   time.Time
	tries   int
}

func (r *Receiver) slot(seq int64) *slot { return &r.slots[seq&(window-1)] }

// Push takes a packet. Call Pop until there is nothing before the Payload is
// overwritten: what has to wait is copied. It reports false for a packet that
// came before or is too late.
func (r *Receiver) Push(p Packet) bool {
	if r.slots == nil {
		r.slots = make([]slot, window)
		if r.Wait <= 0 {
			r.Wait = 200 * time.Millisecond
		}
	}
	if r.begun {
		if skew := int16(p.Sequence - uint16(r.newest)); skew > maxSkew || skew < -maxSkew {
			// Two in a row, as RFC 3550 Appendix A.1 has it: it is another beginning.
			if r.odd != 1<<16|uint32(p.Sequence) {
				r.odd = 1<<16 | uint32(p.Sequence+1)
				return false
			}
			r.restart()
		}
	}
	seq := r.counter.Next16(p.Sequence)
	if !r.begun {
		r.begun, r.first, r.next, r.newest = true, seq, seq, seq-1
	}
	if seq < r.next {
		r.counter.last = r.newest
		r.repeated++
		return false
	}
	if seq > r.newest {
		for r.next <= seq-window { // it gets too much: the oldest are given up
			r.giveUp()
		}
		for n := max(r.newest+1, r.next); n < seq; n++ {
			*r.slot(n) = slot{missing: p.Arrived}
		}
		r.newest = seq
		*r.slot(seq) = slot{}
	}
	r.counter.last = r.newest
	s := r.slot(seq)
	if s.here {
		r.repeated++
		return false
	}
	r.received++
	if p.Again && s.tries == 1 { // which of several requests it answers can't be told
		took := p.Arrived.Sub(s.asked)
		if r.rtt == 0 {
			r.rtt = took
		}
		r.rtt += (took - r.rtt) / 8
	}
	if !p.Again {
		r.observe(&p)
	}
	if seq != r.next {
		p.Payload = append([]byte(nil), p.Payload...)
	}
	s.packet, s.here = p, true
	return true
}

// giveUp passes over what is due.
func (r *Receiver) giveUp() {
	if r.next <= r.newest && r.slot(r.next).here {
		*r.slot(r.next) = slot{}
	}
	r.lost++
	r.next++
	r.newest = max(r.newest, r.next-1)
}

// restart forgets everything: the sender has begun anew.
func (r *Receiver) restart() {
	clear(r.slots)
	lost := r.lost + 1
	*r = Receiver{Wait: r.Wait, Rate: r.Rate, slots: r.slots, lost: lost, jitter: r.jitter, rtt: r.rtt}
}

// Pop returns the next packet, if it is there or it is time to go on without
// the ones before it.
func (r *Receiver) Pop(now time.Time) (p Packet, ok bool) {
	for r.begun && r.next <= r.newest {
		s := r.slot(r.next)
		if s.here {
			p = s.packet
			p.Lost, r.lost = r.lost, 0
			*s = slot{}
			r.next++
			return p, true
		}
		if now.Sub(s.missing) < r.wait() {
			return Packet{}, false
		}
		r.giveUp()
	}
	return Packet{}, false
}

// wait is how long a missing packet is waited for: at least so long that it can
// be asked for three times.
func (r *Receiver) wait() time.Duration {
	return max(r.Wait, min(4*r.rtt, maxWait))
}

// patience returns for how long a packet may be but late.
func (r *Receiver) patience() time.Duration {
	if r.Rate <= 0 {
		return reorder
	}
	return min(max(reorder, time.Duration(2*r.jitter/float64(r.Rate)*float64(time.Second))), maxReorder)
}

// path returns the round trip, which is rtt as long as it is unknown.
func (r *Receiver) path(rtt time.Duration) time.Duration {
	if r.rtt > 0 {
		return r.rtt
	}
	return rtt
}

// Due returns when Pop or Missing is to be called again, if nothing comes
// before; zero: then only.
func (r *Receiver) Due(rtt time.Duration) (at time.Time) {
	for seq := r.next; r.begun && seq <= r.newest; seq++ {
		s := r.slot(seq)
		if s.here {
			continue
		}
		when := s.missing.Add(r.wait())
		if s.tries < nackTries {
			when = earlier(when, s.again(r.patience(), r.path(rtt)))
		}
		at = earlier(at, when)
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// again returns when the packet is to be asked for.
func (s *slot) again(patience, rtt time.Duration) time.Time {
	if s.tries == 0 {
		return s.missing.Add(patience)
	}
	return s.asked.Add(max(rtt, 10*time.Millisecond))
}

// Missing appends the packets to ask for now: each a moment after it was found
// missing, and again when the answer should have been here, for a round trip
// of rtt until it is known better.
func (r *Receiver) Missing(dst []uint16, now time.Time, rtt time.Duration) []uint16 {
	patience, path := r.patience(), r.path(rtt)
	for seq := r.next; r.begun && seq <= r.newest; seq++ {
		s := r.slot(seq)
		if s.here || s.tries >= nackTries || now.Before(s.again(patience, path)) {
			continue
		}
		s.tries++
		s.asked = now
		dst = append(dst, uint16(seq))
	}
	return dst
}

// observe keeps the jitter (RFC 3550 Section 6.4.1 and Appendix A.8).
func (r *Receiver) observe(p *Packet) {
	if r.Rate <= 0 {
		return
	}
	at := float64(p.Arrived.UnixNano())/1e9*float64(r.Rate) - float64(p.Timestamp)
	if r.received > 1 {
		// The difference of two timestamps that wrapped is taken as it is meant.
		d := math.Abs(math.Remainder(at-r.transit, 1<<32))
		r.jitter += (d - r.jitter) / 16
	}
	r.transit = at
}

// A Report is what a receiver report says of a source (RFC 3550 Section 6.4.1).
type Report struct {
	FractionLost uint8 // since the last Report, of 256
	TotalLost    uint32
	Highest      uint32 // extended sequence number
	Jitter       uint32 // in units of the clock
	Received     uint64
	Repeated     uint64
}

// Report returns the figures, and begins another interval.
func (r *Receiver) Report() Report {
	if !r.begun {
		return Report{}
	}
	expected := r.newest - r.first + 1
	interval := expected - r.expectedBefore
	gone := interval - int64(r.received-r.receivedBefore)
	r.expectedBefore, r.receivedBefore = expected, r.received
	report := Report{
		TotalLost: uint32(min(max(expected-int64(r.received), 0), 1<<23-1)),
		Highest:   uint32(r.newest),
		Jitter:    uint32(min(r.jitter, math.MaxUint32)),
		Received:  r.received,
		Repeated:  r.repeated,
	}
	if interval > 0 && gone > 0 {
		report.FractionLost = uint8(min(gone*256/interval, 255))
	}
	return report
}
