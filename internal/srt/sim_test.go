package srt

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A sim is two cores and the network between them, in simulated time.
type sim struct {
	now   micros
	a, b  *simEnd
	rand  *rand.Rand
	loss  float64
	delay micros // one way
	late  float64
	by    micros // what is late comes later by
	order int
	queue flights
}

type simEnd struct {
	*core
	s    *sim
	to   *simEnd
	got  [][]byte
	when []micros
	skew int64  // parts per million that its clock is fast
	off  micros // of its clock
	lost func([]byte) bool

	queued [][2][]byte // packets, which are kept until flush as a socket's are
}

type flight struct {
	at    micros
	order int
	to    *simEnd
	b     []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].order < f[j].order
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	o := *f
	x := o[len(o)-1]
	*f = o[:len(o)-1]
	return x
}

func (e *simEnd) scratch(n int) []byte { return make([]byte, n) }

func (e *simEnd) packet(head, data []byte) { e.queued = append(e.queued, [2][]byte{head, data}) }

// transmit puts what is queued on the way.
func (e *simEnd) transmit() {
	s := e.s
	for _, q := range e.queued {
		b := append(bytes.Clone(q[0]), q[1]...)
		if s.rand.Float64() < s.loss || e.lost != nil && e.lost(b) {
			continue
		}
		at := s.now + s.delay
		if s.rand.Float64() < s.late {
			at += s.by
		}
		s.order++
		heap.Push(&s.queue, flight{at, s.order, e.to, b})
	}
	e.queued = e.queued[:0]
}

// clock is the time as the end sees it.
func (e *simEnd) clock() micros {
	return e.off + e.s.now + e.s.now*micros(e.skew)/1e6
}

func newSim(t terms, mod func(a, b *terms)) *sim {
	s := &sim{rand: rand.New(rand.NewPCG(1, 2)), delay: 25 * millisecond}
	if t.window == 0 {
		t.window = receiveWindow
	}
	if t.idle == 0 {
		t.idle = 5 * second
	}
	t.pace.maxBW = -1
	t.peerISN = t.isn
	ta, tb := t, t
	ta.peer, tb.peer = 2, 1
	if mod != nil {
		mod(&ta, &tb)
	}
	s.a, s.b = &simEnd{s: s, off: 5 * second}, &simEnd{s: s, off: 9 * second}
	s.a.to, s.b.to = s.b, s.a
	ta.peerStart, tb.peerStart = s.a.clock(), s.b.clock()+s.delay
	s.a.core = newCore(ta, s.a.clock(), s.a.clock(), &buffers{})
	s.b.core = newCore(tb, s.b.clock(), s.b.clock(), &buffers{})
	s.a.out, s.b.out = s.a, s.b
	return s
}

// run lets time pass, in ticks of 2 ms.
func (s *sim) run(d micros) {
	s.a.transmit()
	for end := s.now + d; s.now < end; {
		s.now += 2 * millisecond
		for len(s.queue) > 0 && s.queue[0].at <= s.now {
			f := heap.Pop(&s.queue).(flight)
			f.to.input(f.to.clock(), f.b)
			f.to.transmit()
		}
		for _, e := range []*simEnd{s.a, s.b} {
			e.tick(e.clock())
			e.transmit()
			for _, p := range e.rcv.due {
				e.got = append(e.got, bytes.Clone(p))
				e.when = append(e.when, s.now)
				e.free.put(p)
			}
			e.rcv.due = e.rcv.due[:0]
		}
	}
}

// send gives n payloads to a, one each step, and lets the rest arrive.
func (s *sim) send(n int, step micros) {
	for i := range n {
		b := make([]byte, livePayload)
		binary.BigEndian.PutUint64(b, uint64(i))
		for k := 8; k < len(b); k++ {
			b[k] = byte(i * k)
		}
		s.a.snd.push(s.a.clock(), b)
		s.a.snd.flush(s.a.clock())
		s.run(step)
	}
	s.run(3 * second)
}

func (s *sim) check(t *testing.T, n int) {
	t.Helper()
	require.Equal(t, n, len(s.b.got))
	for i, b := range s.b.got {
		require.Equal(t, uint64(i), binary.BigEndian.Uint64(b))
		require.Equal(t, byte(i*1000), b[1000])
	}
}

func live(latency micros) terms {
	return terms{isn: seqMask - 50, recvLatency: latency, peerLatency: latency, dropLate: true, reportLoss: true}
}

