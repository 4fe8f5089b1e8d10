package srt

// A receiver is the receiving half of a core.
type receiver struct {
	c    *core
	ring []slot // by sequence number; a power of two, at most window
	base seq    // not handed out yet
	next seq    // the first that is missing, or high; not before base
	high seq    // after the newest that came

	missing int // of [next, high)
	timing  timing
	fec     *fecReceiver // nil: no filter
	due     [][]byte     // handed out, for the sink

	// ACKs.
	acked   seq    // said in the last
	ackAt   micros // when a full one was last sent
	ackNo   uint32
	acks    [32]ackSent
	confirm seq // of the ACKs that were confirmed, the newest
	fresh   int // packets since any ACK
	nakAt   micros
	meter   meter
}

// slot is a packet that came, or one that is missing.
type slot struct {
	data  []byte
	time  micros // came: the sender's; missing: when it was last asked for
	state slotState
}

type slotState uint8

const (
	slotEmpty   slotState = iota
	slotMissing           // something after it came
	slotCame
	slotSkip // nothing to be waited for, nor handed out
)

type ackSent struct {
	no  uint32
	at  micros
	seq seq
}

// receiveWindow is how many packets are kept for want of others, or until
// their time. It is what libsrt has.
const receiveWindow = 8192

func (r *receiver) init(c *core, now micros) {
	r.c = c
	isn := c.peerISN
	r.base, r.next, r.high, r.acked, r.confirm = isn, isn, isn, isn, isn
	r.ackAt = now
	r.timing.init(c.peerStart, c.recvLatency, now)
	r.meter.since = now
	if c.filter.cols > 0 {
		r.fec = newFECReceiver(c.filter, isn)
	}
}

func (r *receiver) at(n seq) *slot { return &r.ring[int(n)&(len(r.ring)-1)] }

// data takes a data packet.
func (r *receiver) data(now micros, h *header, body []byte) {
	c := r.c
	if len(body) > maxPayload {
		c.stats.PktRcvInvalid++
		return
	}
	c.stats.PktRecv++
	c.stats.ByteRecv += uint64(len(body))
	r.meter.packet(now, h.seq, len(body))
	if r.fec != nil && (h.msg == 0 || h.flags&flagRetransmit == 0 || c.filter.arq != arqNever) {
		r.fec.receive(r, now, h, body)
		if h.msg == 0 {
			return
		}
	} else if h.msg == 0 {
		c.stats.PktRcvInvalid++
		return
	}
	r.store(now, h, body)
}

// store keeps a packet that came, or was rebuilt.
func (r *receiver) store(now micros, h *header, body []byte) {
	c := r.c
	d := h.seq.sub(r.base)
	switch {
	case d < 0:
		c.stats.PktRcvBelated++
		return
	case d >= receiveWindow:
		c.stats.PktRcvDrop++ // no room
		return
	}
	r.grow(d + 1)
	s := r.at(h.seq)
	if h.seq.before(r.high) {
		if s.state != slotMissing {
			c.stats.PktRcvBelated++ // it came before
			return
		}
		r.missing--
		if h.flags&flagRetransmit == 0 {
			c.stats.PktReorder++
		}
	} else {
		r.gap(now, h.seq)
	}
	*s = slot{time: r.timing.unwrap(h.time), state: slotCame}
	if key := h.key(); key == keyNone && c.rx == nil {
		s.data = c.free.get(body)
	} else {
		data := c.free.get(body)
		if c.rx.xor(data, data, h.seq, key) {
			s.data = data
		} else {
			// It came, but nobody can read it: not encrypted where it should
			// be, or with a key that we do not have.
			s.state = slotSkip
			c.free.put(data)
			c.stats.PktRcvUndecrypt++
		}
	}
	if h.flags&flagRetransmit != 0 {
		c.stats.PktRcvRetrans++
	}
	c.stats.PktRecvUnique++
	c.stats.ByteRecvUnique += uint64(len(body))
	r.advance()
	if r.fresh++; r.fresh >= lightACKEvery {
		r.light(now)
	}
}

// gap makes n, which is not before high, the newest packet. What is between is
// missing, and asked for at once.
func (r *receiver) gap(now micros, n seq) {
	if lost := n.sub(r.high); lost > 0 {
		ask := r.fec == nil || r.c.filter.arq == arqAlways
		for q := r.high; q != n; q = q.add(1) {
			*r.at(q) = slot{state: slotMissing, time: now}
			if !ask {
				r.at(q).time = 0
			}
		}
		r.missing += lost
		r.c.stats.PktRcvLoss += uint64(lost)
		if ask {
			r.report(now, []run{{r.high, n.add(-1)}})
		}
	}
	r.high = n.add(1)
}

