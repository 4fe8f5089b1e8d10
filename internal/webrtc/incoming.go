package webrtc

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// An Incoming is a track that a peer sends.
type Incoming struct {
	MID    string
	Layer  string // of a simulcast, by its rid; "": the line has one picture
	Codec  stream.Codec
	Format *Format

	line     *line
	ssrc     uint32
	receiver rtp.Receiver
	frames   rtp.Frames
	wall     time.Time // of the last sender report, by the sender's clock; zero: none yet
	stamp    int64     // what its timestamp was then
	lastSR   uint32    // middle bits of its NTP time
	srAt     time.Time
	keyAsked time.Time
	keyWish  bool // a key frame is wanted
}

// A Frame is one that a peer has sent.
type Frame struct {
	rtp.Frame
	// Wall is when it was captured, by the sender's clock, the same for all
	// of its tracks; zero before its first report.
	Wall time.Time
}

// arrived is a frame on its way to the handler.
type arrived struct {
	track *Incoming
	frame Frame
}

// incomings are those of a session.
type incomings struct {
	tracks   []*Incoming
	bySSRC   map[uint32]*Incoming
	repairs  map[uint32]*Incoming // by the SSRC of their retransmissions
	reported time.Time
	wide     wideReceiver // transport-wide congestion control
	frames   []arrived    // on their way to the handler
	sequence []uint16     // scratch
}

// maxSSRC is how many sources a peer may have.
const maxSSRC = 16

// receive takes an RTP packet. Called with s.mu held; the frames are good until
// the next call.
func (s *Session) receive(p *port, d []byte, now time.Time) (ok bool, frames []arrived) {
	var h pion.Header
	if n, err := h.Unmarshal(d); err != nil || n > len(d) {
		return false, nil
	}
	plain, err := s.in.DecryptRTP(p.plain[:0], d, &h)
	if err != nil {
		return false, nil
	}
	in := &s.incoming
	body := plain[h.MarshalSize():]
	if h.Padding {
		if len(body) == 0 || int(body[len(body)-1]) > len(body) {
			return true, nil
		}
		body = body[:len(body)-int(body[len(body)-1])]
	}
	if l := s.lineOf(&h); l != nil {
		if id := l.media.Extensions[uriTransportCC]; id != 0 {
			if ext := h.GetExtension(id); len(ext) == 2 {
				in.wide.arrived(h.SSRC, binary.BigEndian.Uint16(ext), now)
			}
		}
	}
	if t := s.repaired(&h, &body); t != nil {
		return true, s.take(t, &h, body, true, now)
	}
	t := in.bySSRC[h.SSRC]
	if t == nil {
		if t = s.begin(&h); t == nil {
			return true, nil
		}
	}
	return true, s.take(t, &h, body, false, now)
}

// take puts a packet into its place and returns the frames that are whole now.
func (s *Session) take(t *Incoming, h *pion.Header, body []byte, again bool, now time.Time) []arrived {
	t.receiver.Push(rtp.Packet{Sequence: h.SequenceNumber, Timestamp: h.Timestamp, Marker: h.Marker, Payload: body, Arrived: now, Again: again})
	s.incoming.frames = nil // the handler has the last ones still
	s.drain(t, now)
	return s.incoming.frames
}

// drain moves what is due from a receiver to the frames.
func (s *Session) drain(t *Incoming, now time.Time) {
	for {
		p, ok := t.receiver.Pop(now)
		if !ok {
			return
		}
		if p.Lost > 0 && t.Codec.Kind() == stream.Video {
			t.keyWish = true
		}
		t.frames.Push(&p, func(f rtp.Frame) {
			t.keyWish = (t.keyWish || f.Lost) && !f.Key
			s.incoming.frames = append(s.incoming.frames, arrived{t, Frame{Frame: f, Wall: t.captured(f.Timestamp)}})
		})
	}
}

// captured returns the sender's wall clock at a timestamp.
func (t *Incoming) captured(stamp int64) time.Time {
	if t.wall.IsZero() {
		return time.Time{}
	}
	return t.wall.Add(time.Duration(stamp-t.stamp) * time.Second / time.Duration(t.Format.Clock))
}

// lineOf returns the m-line of a packet: by its MID, or its payload type.
func (s *Session) lineOf(h *pion.Header) *line {
	for _, l := range s.lines {
		if id := l.media.Extensions[uriMID]; id != 0 && l.format != nil && l.receive {
			if ext := h.GetExtension(id); ext != nil && string(ext) == l.media.MID {
				return l
			}
		}
	}
	for _, l := range s.lines {
		if l.format != nil && l.receive && (h.PayloadType == l.format.Payload || l.rtx != 0 && h.PayloadType == l.rtx) {
			return l
		}
	}
	return nil
}

