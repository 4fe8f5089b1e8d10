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
	tracks  [stream.Data]outgoing // video, audio
	batch   []byte                // scratch of a retransmission
	payload []byte                // scratch of what is rewritten
	stats   SendStats
	wide    *estimate // nil: not agreed on
	repairs int       // of this second
	second  int64
	probe   probe
}

// An outgoing is a track that a session sends. Its packets are those of feeds, one
// after the other, under numbers of its own that go on.
type outgoing struct {
	line    *line
	ssrc    uint32
	rtxSSRC uint32
	want    *Feed  // that it is to send from its next key frame on
	now     run    // what it sends
	past    run    // before that, of which packets may be asked for still
	base    uint64 // index of the first packet of all
	next    uint64 // and of the next
	rtx     uint64 // index of the next retransmission
	stamp   uint32 // of the newest frame
	picture uint16 // and its ID, if the codec has any
	// extension is the header extension, of lenExtension bytes, in which the
	// transport-wide number is at wideAt; 0: it has none.
	extension    [maxExtension]byte
	lenExtension int
	wideAt       int
	packets      uint32
	octets       uint32
	told         time.Time // when the last sender report went out
}

// A run is a part of a track that comes from one feed.
type run struct {
	feed    *Feed  // nil: there is none
	first   int64  // the feed's sequence number that it began with
	base    uint64 // the index that this one has
	stamp   uint32 // added to timestamps
	picture uint16 // added to picture IDs
	at      int    // where these are in a payload; 0: nowhere
}

// SendStats are what a session has sent, and what became of it.
type SendStats struct {
	Packets, Bytes uint64
	Repeated       uint64 // packets sent again
	Probed         uint64 // packets sent again though nobody asked, to see what the path carries
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
	o.next = o.base
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

// send seals a frame of a feed into its box. It reports false if the session has
// no use for what the feed writes. Called by the feed, with its lock.
func (s *Session) send(f *Feed, fr *cutFrame) (stay bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outgoing.tracks[fr.kind-1]
	if o.line == nil || o.now.feed != f && o.want != f {
		return false
	}
	to := s.path.Load()
	if s.sealer == nil || to == nil {
		return true
	}
	ft, box := &f.tracks[fr.kind-1], &f.box
	if o.want == f && o.now.feed != f {
		if fr.kind == stream.Video && !fr.key {
			return true
		}
		o.turn(f, ft, fr)
	}
	if to.tcp == nil {
		box.room(to.port, fr.size)
	}
	var head [lenHeader + maxExtension]byte
	var now time.Time
	if s.outgoing.wide != nil || s.outgoing.probe.rate > 0 {
		now = time.Now()
	}
	o.stamp = fr.stamp + o.now.stamp
	for seq := fr.first; seq < ft.next; seq++ {
		p := ft.at(seq)
		payload := o.now.rewrite(s, p.payload)
		h := s.header(head[:0], o, o.line.format.Payload, p.marker, o.next, o.stamp, o.ssrc, len(payload), now)
		var n int
		if to.tcp == nil {
			n = box.add(to.addr, s.sealer, h, payload, o.ssrc, o.next)
		} else {
			s.outgoing.batch = s.sealer.Seal(s.outgoing.batch[:0], h, payload, o.ssrc, o.next)
			to.tcp.send(s.outgoing.batch)
			n = len(s.outgoing.batch)
		}
		o.next++
		o.packets++
		o.octets += uint32(len(payload))
		s.outgoing.stats.Packets++
		s.outgoing.stats.Bytes += uint64(n)
		fr.sent += n
	}
	if o.now.at > 0 {
		o.picture = o.now.pictureOf(ft.at(fr.first).payload)
	}
	if fr.wall.Sub(o.told) >= srEvery {
		o.told = fr.wall
		sr := rtcp.SenderReport{SSRC: o.ssrc, NTPTime: toNTP(fr.wall), RTPTime: o.stamp, PacketCount: o.packets, OctetCount: o.octets}
		if b, err := sr.Marshal(); err == nil {
			s.sendRTCP(b)
		}
	}
	if fr.kind == stream.Video && s.outgoing.probe.rate > 0 {
		s.fill(o, ft, fr.sent, now)
	}
	fr.sent = 0
	return true
}

// turn begins a run with a frame of another feed. Timestamps are the stream's if
// they come after what was sent, and go on from there if not: a rendition is later
// than what it is made of.
func (o *outgoing) turn(f *Feed, ft *feedTrack, fr *cutFrame) {
	begun := o.now.feed != nil
	o.past, o.now = o.now, run{feed: f, first: fr.first, base: o.next}
	o.want, o.told = f, time.Time{}
	if o.now.at = ft.pictureAt; begun {
		if int32(fr.stamp-o.stamp) <= 0 {
			o.now.stamp = o.stamp + uint32(ft.clock/30) - fr.stamp
		}
		if o.now.at > 0 {
			o.now.picture = (o.picture + 1 - o.now.pictureOf(ft.at(fr.first).payload)) & 0x7fff
		}
	}
}

// pictureOf returns the picture ID that a payload goes out with.
func (r *run) pictureOf(payload []byte) uint16 {
	if r.at == 0 || len(payload) < r.at+2 {
		return 0
	}
	return (binary.BigEndian.Uint16(payload[r.at:]) + r.picture) & 0x7fff
}

// rewrite returns a payload with the picture ID that it goes out with. It is good
// until the next call. Called with s.mu held.
func (r *run) rewrite(s *Session, payload []byte) []byte {
	if r.picture == 0 || r.at == 0 || len(payload) < r.at+2 {
		return payload
	}
	s.outgoing.payload = append(s.outgoing.payload[:0], payload...)
	binary.BigEndian.PutUint16(s.outgoing.payload[r.at:], 0x8000|r.pictureOf(payload))
	return s.outgoing.payload
}

// Shows returns the feed of which the session sends a kind now, nil before it does.
func (s *Session) Shows(k stream.Kind) *Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outgoing.tracks[k-1].now.feed
}

