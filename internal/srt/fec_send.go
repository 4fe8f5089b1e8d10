package srt

// A clip is the sum of some packets: each field XORed.
type clip struct {
	length  uint16
	key     uint8
	time    uint32
	payload []byte
}

func (c *clip) add(length uint16, key keySlot, time uint32, payload []byte) {
	c.length ^= length
	c.key ^= uint8(key)
	c.time ^= time
	if n := len(payload) - len(c.payload); n > 0 {
		c.payload = append(c.payload, make([]byte, n)...)
	}
	for i, b := range payload {
		c.payload[i] ^= b
	}
}

func (c *clip) reset() { *c = clip{payload: c.payload[:0]} }

// fecHead is what stands before the payload of a filter's packet: the column, or
// -1, the sum of the key flags, and that of the lengths.
const fecHead = 4

// A fecSender sums up what is sent in a matrix: a packet after each row, and
// one after each column.
type fecSender struct {
	filterConfig
	isn     seq
	row     fecGroup
	columns []fecGroup // nil: only rows
}

// fecGroup is a row or a column.
type fecGroup struct {
	base seq // its first packet
	n    int // how many of it were sent
	sum  clip
}

func newFECSender(c filterConfig, isn seq) *fecSender {
	f := &fecSender{filterConfig: c, isn: isn, row: fecGroup{base: isn}}
	if c.rows < 2 {
		return f
	}
	f.columns = make([]fecGroup, c.cols)
	offset := 0
	for i := range f.columns {
		f.columns[i].base = isn.add(offset)
		switch {
		case c.even, i%c.rows == c.rows-1: // back to the first row
			offset = i + 1
		default:
			offset += 1 + c.cols
		}
	}
	return f
}

// feed takes a packet as it is sent, for the first time, and sends what is
// complete with it.
func (f *fecSender) feed(s *sender, h *header, payload []byte) {
	add := func(g *fecGroup) {
		g.sum.add(uint16(len(payload)), h.key(), h.time, payload)
		g.n++
	}
	if f.columns != nil {
		at := h.seq.sub(f.isn)
		i := at % f.cols
		if g := &f.columns[i]; !h.seq.before(g.base) {
			add(g)
			if g.n == f.rows {
				f.emit(s, h, &g.sum, int8(i))
				g.base = g.base.add(f.rows * f.cols)
				g.n = 0
			}
		}
	}
	add(&f.row)
	if f.row.n == f.cols {
		if !f.colsOnly {
			f.emit(s, h, &f.row.sum, -1)
		}
		f.row.sum.reset()
		f.row.n = 0
		// isn follows, so that its distance never wraps.
		f.isn = f.isn.add(f.cols)
	}
}

// emit sends a sum, with the number of the packet that completed it.
func (f *fecSender) emit(s *sender, last *header, sum *clip, index int8) {
	c := s.c
	b := c.out.scratch(headerSize + fecHead + len(sum.payload))
	h := header{seq: last.seq, flags: flagSolo | last.flags&flagKeys, time: sum.time, dest: c.peer}
	h.put(b)
	b[headerSize], b[headerSize+1] = byte(index), sum.key
	be.PutUint16(b[headerSize+2:], sum.length)
	copy(b[headerSize+fecHead:], sum.payload)
	c.out.packet(b, nil)
	s.pacer.tokens -= int64(len(b))
	c.stats.PktSndFilterExtra++
	sum.reset()
}
