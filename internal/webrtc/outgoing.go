package webrtc

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/pion/rtcp"

	"github.com/runnel-media/runnel/stream"
)

// outgoings are what a session sends.
type outgoings struct {
	feed    *Feed
	tracks  [stream.Data]outgoing // video, audio
	batch   []byte                // scratch of a retransmission
	stats   SendStats
	wide    *estimate // nil: not agreed on
	repairs int       // of this second
	second  int64
}

// An outgoing is a track that a session sends. Its packets are those of the
// feed, under numbers of its own.
type outgoing struct {
	line    *line
	ssrc    uint32
	rtxSSRC uint32
	started bool
	first   int64  // the feed's sequence number that it began with
	base    uint64 // the index that this one has
	rtx     uint64 // index of the next retransmission
	// extension is the header extension, of lenExtension bytes, in which the
	// transport-wide number is at wideAt; 0: it has none.
	extension    [maxExtension]byte
	lenExtension int
	wideAt       int
	packets      uint32
	octets       uint32
	told         time.Time // when the last sender report went out
}

// SendStats are what a session has sent, and what became of it.
type SendStats struct {
	Packets, Bytes uint64
	Repeated       uint64 // packets sent again
	Asked          uint64 // packets that the peer asked for
	FractionLost   float64
	RTT            time.Duration
	Jitter         time.Duration
	Bandwidth      int64 // of the path, bits a second, see Transport.Estimate; 0: unknown
}

// Stats returns the figures of what is sent.
func (s *Session) Stats() SendStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outgoing.stats
}

// newOutgoing begins a track on a line.
func newOutgoing(l *line, playout *Playout) outgoing {
	o := outgoing{
		line: l, ssrc: rand.Uint32()>>1 + 1, rtxSSRC: rand.Uint32()>>1 + 1,
		// Low enough that the first packets are not taken for late ones of the round before.
		base: uint64(rand.Uint32N(1 << 14)), rtx: uint64(rand.Uint32N(1 << 14)),
	}
	// RFC 8285 Section 4.2: one-byte headers, each of id and length less one.
	b := append(o.extension[:0], 0xbe, 0xde, 0, 0)
	if l.playout != 0 {
		steps := func(d time.Duration) uint32 { return uint32(min(max(d/(10*time.Millisecond), 0), 1<<12-1)) }
		v := steps(playout.Min)<<12 | steps(playout.Max)
		b = append(b, l.playout<<4|2, byte(v>>16), byte(v>>8), byte(v))
	}
	if l.wide != 0 {
		b = append(b, l.wide<<4|1, 0, 0, 0) // and one byte of padding
		o.wideAt = len(b) - 3
	}
	if len(b) > 4 {
		b[3] = byte(len(b)/4 - 1)
		o.lenExtension = len(b)
	}
	return o
}

const (
	lenHeader    = 12
	maxExtension = 12
	srEvery      = time.Second
	// maxRepairs bounds what one viewer can have sent again.
	maxRepairs = 2000 // packets a second
)

// header appends the header of a packet of a track, with its extension.
// Called with s.mu held.
func (s *Session) header(dst []byte, o *outgoing, payload uint8, marker bool, index uint64, stamp, ssrc uint32, size int, now time.Time) []byte {
	dst = header(dst, payload, marker, index, stamp, ssrc)
	if o.lenExtension == 0 {
		return dst
	}
	dst[0] |= 0x10
	dst = append(dst, o.extension[:o.lenExtension]...)
	if o.wideAt > 0 {
		n := s.outgoing.wide.number(size+len(dst), now)
		binary.BigEndian.PutUint16(dst[lenHeader+o.wideAt:], n)
	}
	return dst
}

// header appends a packet's header (RFC 3550 Section 5.1).
func header(dst []byte, payload uint8, marker bool, index uint64, stamp, ssrc uint32) []byte {
	if marker {
		payload |= 0x80
	}
	dst = append(dst, 0x80, payload)
	dst = binary.BigEndian.AppendUint16(dst, uint16(index))
	dst = binary.BigEndian.AppendUint32(dst, stamp)
	return binary.BigEndian.AppendUint32(dst, ssrc)
}

