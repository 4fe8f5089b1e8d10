package srt

// A sender is the sending half of a core.
type sender struct {
	c     *core
	ring  []sent // by sequence number; a power of two
	first seq    // not acknowledged
	next  seq    // not sent yet
	end   seq    // not given yet
	msg   uint32 // number of the next message

	losses  int // packets of [first, next) that are marked as lost
	lowest  seq // no loss is before this
	room    int // packets that the peer has room for
	pacer   pacer
	keys    rotation
	fec     *fecSender // nil: no filter
	probed  micros     // when the end of what was sent was last asked about
	backoff int
	sentAt  micros // when a packet was last sent
	grew    micros // when ring last did
}

// sent is a packet until it is acknowledged.
type sent struct {
	data  []byte // plain; somebody else's, and not changed
	at    micros // when it was given
	last  micros // when it was last sent
	msg   uint32
	key   keySlot
	lost  bool
	again bool // it was sent more than once
}

const (
	keptRing = 512 // packets whose places are kept in any case
	keptFor  = 10 * second
)

// calm is how often a sender is looked after at least, as long as it sends.
const calm = 50 * millisecond

func (s *sender) init(c *core, now micros) {
	s.c = c
	s.first, s.next, s.end, s.lowest = c.isn, c.isn, c.isn, c.isn
	s.msg = 1
	s.room = c.window
	s.pacer = pacer{pace: c.pace, filled: now, since: now, tokens: burst}
	s.keys = rotation{ring: c.tx, after: c.refresh}
	if c.tx != nil {
		s.keys.slot = keyEven
		if c.tx.blocks[keyEven] == nil {
			s.keys.slot = keyOdd
		}
	}
	if c.filter.cols > 0 {
		s.fec = newFECSender(c.filter, c.isn)
	}
}

func (s *sender) at(n seq) *sent { return &s.ring[int(n)&(len(s.ring)-1)] }

// push queues b, which must not change any more, in packets of at most the
// payload's size, and returns how much of it there was room for.
func (s *sender) push(now micros, b []byte) (n int) {
	for len(b) > 0 && s.end.sub(s.first) < maxQueued {
		k := min(len(b), s.c.payload)
		s.grow(now)
		*s.at(s.end) = sent{data: b[:k:k], at: now, msg: s.msg}
		if s.msg++; s.msg > maxMessage {
			s.msg = 1
		}
		s.end = s.end.add(1)
		s.pacer.input(now, k+headerSize)
		b = b[k:]
		n += k
	}
	s.c.given = now
	return n
}

// grow makes room for another packet.
func (s *sender) grow(now micros) {
	n := s.end.sub(s.first)
	if n < len(s.ring) {
		return
	}
	s.grew = now
	old, size := s.ring, max(32, 2*len(s.ring))
	s.ring = make([]sent, size)
	for i := range n {
		q := s.first.add(i)
		*s.at(q) = old[int(q)&(len(old)-1)]
	}
}

// flush sends what may be sent now: what was lost first.
func (s *sender) flush(now micros) {
	s.pacer.refill(now)
	for s.losses > 0 && s.pacer.tokens > 0 {
		s.repair(now)
	}
	for s.next != s.end && s.pacer.tokens > 0 && s.next.sub(s.first) < s.room {
		p := s.at(s.next)
		s.keys.count(s, now)
		p.key = s.keys.slot
		s.transmit(now, s.next, p)
		s.c.stats.PktSentUnique++
		s.c.stats.ByteSentUnique += uint64(len(p.data))
		s.next = s.next.add(1)
	}
}

// repair sends the oldest packet again that is lost.
func (s *sender) repair(now micros) {
	for ; s.lowest.before(s.next); s.lowest = s.lowest.add(1) {
		if p := s.at(s.lowest); p.lost {
			s.losses--
			p.lost, p.again = false, true
			s.transmit(now, s.lowest, p)
			s.c.stats.PktRetrans++
			s.c.stats.ByteRetrans += uint64(len(p.data))
			s.lowest = s.lowest.add(1)
			return
		}
	}
	s.losses = 0
}

// transmit queues a packet.
func (s *sender) transmit(now micros, n seq, p *sent) {
	c := s.c
	h := header{seq: n, msg: p.msg, flags: flagSolo | uint8(p.key)<<3, time: c.stamp(p.at), dest: c.peer}
	if p.again {
		h.flags |= flagRetransmit
	}
	payload := p.data
	var head []byte
	if p.key != keyNone {
		head = c.out.scratch(headerSize + len(p.data))
		payload = head[headerSize:]
		c.tx.xor(payload, p.data, n, p.key)
		h.put(head)
		c.out.packet(head, nil)
	} else {
		head = c.out.scratch(headerSize)
		h.put(head)
		c.out.packet(head, p.data)
	}
	size := len(p.data) + headerSize
	s.pacer.tokens -= int64(size)
	p.last, s.sentAt, c.spoke = now, now, now
	c.stats.PktSent++
	c.stats.ByteSent += uint64(len(p.data))
	if s.fec != nil && !p.again {
		s.fec.feed(s, &h, payload)
	}
}