// Codec returns what the session sends of a kind, 0 if nothing.
func (s *Session) Codec(k stream.Kind) stream.Codec {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.outgoing.tracks[k-1].line; l != nil {
		return l.format.Codec()
	}
	return 0
}

// A request is for one packet to be sent again.
type request struct {
	kind     stream.Kind
	sequence uint16
}

// resend answers NACKs.
func (s *Session) resend(asked []request, now time.Time) {
	for _, r := range asked {
		from, index, ok := s.find(r, now)
		if !ok {
			continue
		}
		p, ok := from.feed.packet(r.kind, from.first+int64(index-from.base))
		if !ok {
			continue
		}
		s.mu.Lock()
		s.outgoing.repairs++
		s.outgoing.stats.Repeated++
		s.repeat(&s.outgoing.tracks[r.kind-1], &from, &p, index, now)
		s.mu.Unlock()
	}
}

// find returns which packet is asked for, if it may be had.
func (s *Session) find(r request, now time.Time) (from run, index uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.outgoing.second {
		s.outgoing.second, s.outgoing.repairs = second, 0
	}
	s.outgoing.stats.Asked++
	o := &s.outgoing.tracks[r.kind-1]
	if s.sealer == nil || s.outgoing.repairs >= maxRepairs {
		return from, 0, false
	}
	if index, ok = o.index(r.sequence); !ok {
		return from, 0, false
	}
	if from = o.now; index < from.base {
		from = o.past
	}
	return from, index, from.feed != nil && index >= from.base
}

// index returns that of a packet that was sent: the nearest to the newest with
// these lower bits.
func (o *outgoing) index(sequence uint16) (index uint64, ok bool) {
	index = o.next&^0xffff | uint64(sequence)
	if index >= o.next {
		if index < 1<<16 {
			return 0, false
		}
		index -= 1 << 16
	}
	return index, index >= o.base
}

// repeat sends a packet of a run again: as a retransmission where that is agreed
// on, else as it was. Called with s.mu held.
func (s *Session) repeat(o *outgoing, of *run, p *outPacket, index uint64, now time.Time) {
	var head [lenHeader + maxExtension]byte
	out, payload, stamp := s.outgoing.batch[:0], of.rewrite(s, p.payload), p.stamp+of.stamp
	if o.line.rtx != 0 {
		h := s.header(head[:0], o, o.line.rtx, p.marker, o.rtx, stamp, o.rtxSSRC, len(payload), now)
		body := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(payload)), uint16(index))
		out = s.sealer.Seal(out, h, append(body, payload...), o.rtxSSRC, o.rtx)
		o.rtx++
	} else {
		h := s.header(head[:0], o, o.line.format.Payload, p.marker, index, stamp, o.ssrc, len(payload), now)
		out = s.sealer.Seal(out, h, payload, o.ssrc, index)
	}
	s.outgoing.batch = out
	s.write(out)
}
