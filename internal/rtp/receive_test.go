package rtp

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

var epoch = time.Unix(1e9, 0)

func at(n int) time.Time { return epoch.Add(time.Duration(n) * ms) }

// feed is a Receiver and what came out of it.
type feed struct {
	Receiver
	out  []uint16
	lost int
}

func (f *feed) push(when int, seqs ...uint16) {
	for _, s := range seqs {
		f.Push(Packet{Sequence: s, Arrived: at(when), Payload: []byte{byte(s)}})
		f.pop(when)
	}
}

func (f *feed) pop(when int) {
	for {
		p, ok := f.Pop(at(when))
		if !ok {
			return
		}
		f.out = append(f.out, p.Sequence)
		f.lost += p.Lost
	}
}

func TestOrder(t *testing.T) {
	f := &feed{}
	f.push(0, 65534, 0, 65535, 2, 2, 1, 0, 65534)
	require.Equal(t, []uint16{65534, 65535, 0, 1, 2}, f.out)
	require.Zero(t, f.lost)
	r := f.Report()
	require.EqualValues(t, 5, r.Received)
	require.EqualValues(t, 3, r.Repeated)
	require.EqualValues(t, 1<<16+2, r.Highest, "with the cycles")
	require.Zero(t, r.TotalLost)
}

func TestWait(t *testing.T) {
	f := &feed{Receiver: Receiver{Wait: 100 * ms}}
	f.push(0, 1)
	f.push(10, 3, 4)
	f.push(50, 6)
	f.pop(109)
	require.Equal(t, []uint16{1}, f.out)
	f.pop(110)
	require.Equal(t, []uint16{1, 3, 4}, f.out)
	require.Equal(t, 1, f.lost)
	f.push(120, 2)
	require.Equal(t, []uint16{1, 3, 4}, f.out, "too late")
	f.push(149, 5)
	require.Equal(t, []uint16{1, 3, 4, 5, 6}, f.out)
	require.Equal(t, 1, f.lost)
}

func TestMissing(t *testing.T) {
	f := &feed{}
	ask := func(when int) []uint16 { return f.Missing(nil, at(when), 30*ms) }
	require.Empty(t, ask(0))
	require.True(t, f.Due(0).IsZero())
	f.push(0, 10, 14)
	require.Empty(t, ask(4), "perhaps it is but late")
	require.Equal(t, at(5), f.Due(30*ms))
	require.Equal(t, []uint16{11, 12, 13}, ask(5))
	require.Empty(t, ask(20))
	f.push(21, 12)
	require.Equal(t, at(35), f.Due(30*ms))
	require.Equal(t, []uint16{11, 13}, ask(35))
	for when := 36; when < 200; when++ {
		ask(when)
	}
	f.pop(200)
	require.Equal(t, []uint16{10, 12, 14}, f.out)
	require.Equal(t, 2, f.lost)
	require.Empty(t, ask(300))

	f = &feed{Receiver: Receiver{Wait: time.Hour}}
	f.push(0, 1, 3)
	n := 0
	for when := range 10_000 {
		n += len(ask(when))
	}
	require.Equal(t, nackTries, n)
}

func TestSenderBeginsAnew(t *testing.T) {
	f := &feed{}
	f.push(0, 1, 2, 30_000, 3)
	require.Equal(t, []uint16{1, 2, 3}, f.out, "one stray packet is nothing")
	f.push(1, 40_000, 40_001, 40_002)
	require.Equal(t, []uint16{1, 2, 3, 40_001, 40_002}, f.out)
	require.Equal(t, 1, f.lost, "what follows does not go on with what was")

	f = &feed{}
	f.push(0, 1)
	f.push(1, 2500) // more than fits: the oldest are given up
	f.pop(300)
	require.Equal(t, []uint16{1, 2500}, f.out)
	require.Equal(t, 2498, f.lost)
}