// acknowledged takes an ACK.
func (s *sender) acknowledged(now micros, h *header, body []byte) {
	a, err := parseACK(body)
	if err != nil {
		s.c.stats.PktRcvInvalid++
		return
	}
	s.c.stats.PktRecvACK++
	if a.next.sub(s.first) < 0 || a.next.sub(s.next) > 0 {
		// Old, or for what was never sent: nothing is learnt from it. But an
		// old one is to be confirmed, or the peer repeats it.
		if a.next.sub(s.next) > 0 {
			s.c.stats.PktRcvInvalid++
			return
		}
	} else if a.next != s.first {
		s.release(a.next)
		s.backoff = 0
	}
	if !a.hasRTT {
		s.flush(now)
		return
	}
	s.c.empty(now, typeACKACK, h.info)
	s.c.observe(micros(a.rtt))
	s.room = max(2, min(s.c.window, int(min(a.room, maxQueued))))
	if a.hasRates {
		s.c.stats.PeerCapacity = a.capacity
	}
	s.flush(now)
}

// release forgets the packets before n.
func (s *sender) release(n seq) {
	for s.first != n {
		p := s.at(s.first)
		if p.lost {
			s.losses--
		}
		*p = sent{}
		s.first = s.first.add(1)
	}
	if s.lowest.before(s.first) {
		s.lowest = s.first
	}
	if s.next.before(s.first) {
		s.next = s.first
	}
}

// reported takes a NAK.
func (s *sender) reported(now micros, body []byte) {
	c := s.c
	c.stats.PktRecvNAK++
	recent := now - max(c.rtt-4*c.rttVar, c.rtt/2) // what was sent again since is on its way
	for r := range runs(body) {
		if r.to.sub(s.next) >= 0 || r.len() > maxQueued {
			c.stats.PktRcvInvalid++ // it was never sent
			break
		}
		if gone := min(s.first.sub(r.from), r.len()); gone > 0 {
			// Given up, or acknowledged since: say so, lest it ask again.
			s.forgo(now, run{r.from, r.from.add(gone - 1)})
			r.from = r.from.add(gone)
		}
		for n := r.len(); n > 0; n-- {
			p := s.at(r.from)
			if !p.lost && (!p.again || p.last < recent) {
				p.lost = true
				s.losses++
				c.stats.PktSndLoss++
				if r.from.before(s.lowest) {
					s.lowest = r.from
				}
			}
			r.from = r.from.add(1)
		}
	}
	s.flush(now)
}

// forgo tells the peer not to wait for packets.
func (s *sender) forgo(now micros, r run) {
	b := s.c.control(now, typeDropReq, 0, 0, 8)
	be.PutUint32(b, uint32(r.from))
	be.PutUint32(b[4:], uint32(r.to))
}

// tick does what is due.
func (s *sender) tick(now micros) (next micros) {
	c := s.c
	if s.first == s.end {
		if len(s.ring) > keptRing && now-s.grew > keptFor {
			s.ring = nil // what an outage has filled is not kept for ever
		}
		if now-s.sentAt < second {
			return now + calm // more is to come, and need not wake the loop then
		}
		return never
	}
	if c.dropLate {
		// What the peer would throw away need not be sent.
		limit := max(c.peerLatency, second) + 2*synInterval
		old := s.first
		n := s.first
		for n != s.end && now-s.at(n).at > limit {
			c.stats.PktSndDrop++
			c.stats.ByteSndDrop += uint64(len(s.at(n).data))
			n = n.add(1)
		}
		if n != old {
			s.release(n)
			s.forgo(now, run{old, n.add(-1)})
		}
		next = now + limit
	} else {
		next = never
	}
	s.flush(now)
	s.keys.tick(s, now)
	if s.first == s.next {
		if s.next != s.end {
			return min(next, s.pacer.wait(now))
		}
		return next
	}
	// Nothing follows the last packet that would show that it was lost.
	timeout := (c.rtt + 4*c.rttVar + 2*synInterval) << min(s.backoff, 4)
	if last := max(s.sentAt, s.probed); now-last >= timeout && s.losses == 0 {
		p := s.at(s.next.add(-1))
		p.again = true
		s.transmit(now, s.next.add(-1), p)
		c.stats.PktRetrans++
		c.stats.ByteRetrans += uint64(len(p.data))
		s.probed = now
		s.backoff++
	}
	next = min(next, max(s.sentAt, s.probed)+timeout)
	if s.losses > 0 || s.next != s.end {
		next = min(next, s.pacer.wait(now)+millisecond)
	}
	return next
}

// wake returns when tick is to be called after something was pushed.
func (s *sender) wake(now micros) micros {
	if s.losses > 0 || s.next != s.end && s.next.sub(s.first) < s.room {
		return s.pacer.wait(now)
	}
	return now + max(calm, s.c.rtt+4*s.c.rttVar+2*synInterval)
}
