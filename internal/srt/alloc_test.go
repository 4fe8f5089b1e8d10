package srt

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// discard is an outbox that reuses its memory for each packet.
type discard struct {
	b []byte
	n int
}

func (d *discard) scratch(n int) []byte { return d.b[:n:n] }
func (d *discard) packet(_, _ []byte)   { d.n++ }
func newDiscard() *discard              { return &discard{b: make([]byte, 4096)} }
func plainTerms() terms {
	return terms{window: receiveWindow, idle: 5 * second, dropLate: true, reportLoss: true, pace: pace{maxBW: -1}, payload: livePayload}
}

// steady returns functions that send and receive one packet each, of a
// connection that has run for a while.
func steady() (send, receive func()) {
	tx, rx := newCore(plainTerms(), 0, 0, &buffers{}), newCore(plainTerms(), 0, 0, &buffers{})
	tx.out, rx.out = newDiscard(), newDiscard()
	payload := make([]byte, livePayload)
	packet := make([]byte, headerSize+livePayload)
	ack := make([]byte, headerSize+fullACK)
	now, n := micros(0), seq(0)
	send = func() {
		now += millisecond
		tx.snd.push(now, payload)
		tx.snd.flush(now)
		(&header{control: true, typ: typeACK, info: 1}).put(ack)
		a := ackInfo{next: tx.snd.next, rtt: 1000, room: receiveWindow}
		a.put(ack[headerSize:])
		tx.input(now, ack)
		tx.tick(now)
	}
	at := micros(0)
	receive = func() {
		at += millisecond
		h := header{seq: n, msg: 1, flags: flagSolo, time: uint32(at)}
		n = n.add(1)
		h.put(packet)
		rx.input(at, packet)
		rx.tick(at)
		for i, p := range rx.rcv.due {
			rx.free.put(p)
			rx.rcv.due[i] = nil
		}
		rx.rcv.due = rx.rcv.due[:0]
	}
	for range 1000 {
		send()
		receive()
	}
	return send, receive
}

func TestNoAllocations(t *testing.T) {
	send, receive := steady()
	require.Zero(t, testing.AllocsPerRun(1000, send))
	require.Zero(t, testing.AllocsPerRun(1000, receive))
}

func BenchmarkSend(b *testing.B) {
	send, _ := steady()
	b.ReportAllocs()
	for b.Loop() {
		send()
	}
}

func BenchmarkReceive(b *testing.B) {
	_, receive := steady()
	b.ReportAllocs()
	for b.Loop() {
		receive()
	}
}

func BenchmarkEncrypt(b *testing.B) {
	r, err := newKeyring("correct horse", 16)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, livePayload)
	b.ReportAllocs()
	for b.Loop() {
		r.xor(p, p, 7, keyEven)
	}
}