// send seals the feed's packets since first, which take at most size bytes, into
// box. Called by the feed, with its lock.
func (s *Session) send(box *outbox, size int, ft *feedTrack, kind stream.Kind, first int64, key bool, stamp uint32, wall time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outgoing.tracks[kind-1]
	to := s.path.Load()
	if s.sealer == nil || o.line == nil || to == nil {
		return
	}
	if !o.started {
		if kind == stream.Video && !key {
			return
		}
		o.started, o.first = true, first
	}
	if to.tcp == nil {
		box.room(to.port, size)
	}
	var head [lenHeader + maxExtension]byte
	var now time.Time
	if s.outgoing.wide != nil {
		now = time.Now()
	}
	for seq := first; seq < ft.next; seq++ {
		p := ft.at(seq)
		index := o.base + uint64(seq-o.first)
		h := s.header(head[:0], o, o.line.format.Payload, p.marker, index, p.stamp, o.ssrc, len(p.payload), now)
		var n int
		if to.tcp == nil {
			n = box.add(to.addr, s.sealer, h, p.payload, o.ssrc, index)
		} else {
			s.outgoing.batch = s.sealer.Seal(s.outgoing.batch[:0], h, p.payload, o.ssrc, index)
			to.tcp.send(s.outgoing.batch)
			n = len(s.outgoing.batch)
		}
		o.packets++
		o.octets += uint32(len(p.payload))
		s.outgoing.stats.Packets++
		s.outgoing.stats.Bytes += uint64(n)
	}
	if wall.Sub(o.told) >= srEvery {
		o.told = wall
		sr := rtcp.SenderReport{SSRC: o.ssrc, NTPTime: toNTP(wall), RTPTime: stamp, PacketCount: o.packets, OctetCount: o.octets}
		if b, err := sr.Marshal(); err == nil {
			s.sendRTCP(b)
		}
	}
}

// A request is for one packet to be sent again.
type request struct {
	kind     stream.Kind
	sequence uint16
}

// resend answers NACKs.
func (f *Feed) resend(s *Session, asked []request, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.outgoing.second {
		s.outgoing.second, s.outgoing.repairs = second, 0
	}
	for _, r := range asked {
		s.outgoing.stats.Asked++
		o := &s.outgoing.tracks[r.kind-1]
		if !o.started || s.sealer == nil || s.outgoing.repairs >= maxRepairs {
			continue
		}
		if index, ok := o.index(r.sequence); ok {
			if p := f.tracks[r.kind-1].at(o.first + int64(index-o.base)); p != nil {
				s.repeat(o, p, index, now)
			}
		}
	}
}

// index returns that of a packet that was sent: the nearest to the newest with
// these lower bits.
func (o *outgoing) index(sequence uint16) (index uint64, ok bool) {
	newest := o.base + uint64(o.packets)
	index = newest&^0xffff | uint64(sequence)
	if index >= newest {
		if index < 1<<16 {
			return 0, false
		}
		index -= 1 << 16
	}
	return index, index >= o.base
}

// repeat sends a packet again: as a retransmission where that is agreed on, else
// as it was. Called with s.mu held.
func (s *Session) repeat(o *outgoing, p *outPacket, index uint64, now time.Time) {
	s.outgoing.repairs++
	s.outgoing.stats.Repeated++
	var head [lenHeader + maxExtension]byte
	out := s.outgoing.batch[:0]
	if o.line.rtx != 0 {
		h := s.header(head[:0], o, o.line.rtx, p.marker, o.rtx, p.stamp, o.rtxSSRC, len(p.payload), now)
		body := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(p.payload)), uint16(index))
		out = s.sealer.Seal(out, h, append(body, p.payload...), o.rtxSSRC, o.rtx)
		o.rtx++
	} else {
		h := s.header(head[:0], o, o.line.format.Payload, p.marker, index, p.stamp, o.ssrc, len(p.payload), now)
		out = s.sealer.Seal(out, h, p.payload, o.ssrc, index)
	}
	s.outgoing.batch = out
	s.write(out)
}
