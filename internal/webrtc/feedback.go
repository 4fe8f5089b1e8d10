package webrtc

import (
	"time"

	"github.com/pion/rtcp"

	"github.com/runnel-media/runnel/stream"
)

// A wish is what a peer asks for.
type wish struct {
	key   bool      // a key frame: it can't go on without
	again []request // packets
}

// maxAsked bounds how many packets one RTCP packet can ask for.
const maxAsked = 256

// report takes one packet of a compound one. Called with s.mu held.
func (s *Session) report(b []byte, now time.Time, w *wish) {
	if rtcp.PacketType(b[1]) == rtcp.TypeTransportSpecificFeedback && b[0]&0x1f == rtcp.FormatTCC {
		if e := s.outgoing.wide; e != nil {
			e.feedback(b)
			s.outgoing.stats.Bandwidth = int64(e.bitrate)
		}
		return
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			s.senderReport(p, now)
			for i := range p.Reports {
				s.received(&p.Reports[i], now)
			}
		case *rtcp.ReceiverReport:
			for i := range p.Reports {
				s.received(&p.Reports[i], now)
			}
		case *rtcp.TransportLayerNack:
			o, kind := s.sent(p.MediaSSRC)
			if o == nil {
				continue
			}
			for i := range p.Nacks {
				for _, seq := range p.Nacks[i].PacketList() {
					if len(w.again) < maxAsked {
						w.again = append(w.again, request{kind, seq})
					}
				}
			}
		case *rtcp.PictureLossIndication:
			o, _ := s.sent(p.MediaSSRC)
			w.key = w.key || o != nil
		case *rtcp.FullIntraRequest:
			for _, f := range p.FIR {
				o, _ := s.sent(f.SSRC)
				w.key = w.key || o != nil
			}
		case *rtcp.ReceiverEstimatedMaximumBitrate:
			if s.outgoing.wide == nil {
				s.outgoing.stats.Bandwidth = int64(p.Bitrate)
			}
		}
	}
}

// sent returns the track with an SSRC of ours.
func (s *Session) sent(ssrc uint32) (*outgoing, stream.Kind) {
	for i := range s.outgoing.tracks {
		if o := &s.outgoing.tracks[i]; o.line != nil && o.ssrc == ssrc {
			return o, stream.Kind(i + 1)
		}
	}
	return nil, 0
}

// received takes what the peer says of a track of ours.
func (s *Session) received(r *rtcp.ReceptionReport, now time.Time) {
	o, _ := s.sent(r.SSRC)
	if o == nil {
		return
	}
	st := &s.outgoing.stats
	st.FractionLost = float64(r.FractionLost) / 256
	st.Jitter = time.Duration(r.Jitter) * time.Second / time.Duration(o.line.format.Clock)
	if r.LastSenderReport != 0 { // RFC 3550 Section 6.4.1
		d := uint32(toNTP(now)>>16) - r.LastSenderReport - r.Delay
		if d < 60<<16 {
			st.RTT = time.Duration(d) * time.Second >> 16
		}
	}
}