func TestCleanPath(t *testing.T) {
	s := newSim(live(120*millisecond), nil)
	s.send(1000, 2*millisecond)
	s.check(t, 1000)
	require.Zero(t, s.a.stats.PktRetrans)
	require.Zero(t, s.b.stats.PktSentNAK)
	require.InDelta(t, 50, float64(s.a.rtt)/1000, 6)
	for i, at := range s.b.when {
		want := micros(2*i)*millisecond + s.delay + 120*millisecond
		require.InDelta(t, float64(want), float64(at), float64(5*millisecond))
	}
}

// The figures: 10 % loss, 50 ms, 5 % reordered, 480 ms, both encrypted
// and not.
func TestLossAndReorderLoseNothing(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		s := newSim(live(480*millisecond), func(a, b *terms) {
			if !encrypted {
				return
			}
			tx, err := newKeyring("correct horse", 16)
			require.NoError(t, err)
			m, err := parseKM(tx.material(keyEven).append(nil))
			require.NoError(t, err)
			a.tx = tx
			b.rx, err = openKeyring("correct horse", &m)
			require.NoError(t, err)
			a.refresh = 3000 // some rotations on the way
		})
		s.loss, s.late, s.by = 0.1, 0.05, 20*millisecond
		s.send(20000, 1*millisecond)
		s.check(t, 20000)
		require.NotZero(t, s.b.stats.PktRcvRetrans)
		require.Less(t, s.a.stats.PktRetrans, uint64(6000), "no flood")
		if encrypted {
			require.NotZero(t, s.a.stats.KeyRotations)
			require.Zero(t, s.b.stats.PktRcvUndecrypt)
		}
	}
}

func TestLastPacketIsRepaired(t *testing.T) {
	s := newSim(live(480*millisecond), nil)
	n := 0
	s.a.lost = func(b []byte) bool {
		h, _, _ := parseHeader(b)
		if h.control || h.flags&flagRetransmit != 0 {
			return false
		}
		n++
		return n >= 8 // the last three
	}
	s.send(10, 2*millisecond)
	s.check(t, 10)
}

func TestTooLateIsSkipped(t *testing.T) {
	s := newSim(live(120*millisecond), nil)
	s.a.lost = func(b []byte) bool {
		h, _, _ := parseHeader(b)
		return !h.control && (h.seq == seq(seqMask-50).add(10) || h.seq == seq(seqMask-50).add(11))
	}
	s.send(100, 5*millisecond)
	require.Equal(t, 98, len(s.b.got))
	require.Equal(t, uint64(2), s.b.stats.PktRcvDrop)
	require.Zero(t, s.b.rcv.missing)
	require.Equal(t, s.a.snd.first, s.a.snd.end, "all acknowledged")
}

func TestDriftOfAnHour(t *testing.T) {
	s := newSim(live(120*millisecond), nil)
	s.b.skew = 80 // of parts per million: 288 ms in an hour
	const n = 3600 * 20
	for i := range n {
		b := make([]byte, 188)
		binary.BigEndian.PutUint64(b, uint64(i))
		s.a.snd.push(s.a.clock(), b)
		s.a.snd.flush(s.a.clock())
		s.run(50 * millisecond)
	}
	s.run(second)
	require.Equal(t, n, len(s.b.got))
	first := s.b.when[0]
	worst := 0.0
	for i, at := range s.b.when {
		off := float64(at-first-micros(i)*50*millisecond) / 1000
		worst = max(worst, max(off, -off))
	}
	require.Less(t, worst, 20.0, "ms, after an hour and more than one wrap of timestamps")
}

func TestTimestampsWrap(t *testing.T) {
	var g timing
	g.init(0, 0, 0)
	at := micros(0)
	for range 20 {
		at += 20 * 60 * second
		require.Equal(t, at, g.unwrap(uint32(at)))
		require.Equal(t, at-second, g.unwrap(uint32(at-second)))
	}
}

func TestPeerIdle(t *testing.T) {
	s := newSim(live(120*millisecond), nil)
	s.send(10, 2*millisecond)
	s.run(20 * second)
	require.NoError(t, s.a.gone, "keepalives keep it")
	s.loss = 1
	s.run(6 * second)
	require.ErrorIs(t, s.a.gone, ErrPeerIdle)
	require.ErrorIs(t, s.b.gone, ErrPeerIdle)
}

