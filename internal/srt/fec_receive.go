package srt

// A fecReceiver rebuilds what was lost. A filter's packet has the number of the
// last packet that it sums up, and so says by itself which those are, whatever
// the layout of the matrix.
type fecReceiver struct {
	filterConfig
	history []fecPacket // by sequence number; a power of two
	open    []fecOpen   // sums of groups of which something is missing
	newest  seq
}

// fecPacket is a packet as it came, still encrypted.
type fecPacket struct {
	seq  seq
	ok   bool
	key  keySlot
	time uint32
	data []byte
}

// fecOpen is a sum of several packets that are not all there.
type fecOpen struct {
	last    seq // of its packets
	step, n int
	sum     clip
}

func newFECReceiver(c filterConfig, isn seq) *fecReceiver {
	size := 64
	for size < 3*c.rows*c.cols {
		size *= 2
	}
	return &fecReceiver{filterConfig: c, history: make([]fecPacket, size), newest: isn}
}

func (f *fecReceiver) at(n seq) *fecPacket { return &f.history[int(n)&(len(f.history)-1)] }

func (f *fecReceiver) has(n seq) bool {
	p := f.at(n)
	return p.ok && p.seq == n
}

// receive takes a packet, of the filter or not.
func (f *fecReceiver) receive(r *receiver, now micros, h *header, body []byte) {
	if h.seq.sub(r.base) >= receiveWindow || f.newest.sub(h.seq) >= len(f.history) {
		return // nonsense, or too old to be of use
	}
	if h.seq.sub(f.newest) > 0 {
		f.newest = h.seq
		f.prune()
	}
	if h.msg != 0 {
		f.keep(h, body)
	} else {
		r.c.stats.PktRcvFilterExtra++
		if len(body) < fecHead {
			r.c.stats.PktRcvInvalid++
			return
		}
		g := fecOpen{last: h.seq, step: 1, n: f.cols}
		if int8(body[0]) >= 0 {
			g.step, g.n = f.cols, f.rows
		}
		if g.n < 2 {
			r.c.stats.PktRcvInvalid++ // there are no columns
			return
		}
		if len(f.open) < 2*(f.rows+f.cols) {
			// Its length is that of the longest, and known only when it is rebuilt.
			g.sum.add(be.Uint16(body[2:]), keySlot(body[1]), h.time, body[fecHead:])
			f.open = append(f.open, g)
		}
	}
	for f.rebuild(r, now) {
	}
}

// keep remembers a packet for the sums that it is part of.
func (f *fecReceiver) keep(h *header, body []byte) {
	p := f.at(h.seq)
	p.seq, p.ok, p.key, p.time, p.data = h.seq, true, h.key(), h.time, append(p.data[:0], body...)
}

// prune forgets sums that are too old.
func (f *fecReceiver) prune() {
	n := 0
	for i := range f.open {
		g := &f.open[i]
		if f.newest.sub(g.last)+g.step*g.n < len(f.history) {
			f.open[n] = *g
			n++
		}
	}
	clear(f.open[n:])
	f.open = f.open[:n]
}

// rebuild rebuilds one packet, if it can be, and reports whether it did.
func (f *fecReceiver) rebuild(r *receiver, now micros) bool {
	for i := 0; i < len(f.open); i++ {
		g := &f.open[i]
		missing, lost := 0, seq(0)
		for k := range g.n {
			if n := g.last.add(-k * g.step); !f.has(n) {
				missing++
				lost = n
			}
		}
		if missing > 1 {
			continue
		}
		done := *g
		last := len(f.open) - 1
		f.open[i] = f.open[last]
		f.open[last] = fecOpen{}
		f.open = f.open[:last]
		if missing == 0 {
			i--
			continue
		}
		for k := range done.n {
			if n := done.last.add(-k * done.step); n != lost {
				p := f.at(n)
				done.sum.add(uint16(len(p.data)), p.key, p.time, p.data)
			}
		}
		size := int(done.sum.length)
		if size > len(done.sum.payload) || size > maxPayload || done.sum.key > uint8(keyOdd) {
			r.c.stats.PktRcvInvalid++
			i--
			continue
		}
		h := header{seq: lost, msg: 1, flags: flagSolo | flagRetransmit | done.sum.key<<3, time: done.sum.time}
		f.keep(&h, done.sum.payload[:size])
		r.c.stats.PktRcvFilterSupply++
		r.store(now, &h, done.sum.payload[:size])
		return true
	}
	return false
}

// hopeless returns where the packets begin, of those from first to high, that
// may still be rebuilt: the sums that they are part of have not all come.
func (f *fecReceiver) hopeless(first, high seq) seq {
	wait := f.cols + f.cols/3
	if f.rows > 1 {
		wait = f.rows*f.cols + f.cols
	}
	if n := high.add(-wait); first.before(n) {
		return n
	}
	return first
}