// begin makes a track of a source that was not known, nil if there is no place
// for it.
func (s *Session) begin(h *pion.Header) *Incoming {
	l := s.lineOf(h)
	in := &s.incoming
	if l == nil || h.PayloadType != l.format.Payload || len(in.bySSRC) >= maxSSRC {
		return nil
	}
	layer := ""
	if len(l.media.RIDs) > 0 {
		if layer = l.layerOf(h, false); layer == "" {
			return nil // of the next it may be told
		}
	}
	// A line, or a layer of it, has one source. Another one takes its place: the
	// peer has begun anew.
	var t *Incoming
	for _, other := range in.tracks {
		if other.line == l && other.Layer == layer {
			t = other
			delete(in.bySSRC, t.ssrc)
		}
	}
	fresh := &Incoming{MID: l.media.MID, Layer: layer, Codec: l.format.Codec(), Format: l.format, line: l, ssrc: h.SSRC}
	fresh.receiver = rtp.Receiver{Rate: l.format.Clock}
	fresh.frames = rtp.Frames{Unpacker: unpacker(fresh.Codec), Whole: fresh.Codec.Kind() == stream.Audio}
	if t == nil {
		t = fresh
		in.tracks = append(in.tracks, t)
	} else {
		*t = *fresh
	}
	if in.bySSRC == nil {
		in.bySSRC = make(map[uint32]*Incoming)
		in.repairs = make(map[uint32]*Incoming)
	}
	in.bySSRC[h.SSRC] = t
	return t
}

// repaired turns a retransmission into what it repeats (RFC 4588 Section 4) and
// returns its track; nil if it is none.
func (s *Session) repaired(h *pion.Header, body *[]byte) *Incoming {
	in := &s.incoming
	t := in.repairs[h.SSRC]
	if t == nil {
		for _, other := range in.tracks {
			if l := other.line; l.rtx != 0 && h.PayloadType == l.rtx && other.Layer == l.layerOf(h, true) && len(in.repairs) < maxSSRC {
				t = other
				in.repairs[h.SSRC] = t
			}
		}
	}
	if t == nil || h.PayloadType != t.line.rtx || len(*body) < 2 {
		return nil
	}
	h.SequenceNumber = binary.BigEndian.Uint16(*body)
	*body = (*body)[2:]
	return t
}

const (
	reportEvery = time.Second
	keyEvery    = 500 * time.Millisecond // PLI at most so often
)

// RequestKey asks the peer for a key frame of its video.
func (s *Session) RequestKey() { s.RequestKeyOf(nil) }

// RequestKeyOf asks the peer for a key frame of one track, all of video if that is
// nil. A track is asked for at most twice a second.
func (s *Session) RequestKeyOf(of *Incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.incoming.tracks {
		t.keyWish = t.keyWish || t.Codec.Kind() == stream.Video && (of == nil || of == t)
	}
}

// tick asks for what is missing, reports what came, and passes on what need not
// be waited for any more.
func (s *Session) tick(now time.Time) {
	s.mu.Lock()
	in := &s.incoming
	if s.out == nil {
		s.mu.Unlock()
		return
	}
	in.frames = nil
	var packets []rtcp.Packet
	report := now.Sub(in.reported) >= reportEvery
	rr := &rtcp.ReceiverReport{SSRC: 1}
	for _, t := range in.tracks {
		s.drain(t, now)
		if missing := t.receiver.Missing(in.sequence[:0], now, 30*time.Millisecond); len(missing) > 0 {
			in.sequence = missing
			packets = append(packets, &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: t.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(missing)})
		}
		if t.keyWish && now.Sub(t.keyAsked) >= keyEvery {
			t.keyAsked = now
			packets = append(packets, &rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: t.ssrc})
		}
		if report {
			rr.Reports = append(rr.Reports, t.reception(now))
		}
	}
	if report {
		in.reported = now
	}
	packets = in.wide.report(packets, now)
	if len(packets) > 0 || report && len(rr.Reports) > 0 {
		// A compound packet begins with a report (RFC 3550 Section 6.1).
		if b, err := rtcp.Marshal(append([]rtcp.Packet{rr}, packets...)); err == nil {
			s.sendRTCP(b)
		}
	}
	frames := in.frames
	s.mu.Unlock()
	s.tell(frames)
}

// reception is what a receiver report says of a track.
func (t *Incoming) reception(now time.Time) rtcp.ReceptionReport {
	r := t.receiver.Report()
	report := rtcp.ReceptionReport{
		SSRC: t.ssrc, FractionLost: r.FractionLost, TotalLost: r.TotalLost, LastSequenceNumber: r.Highest, Jitter: r.Jitter,
	}
	if !t.srAt.IsZero() {
		report.LastSenderReport = t.lastSR
		report.Delay = uint32(now.Sub(t.srAt).Seconds() * 65536)
	}
	return report
}

// senderReport notes what a peer says of its clocks.
func (s *Session) senderReport(r *rtcp.SenderReport, now time.Time) {
	t := s.incoming.bySSRC[r.SSRC]
	if t == nil {
		return
	}
	t.lastSR, t.srAt = uint32(r.NTPTime>>16), now
	t.wall = fromNTP(r.NTPTime)
	// Unwrapped beside the frames, whose counter it must not disturb.
	t.stamp = t.frames.Near(r.RTPTime)
}

// ntpEpoch is how many seconds NTP's time is ahead of Unix's.
const ntpEpoch = 2208988800

func fromNTP(v uint64) time.Time {
	return time.Unix(int64(v>>32)-ntpEpoch, int64((v&0xffffffff)*1e9>>32))
}

func toNTP(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/1e9
}
