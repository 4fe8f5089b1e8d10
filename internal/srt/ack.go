package srt

// ackInterval is synInterval, less what a tick may come early after one that was
// late.
const ackInterval = synInterval - 2*millisecond

// light says how far it has come, without asking for an answer.
func (r *receiver) light(now micros) {
	be.PutUint32(r.c.control(now, typeACK, 0, 0, lightACK), uint32(r.next))
	r.fresh = 0
	r.c.stats.PktSentACK++
}

// ack sends a full ACK, if there is something new to say, or the last was not
// confirmed.
func (r *receiver) ack(now micros) {
	c := r.c
	if r.next == r.acked && (r.confirm == r.acked || now-r.ackAt < c.rtt+4*c.rttVar) {
		r.fresh = 0
		return
	}
	if r.ackNo++; r.ackNo == 0 {
		r.ackNo = 1
	}
	rate, bytes := r.meter.rates(now)
	a := ackInfo{
		next: r.next, rtt: uint32(c.rtt), rttVar: uint32(c.rttVar),
		room: uint32(max(2, receiveWindow-r.high.sub(r.base))),
		rate: rate, capacity: r.meter.capacity(), byteRate: bytes,
	}
	a.put(c.control(now, typeACK, 0, r.ackNo, fullACK))
	r.acks[r.ackNo%uint32(len(r.acks))] = ackSent{r.ackNo, now, r.next}
	r.acked, r.ackAt, r.fresh = r.next, now, 0
	c.stats.PktSentACK++
}

// confirmed takes an ACKACK.
func (r *receiver) confirmed(now micros, h *header) {
	r.c.stats.PktRecvACKACK++
	a := &r.acks[h.info%uint32(len(r.acks))]
	if h.info == 0 || a.no != h.info {
		return // too old, or never sent
	}
	rtt := now - a.at
	if a.seq.sub(r.confirm) > 0 {
		r.confirm = a.seq
	}
	a.no = 0 // once
	r.c.observe(rtt)
	r.timing.sample(now, r.timing.unwrap(h.time), rtt)
}

// tick does what is due.
func (r *receiver) tick(now micros) (next micros) {
	next = r.deliver(now)
	if now-r.ackAt >= ackInterval && (r.fresh > 0 || r.next != r.acked || r.confirm != r.acked) {
		r.ack(now)
	}
	if r.missing > 0 && r.c.reportLoss && now-r.nakAt >= ackInterval {
		r.nakAt = now
		r.reportAll(now)
	}
	if r.fresh > 0 || r.missing > 0 || r.next != r.acked || r.confirm != r.acked {
		next = min(next, now+1) // on the grid
	}
	return next
}

// A meter measures what comes.
type meter struct {
	since          micros
	packets, bytes int
	rate, byteRate uint32

	last     seq
	lastAt   micros
	interval micros // of packets that are sent back to back, smoothed
}

// packet counts a packet. Every sixteenth is followed by the next without a
// pause: their distance tells how much the path carries.
func (m *meter) packet(now micros, n seq, size int) {
	m.packets++
	m.bytes += size + headerSize
	if d := now - m.lastAt; n&15 == 1 && m.last == n.add(-1) && d > 0 && d < second {
		if m.interval == 0 {
			m.interval = d
		}
		m.interval = (7*m.interval + d) / 8
	}
	m.last, m.lastAt = n, now
}

// rates returns what came in the last second.
func (m *meter) rates(now micros) (packets, bytes uint32) {
	if d := now - m.since; d >= second {
		m.rate = uint32(min(int64(m.packets)*int64(second)/int64(d), 1<<31))
		m.byteRate = uint32(min(int64(m.bytes)*int64(second)/int64(d), 1<<31))
		m.since, m.packets, m.bytes = now, 0, 0
	}
	return m.rate, m.byteRate
}

// capacity is in packets a second.
func (m *meter) capacity() uint32 {
	if m.interval == 0 {
		return 1000 // as libsrt begins
	}
	return uint32(second / max(1, m.interval))
}