func TestPacing(t *testing.T) {
	s := newSim(live(480*millisecond), func(a, b *terms) { a.pace = pace{maxBW: 1_000_000} })
	s.a.lost = func(b []byte) bool { return false }
	for range 500 { // 658 KB at once, at 1 MB a second
		s.a.snd.push(s.a.clock(), make([]byte, livePayload))
	}
	s.a.snd.flush(s.a.clock())
	s.run(200 * millisecond)
	sent := s.a.stats.ByteSent
	require.InDelta(t, burst+200_000, float64(sent), 40_000)
	s.run(2 * second)
	require.Equal(t, 500, len(s.b.got))
}

// What an outage has filled is given back when all has come.
func TestMemoryAfterAnOutage(t *testing.T) {
	s := newSim(live(480*millisecond), nil)
	for i := range 2000 {
		b := make([]byte, livePayload)
		binary.BigEndian.PutUint64(b, uint64(i))
		s.a.snd.push(s.a.clock(), b)
	}
	s.a.snd.flush(s.a.clock())
	s.run(second)
	require.Len(t, s.b.got, 2000)
	require.GreaterOrEqual(t, len(s.a.snd.ring), 2000)
	s.run(2 * keptFor)
	require.Empty(t, s.a.snd.ring)
	s.b.got = nil
	s.send(100, 2*millisecond)
	s.check(t, 100)
}

func TestFECRepairsWithoutRetransmission(t *testing.T) {
	for name, filter := range map[string]string{
		"rows": "fec,cols:10,arq:never", "both": "fec,cols:10,rows:5,arq:never", "even": "fec,cols:10,rows:5,layout:even,arq:never",
		"columns": "fec,cols:10,rows:-5,arq:never",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(live(480*millisecond), func(a, b *terms) {
				f, err := parseFilter(filter)
				require.NoError(t, err)
				a.filter, b.filter = f, f
				tx, err := newKeyring("correct horse", 16)
				require.NoError(t, err)
				a.tx, b.rx = tx, tx
			})
			s.loss = 0.02
			s.send(10000, 2*millisecond)
			require.Zero(t, s.b.stats.PktSentNAK)
			require.NotZero(t, s.b.stats.PktRcvFilterSupply)
			lost := 10000 - len(s.b.got)
			limit := map[string]int{"rows": 60, "columns": 40, "both": 3, "even": 3}[name]
			require.LessOrEqual(t, lost, limit, "of about 200")
			seen := uint64(0)
			for _, b := range s.b.got { // in order, and not one that is wrong
				n := binary.BigEndian.Uint64(b)
				require.True(t, n >= seen && n < 10000)
				require.Equal(t, byte(int(n)*1000), b[1000])
				seen = n + 1
			}
		})
	}
}

func TestFECWithRetransmission(t *testing.T) {
	s := newSim(live(480*millisecond), func(a, b *terms) {
		f, err := parseFilter("fec,cols:10,rows:5,arq:onreq")
		require.NoError(t, err)
		a.filter, b.filter = f, f
	})
	s.loss = 0.05
	s.send(10000, 2*millisecond)
	s.check(t, 10000)
	require.Less(t, s.a.stats.PktRetrans, uint64(250), "most is rebuilt")
}

func TestOutsideTheWindow(t *testing.T) {
	s := newSim(live(120*millisecond), nil)
	s.send(100, 2*millisecond)
	ctl := func(e *simEnd, typ uint16, words ...uint32) {
		b := make([]byte, headerSize+4*len(words))
		(&header{control: true, typ: typ, dest: 1}).put(b)
		for i, w := range words {
			be.PutUint32(b[headerSize+4*i:], w)
		}
		e.input(e.clock(), b)
	}
	isn := seq(seqMask - 50)
	first := s.a.snd.first
	for _, n := range []int{-5, 101, 1 << 20, 1 << 29} {
		ctl(s.a, typeACK, uint32(isn.add(n)))
		ctl(s.a, typeNAK, uint32(isn.add(n)))
		ctl(s.a, typeNAK, 1<<31|uint32(isn.add(n)), uint32(isn.add(n+1000)))
		ctl(s.b, typeDropReq, uint32(isn.add(n+1<<14)), uint32(isn.add(n+1<<14+10)))
	}
	ctl(s.b, typeDropReq, uint32(isn), uint32(isn.add(1<<29)))
	ctl(s.b, typeDropReq, uint32(isn.add(9)), uint32(isn))
	ctl(s.b, typeACKACK)
	require.Equal(t, first, s.a.snd.first)
	require.NotZero(t, s.a.stats.PktRcvInvalid)
	require.NotZero(t, s.b.stats.PktRcvInvalid)
	require.LessOrEqual(t, len(s.b.rcv.ring), receiveWindow)

	// Data far ahead takes no memory, replayed data is not handed out again.
	b := make([]byte, headerSize+livePayload)
	(&header{seq: isn.add(1 << 20), msg: 1, flags: flagSolo}).put(b)
	s.b.input(s.b.clock(), b)
	(&header{seq: isn, msg: 1, flags: flagSolo}).put(b)
	s.b.input(s.b.clock(), b)
	s.run(second)
	require.LessOrEqual(t, len(s.b.rcv.ring), receiveWindow)
	require.Equal(t, 100, len(s.b.got))
}