// advance moves next on.
func (r *receiver) advance() {
	for r.next != r.high && r.at(r.next).state != slotMissing {
		r.next = r.next.add(1)
	}
}

// grow makes room for n packets from base on.
func (r *receiver) grow(n int) {
	if n <= len(r.ring) {
		return
	}
	size := max(64, len(r.ring))
	for size < n {
		size *= 2
	}
	old := r.ring
	r.ring = make([]slot, size)
	for q := r.base; q != r.high; q = q.add(1) {
		*r.at(q) = old[int(q)&(len(old)-1)]
	}
}

// report asks for packets again.
func (r *receiver) report(now micros, list []run) {
	var b []byte
	for _, q := range list {
		b = appendRun(b, q)
	}
	copy(r.c.control(now, typeNAK, 0, 0, len(b)), b)
	r.c.stats.PktSentNAK++
}

// reportAll asks again for what is still missing and was not asked for lately.
func (r *receiver) reportAll(now micros) {
	if r.fec != nil && r.c.filter.arq == arqNever {
		return
	}
	before := now - r.nakInterval()
	var list [64]run
	n := 0
	to := r.high
	if r.fec != nil && r.c.filter.arq == arqOnRequest {
		to = r.fec.hopeless(r.next, r.high)
	}
	for q := r.next; q.before(to) && n < len(list); q = q.add(1) {
		s := r.at(q)
		if s.state != slotMissing || s.time > before {
			continue
		}
		s.time = now
		if n > 0 && list[n-1].to.add(1) == q {
			list[n-1].to = q
		} else {
			list[n] = run{q, q}
			n++
		}
	}
	if n > 0 {
		r.report(now, list[:n])
	}
}

// nakInterval is libsrt's, half of a round trip that takes long, but never so
// much of the latency that few tries are left.
func (r *receiver) nakInterval() micros {
	return max(minNAK, min((r.c.rtt+4*r.c.rttVar)/2, r.c.recvLatency/16))
}

// dropped takes a DROPREQ: the peer does not send those any more.
func (r *receiver) dropped(now micros, body []byte) {
	q, err := parseDrop(body)
	if err != nil || q.to.sub(r.base) >= receiveWindow || q.len() > receiveWindow {
		r.c.stats.PktRcvInvalid++
		return
	}
	if q.to.before(r.base) {
		return
	}
	if q.from.before(r.base) {
		q.from = r.base
	}
	r.grow(q.to.sub(r.base) + 1)
	if !q.to.before(r.high) { // none of it came, nor what is before it
		if q.from.sub(r.high) > 0 {
			r.gap(now, q.from.add(-1))
			last := r.at(q.from.add(-1))
			*last = slot{state: slotMissing, time: now}
			r.missing++
		}
		for ; r.high != q.to.add(1); r.high = r.high.add(1) {
			*r.at(r.high) = slot{state: slotSkip}
			r.c.stats.PktRcvDrop++
		}
	}
	for n := q.from; !q.to.before(n); n = n.add(1) {
		if s := r.at(n); s.state == slotMissing {
			*s = slot{state: slotSkip}
			r.missing--
			r.c.stats.PktRcvDrop++
		}
	}
	r.advance()
}

// deliver hands out what is due, and returns when more will be.
func (r *receiver) deliver(now micros) (next micros) {
	for r.base != r.high {
		s := r.at(r.base)
		switch s.state {
		case slotCame:
			if at := r.timing.due(s.time); at > now {
				return at
			}
			if s.data != nil {
				r.due = append(r.due, s.data)
			}
		case slotMissing:
			q := r.base
			for q != r.high && r.at(q).state != slotCame {
				q = q.add(1)
			}
			if q == r.high || !r.c.dropLate {
				return never // its coming changes that
			}
			if at := r.timing.due(r.at(q).time); at > now {
				return at
			}
			for ; r.base != q; r.base = r.base.add(1) {
				if s := r.at(r.base); s.state == slotMissing {
					r.missing--
					r.c.stats.PktRcvDrop++
				}
				*r.at(r.base) = slot{}
			}
			if r.next.before(r.base) {
				r.next = r.base
				r.advance()
			}
			continue
		}
		*s = slot{}
		r.base = r.base.add(1)
		if r.next.before(r.base) {
			r.next = r.base
		}
	}
	return never
}