func TestReport(t *testing.T) {
	f := &feed{Receiver: Receiver{Rate: 1000}}
	require.Zero(t, f.Report())
	push := func(when int, seq uint16, stamp uint32) {
		f.Push(Packet{Sequence: seq, Timestamp: stamp, Arrived: at(when)})
	}
	push(0, 100, 4294967290)
	push(16, 102, 10) // on time, across the wrap
	require.Zero(t, uint32(f.jitter))
	push(46, 103, 24) // 16 late
	r := f.Report()
	require.EqualValues(t, 1, r.Jitter)
	require.EqualValues(t, 1, r.TotalLost)
	require.EqualValues(t, 64, r.FractionLost, "1 of 4")
	require.EqualValues(t, 103, r.Highest)
	push(60, 104, 38)
	require.Zero(t, f.Report().FractionLost, "of the interval")
	require.EqualValues(t, 1, f.Report().TotalLost)
}

// With a tenth lost, a tenth of what is asked for too, and much disorder,
// everything comes and in order.
func TestLossyPath(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	type flight struct {
		seq uint16
		at  int
	}
	var air []flight
	send := func(seq uint16, now int) {
		if r.IntN(10) > 0 {
			air = append(air, flight{seq, now + 15 + r.IntN(20)})
		}
	}
	f := &feed{Receiver: Receiver{Wait: 400 * ms}}
	const packets = 5000
	for now := range packets + 1000 {
		if now < packets {
			send(uint16(now+60_000), now)
		}
		var left []flight
		for _, a := range air {
			if a.at > now {
				left = append(left, a)
				continue
			}
			f.push(now, a.seq)
		}
		air = left
		for _, seq := range f.Missing(nil, at(now), 40*ms) {
			send(seq, now+15)
		}
		f.pop(now)
	}
	require.GreaterOrEqual(t, len(f.out), packets-30) // those at the ends may go
	require.Zero(t, f.lost)
	for i, s := range f.out {
		require.Equal(t, f.out[0]+uint16(i), s)
	}
}

func TestFrames(t *testing.T) {
	var out []Frame
	f := Frames{Unpacker: &VP8{}}
	seq, clock := uint16(0), uint32(1<<32-3000)
	var packets []Packet
	for i := range 6 {
		p := (&VP8{}).Pack(nil, vp8Frame(2500, i == 0 || i == 4), false, 1000)
		require.Len(t, p, 3)
		for k, b := range p {
			packets = append(packets, Packet{Sequence: seq, Timestamp: clock, Marker: k == 2 && i != 1, Payload: b, Arrived: at(i)})
			seq++
		}
		clock += 3000
	}
	for i, p := range packets {
		switch {
		case i == 7: // in the middle of frame 2
			continue
		case i == 8 || i == 10:
			p.Lost = 1
		case i == 9: // the first of frame 3
			continue
		}
		f.Push(&p, func(fr Frame) { out = append(out, fr) })
	}
	require.Len(t, out, 4, "frames 2 and 3 are gone")
	require.Equal(t, []bool{true, false, true, false}, []bool{out[0].Key, out[1].Key, out[2].Key, out[3].Key})
	require.Equal(t, []bool{false, false, true, false}, []bool{out[0].Lost, out[1].Lost, out[2].Lost, out[3].Lost})
	first := out[0].Timestamp
	for i, want := range []int64{0, 3000, 12_000, 15_000} {
		require.Equal(t, want, out[i].Timestamp-first, "no wrap")
		require.Len(t, out[i].Data, 2500)
	}

	out = nil
	f = Frames{Unpacker: &Audio{}, Whole: true}
	for i, n := range []int{3, 0, 4} { // the middle one is padding
		f.Push(&Packet{Timestamp: uint32(960 * i), Payload: random(n)}, func(fr Frame) { out = append(out, fr) })
	}
	require.Len(t, out, 2)
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 3, 9, 0, 2, 0})
	f.Add([]byte{255, 255, 1, 0, 0, 1, 0x80, 0, 200, 0x80, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Receiver
		now := 0
		given, taken := 0, 0
		for ; len(b) >= 3; b = b[3:] {
			now += int(b[2])
			if r.Push(Packet{Sequence: uint16(b[0])<<8 | uint16(b[1]), Arrived: at(now), Payload: b[:1]}) {
				given++
			}
			for {
				if _, ok := r.Pop(at(now)); !ok {
					break
				}
				taken++
			}
			r.Missing(nil, at(now), 0)
			r.Due(0)
			r.Report()
		}
		if taken > given {
			t.Fatalf("%d of %d packets", taken, given)
		}
	})
}