func TestDropRequestFreesTheReceiver(t *testing.T) {
	s := newSim(terms{isn: 7, recvLatency: 50 * millisecond, peerLatency: 50 * millisecond, reportLoss: true}, nil)
	s.a.lost = func(b []byte) bool {
		h, _, _ := parseHeader(b)
		return !h.control && h.seq == 10
	}
	s.a.dropLate = true // the sender gives up, the receiver never would
	s.send(50, 5*millisecond)
	require.Equal(t, 49, len(s.b.got))
	require.Equal(t, uint64(1), s.b.stats.PktRcvDrop)
}

// An encrypted connection takes no plain packets, no refused keys, and a KMREQ
// as often as it comes.
func TestNoDowngrade(t *testing.T) {
	tx, err := newKeyring("correct horse", 16)
	require.NoError(t, err)
	s := newSim(live(120*millisecond), func(a, b *terms) {
		a.tx = tx
		m, err := parseKM(tx.material(keyEven).append(nil))
		require.NoError(t, err)
		b.rx, err = openKeyring("correct horse", &m)
		require.NoError(t, err)
	})
	other, err := newKeyring("incorrect horse", 16)
	require.NoError(t, err)
	user := func(content []byte) {
		b := make([]byte, headerSize, headerSize+len(content))
		(&header{control: true, typ: typeUser, sub: extKMReq, dest: 2}).put(b)
		s.b.input(s.b.clock(), append(b, content...))
	}
	for range 3 {
		user(other.material(keyEven).append(nil))
		user(tx.material(keyEven).append(nil))
		user(nil)
		user(make([]byte, 200))
	}
	b := make([]byte, headerSize+100)
	(&header{seq: s.b.isn, msg: 1, flags: flagSolo}).put(b)
	s.b.input(s.b.clock(), b)
	s.run(second)
	require.Zero(t, len(s.b.got))
	require.Equal(t, uint64(1), s.b.stats.PktRcvUndecrypt)
	require.Equal(t, tx.keys[keyEven], s.b.rx.keys[keyEven])
}

func FuzzCore(f *testing.F) {
	b := make([]byte, headerSize+40)
	(&header{seq: 100, msg: 1, flags: flagSolo}).put(b)
	f.Add(b, uint8(0))
	(&header{seq: 109, msg: 0, flags: flagSolo}).put(b)
	f.Add(b, uint8(1))
	for _, typ := range []uint16{typeACK, typeNAK, typeACKACK, typeDropReq, typeUser} {
		(&header{control: true, typ: typ, sub: extKMReq, info: 1}).put(b)
		f.Add(bytes.Clone(b), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, mode uint8) {
		s := newSim(terms{isn: 100, dropLate: true, reportLoss: true, recvLatency: 10 * millisecond}, func(a, b *terms) {
			if mode&1 != 0 {
				a.filter, _ = parseFilter("fec,cols:5,rows:3")
				b.filter = a.filter
			}
		})
		for range 12 {
			s.a.snd.push(s.a.clock(), make([]byte, 50))
		}
		s.a.snd.flush(s.a.clock())
		s.run(30 * millisecond)
		for len(b) > 0 { // several packets, each behind its length
			n := min(int(b[0])+headerSize, len(b))
			s.a.input(s.a.clock(), b[:n])
			s.b.input(s.b.clock(), b[:n])
			b = b[n:]
			s.run(4 * millisecond)
		}
		s.run(200 * millisecond)
		if len(s.b.rcv.ring) > receiveWindow || len(s.a.snd.ring) > maxQueued {
			t.Fatal("unbounded")
		}
	})
}
