package dtlsmux

import "github.com/pion/dtls/v3"

// A Tail is what is left of an association after its handshake, for owners
// that run the handshake themselves and want nothing of it but keys (DTLS-SRTP,
// RFC 5764): it hears that the peer closes, repeats the end of the handshake
// where that was lost, and says good-bye. It has no goroutine and no buffer, and
// is used by one goroutine at a time.
type Tail struct {
	in, out half
	window  window
	seq     uint64
	final   []byte
	scratch [scratchLen]byte
}

// NewTail takes over the association that pion's connection has made. That
// connection must not send any more, though it may be closed. final is the
// datagram with our Finished if that was the last word of the handshake, which
// is so for the server; nil for the client.
func NewTail(state *dtls.State, final []byte) (*Tail, error) {
	x, in, out, err := halves(state)
	if err != nil {
		return nil, err
	}
	return &Tail{in: in, out: out, seq: x.SequenceNumber, final: final}, nil
}

// IsFinal reports whether a datagram of pion's, of an association of which we
// are the server, is the last one of the handshake: that with our Finished.
func IsFinal(d []byte) bool {
	for {
		r, rest, ok := cutRecord(d)
		if !ok {
			return false
		}
		if r.typ == typeChangeCipherSpec {
			return true
		}
		d = rest
	}
}

// Input takes a datagram of the peer's, which is decrypted in place. answer is
// what is to be sent back, if anything, and good until the next call; closed
// says that the peer has ended the association. What is not authentic, or came
// before, is dropped without a word, and so is data.
func (t *Tail) Input(d []byte) (answer []byte, closed, ok bool) {
	for len(d) > 0 {
		r, rest, cut := cutRecord(d)
		if !cut {
			break
		}
		d = rest
		if r.epoch != 1 || r.raw[2] != version12&0xff || !t.window.fresh(r.seq) {
			continue
		}
		plain, opened := t.in.open(&r, &t.scratch)
		if !opened {
			continue
		}
		t.window.mark(r.seq)
		ok = true
		switch {
		case r.typ == typeHandshake && len(plain) > 0 && plain[0] == msgFinished:
			answer = t.final
		case r.typ == typeAlert && len(plain) == 2 && (plain[0] == 2 || plain[1] == 0): // as Conn.input
			return t.Goodbye(), true, true
		}
	}
	return answer, false, ok
}

// Goodbye returns the datagram that tells the peer that the association ends.
func (t *Tail) Goodbye() []byte {
	b := t.out.seal(nil, typeAlert, t.seq, 2, [][]byte{{1, 0}}) // warning, close_notify
	t.seq++
	return b
}
