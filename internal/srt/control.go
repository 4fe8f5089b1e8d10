package srt

import "iter"

// An ackInfo is the content of an ACK (draft 3.2.4). A light one has but the
// number, a small one lacks the rates.
type ackInfo struct {
	next                          seq    // the first packet that is missing
	rtt                           uint32 // µs
	rttVar                        uint32 // µs
	room                          uint32 // packets that the receiver has room for
	rate                          uint32 // packets a second
	capacity                      uint32 // packets a second
	byteRate                      uint32 // bytes a second
	hasRTT, hasRates, hasByteRate bool
}

const (
	lightACK = 4
	smallACK = 16
	fullACK  = 28
)

// parseACK reads an ACK of any length that there is.
func parseACK(b []byte) (a ackInfo, err error) {
	if len(b) < lightACK {
		return a, errPacket
	}
	n := be.Uint32(b)
	if n > seqMask {
		return a, errPacket
	}
	a.next = seq(n)
	if len(b) < smallACK {
		return a, nil
	}
	a.rtt, a.rttVar, a.room, a.hasRTT = be.Uint32(b[4:]), be.Uint32(b[8:]), be.Uint32(b[12:]), true
	if len(b) >= 24 {
		a.rate, a.capacity, a.hasRates = be.Uint32(b[16:]), be.Uint32(b[20:]), true
	}
	if len(b) >= fullACK {
		a.byteRate, a.hasByteRate = be.Uint32(b[24:]), true
	}
	return a, nil
}

// put writes a full ACK to b.
func (a *ackInfo) put(b []byte) {
	for i, v := range [...]uint32{uint32(a.next), a.rtt, a.rttVar, a.room, a.rate, a.capacity, a.byteRate} {
		be.PutUint32(b[4*i:], v)
	}
}

// A run is consecutive packets, both ends included.
type run struct{ from, to seq }

func (r run) len() int { return r.to.sub(r.from) + 1 }

// maxRuns is how many runs a NAK may have.
const maxRuns = maxPayload / 8

// appendRun appends an entry of a loss list (draft, appendix A).
func appendRun(dst []byte, r run) []byte {
	if r.from == r.to {
		return be.AppendUint32(dst, uint32(r.from))
	}
	dst = be.AppendUint32(dst, 1<<31|uint32(r.from))
	return be.AppendUint32(dst, uint32(r.to))
}

// runs yields the entries of a loss list, up to where it is malformed: ends
// before begins, or a begin without an end.
func runs(b []byte) iter.Seq[run] {
	return func(yield func(run) bool) {
		for len(b) >= 4 {
			from := be.Uint32(b)
			r := run{seq(from & seqMask), seq(from & seqMask)}
			b = b[4:]
			if from>>31 != 0 {
				if len(b) < 4 || be.Uint32(b)>>31 != 0 {
					return
				}
				r.to = seq(be.Uint32(b))
				b = b[4:]
			}
			if r.len() < 1 || !yield(r) {
				return
			}
		}
	}
}

// parseDrop reads a DROPREQ.
func parseDrop(b []byte) (run, error) {
	if len(b) < 8 {
		return run{}, errPacket
	}
	from, to := be.Uint32(b), be.Uint32(b[4:])
	r := run{seq(from), seq(to)}
	if from > seqMask || to > seqMask || r.len() < 1 {
		return run{}, errPacket
	}
	return r, nil
}
