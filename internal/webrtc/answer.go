package webrtc

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/halfopen"
	"github.com/runnel-media/runnel/stream"
)

// A line is an m-line as it is agreed on.
type line struct {
	media   *Media
	format  *Format // nil: rejected
	rtx     uint8   // payload type; 0: none
	receive bool    // the peer sends
	wide    uint8   // id of the extension for transport-wide congestion control, 0: none
	playout uint8   // id of that for the playout delay of what is sent, 0: none
	out     *outgoing
}

// extensions are those that peers that send are asked to use.
var extensions = []string{uriMID, uriTransportCC, uriRID, uriRepairedRID}

// Receive answers an offer of a peer that sends: one video and one audio are
// taken. With its own order of codecs if firstOfPeer, else that which most
// outputs can carry.
func (t *Transport) Receive(o *Offer, firstOfPeer bool, h Handler) (*Session, []byte, error) {
	var taken [stream.Data + 1]bool
	return t.accept(o, h, func(m *Media) *line {
		l := &line{media: m, receive: true}
		if m.Kind == 0 || !m.Send || taken[m.Kind] {
			return l
		}
		l.format = chooseReceived(m, firstOfPeer)
		taken[m.Kind] = l.format != nil
		return l
	})
}

// Send answers an offer of a peer that wants to see tracks, of which it gets one
// of video and one of audio. It is refused if it can take none of them.
func (t *Transport) Send(o *Offer, tracks []*stream.Track, h Handler) (*Session, []byte, error) {
	var taken [stream.Data + 1]bool
	return t.accept(o, h, func(m *Media) *line {
		l := &line{media: m}
		if m.Kind == 0 || !m.Recv || taken[m.Kind] {
			return l
		}
		for _, track := range tracks {
			if l.format = chooseSent(m, track); l.format != nil {
				taken[m.Kind] = true
				return l
			}
		}
		return l
	})
}

// Sends reports whether the session sends a track of that kind.
func (s *Session) Sends(k stream.Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (k == stream.Video || k == stream.Audio) && s.outgoing.tracks[k-1].line != nil
}

// accept begins a session with what plan makes of each medium.
func (t *Transport) accept(o *Offer, h Handler, plan func(*Media) *line) (*Session, []byte, error) {
	cert, err := t.identity()
	if err != nil {
		return nil, nil, err
	}
	t.await(time.Second)
	candidates, err := t.candidates()
	if err != nil {
		return nil, nil, err
	}
	s := &Session{
		transport: t, handler: h, done: make(chan struct{}), begun: time.Now(), active: o.Setup == "passive",
		peer: Fingerprint{o.Fingerprint.Algorithm, strings.Clone(o.Fingerprint.Digest)}, bundle: len(o.bundle) > 0, source: halfopen.Source(o.From),
	}
	s.dtls.session = s
	some := false
	for i := range o.Media {
		l := plan(&o.Media[i])
		s.lines = append(s.lines, l)
		if l.format == nil {
			continue
		}
		some = true
		l.rtx = l.media.RTX(l.format)
		if !l.receive {
			if t.Estimate && slices.Contains(l.format.Feedback, "transport-cc") {
				l.wide = l.media.Extensions[uriTransportCC]
			}
			if t.Playout != nil && l.media.Kind == stream.Video {
				l.playout = l.media.Extensions[uriPlayout]
			}
			if l.wide != 0 && s.outgoing.wide == nil {
				s.outgoing.wide = &estimate{}
			}
			out := &s.outgoing.tracks[l.media.Kind-1]
			*out = newOutgoing(l, t.Playout)
			l.out = out
		}
	}
	if !some {
		return nil, nil, refuse("no medium and codec in common")
	}
	if err := t.add(s, o.Ufrag, o.Password); err != nil {
		return nil, nil, err
	}
	s.aim(o.candidates)
	a := answer{session: s, credentials: s.ice.Load(), candidates: candidates, fingerprint: fingerprintOf("sha-256", cert.Certificate[0])}
	text := a.text()
	s.trim()
	return s, text, nil
}

// trim keeps no more of the offer than a session needs, which is a small part,
// and nothing that refers to its text.
func (s *Session) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		m := &Media{MID: strings.Clone(l.media.MID), Kind: l.media.Kind, proto: strings.Clone(l.media.proto)}
		if l.format != nil {
			for _, rid := range l.media.RIDs {
				m.RIDs = append(m.RIDs, strings.Clone(rid))
			}
			m.ssrcs = l.media.ssrcs
			for _, uri := range extensions {
				if id := l.media.Extensions[uri]; id != 0 {
					if m.Extensions == nil {
						m.Extensions = make(map[string]uint8)
					}
					m.Extensions[uri] = id
				}
			}
			f := l.format
			l.format = &Format{Payload: f.Payload, Name: strings.Clone(f.Name), Clock: f.Clock, Channels: f.Channels, FMTP: make(map[string]string)}
			for name, value := range f.FMTP {
				l.format.FMTP[strings.Clone(name)] = strings.Clone(value)
			}
		}
		l.media = m
	}
}

// An answer is written with as much as browsers need and no more.
type answer struct {
	session     *Session
	credentials *credentials
	fingerprint Fingerprint
	candidates  []candidate
	b           strings.Builder
}

func (a *answer) line(format string, args ...any) {
	fmt.Fprintf(&a.b, format+"\r\n", args...)
}

func (a *answer) text() []byte {
	s := a.session
	a.line("v=0")
	a.line("o=- %d 1 IN IP4 0.0.0.0", s.begun.UnixNano()>>10)
	a.line("s=-")
	a.line("t=0 0")
	a.group()
	a.line("a=msid-semantic: WMS *")
	first := true
	for _, l := range s.lines {
		a.media(l, first)
		first = first && l.format == nil
	}
	return []byte(a.b.String())
}

// media writes an m-line. Candidates stand in the first that is accepted.
func (a *answer) media(l *line, first bool) {
	m, s := l.media, a.session
	kind := "application"
	switch m.Kind {
	case stream.Video:
		kind = "video"
	case stream.Audio:
		kind = "audio"
	}
	proto := m.proto
	if !knownProto(proto) {
		proto = "UDP/TLS/RTP/SAVPF"
	}
	if l.format == nil {
		a.line("m=%s 0 %s 0", kind, proto)
		a.line("c=IN IP4 0.0.0.0")
		if m.MID != "" {
			a.line("a=mid:%s", m.MID)
		}
		a.line("a=inactive")
		return
	}
	payloads := fmt.Sprint(l.format.Payload)
	if l.rtx != 0 {
		payloads += fmt.Sprintf(" %d", l.rtx)
	}
	a.line("m=%s 9 %s %s", kind, proto, payloads)
	a.line("c=IN IP4 0.0.0.0")
	if m.MID != "" {
		a.line("a=mid:%s", m.MID)
	}
	a.ice()
	a.line("a=fingerprint:%s %s", a.fingerprint.Algorithm, a.fingerprint.Digest)
	if s.active {
		a.line("a=setup:active")
	} else {
		a.line("a=setup:passive")
	}
	if l.receive {
		a.line("a=recvonly")
	} else {
		a.line("a=sendonly")
	}
	a.line("a=rtcp-mux")
	a.line("a=rtcp-rsize")
	for _, uri := range extensions {
		if id := m.Extensions[uri]; id != 0 && l.receive && (len(m.RIDs) > 0 || uri != uriRID && uri != uriRepairedRID) {
			a.line("a=extmap:%d %s", id, uri)
		}
	}
	if l.receive && len(m.RIDs) > 0 && len(m.ssrcs) == 0 {
		for _, rid := range m.RIDs {
			a.line("a=rid:%s recv", rid)
		}
		a.line("a=simulcast:recv %s", strings.Join(m.RIDs, ";"))
	}
	if l.wide != 0 {
		a.line("a=extmap:%d %s", l.wide, uriTransportCC)
	}
	if l.playout != 0 {
		a.line("a=extmap:%d %s", l.playout, uriPlayout)
	}
	a.format(l)
	if l.out != nil {
		a.line("a=msid:runnel %s", kind)
		if l.rtx != 0 {
			a.line("a=ssrc-group:FID %d %d", l.out.ssrc, l.out.rtxSSRC)
		}
		a.line("a=ssrc:%d cname:runnel", l.out.ssrc) // Chromium takes the first for the medium's own
		if l.rtx != 0 {
			a.line("a=ssrc:%d cname:runnel", l.out.rtxSSRC)
		}
	}
	if first {
		a.where()
	}
}

// group writes what all m-lines share.
func (a *answer) group() {
	var mids []string
	for _, l := range a.session.lines {
		if l.format != nil && l.media.MID != "" {
			mids = append(mids, l.media.MID)
		}
	}
	if a.session.bundle {
		a.line("a=group:BUNDLE %s", strings.Join(mids, " "))
	}
	if !a.session.transport.Full {
		a.line("a=ice-lite")
	}
}

func (a *answer) ice() {
	a.line("a=ice-ufrag:%s", a.credentials.ours)
	a.line("a=ice-pwd:%s", a.credentials.password)
	a.line("a=ice-options:trickle")
}

// where writes the candidates (RFC 8445 Section 5.1.2.1, RFC 6544 Section 4.2):
// host ones, the first address first.
func (a *answer) where() {
	for i, c := range a.candidates {
		if c.tcp {
			a.line("a=candidate:%d 1 tcp %d %s %d typ host tcptype passive", i+1, 90<<24|(4<<13|(1<<13-1-i))<<8|255, c.Addr(), c.Port())
			continue
		}
		a.line("a=candidate:%d 1 udp %d %s %d typ host", i+1, 126<<24|(65535-i)<<8|255, c.Addr(), c.Port())
	}
	a.line("a=end-of-candidates")
}

// fragment is what is said again at a restart of ICE (RFC 8840 Section 9), in the
// first m-line, which stands for all of the bundle.
func (a *answer) fragment() []byte {
	a.group()
	for _, l := range a.session.lines {
		if l.format == nil {
			continue
		}
		kind := "audio"
		if l.media.Kind == stream.Video {
			kind = "video"
		}
		a.line("m=%s 9 %s %d", kind, l.media.proto, l.format.Payload)
		if l.media.MID != "" {
			a.line("a=mid:%s", l.media.MID)
		}
		a.ice()
		a.where()
		break
	}
	return []byte(a.b.String())
}

// format writes the codec of a line, with what the offer says of it.
func (a *answer) format(l *line) {
	f := l.format
	name := strings.ToUpper(f.Name)
	if f.Name == "opus" {
		name = f.Name
	}
	if f.Channels > 1 {
		a.line("a=rtpmap:%d %s/%d/%d", f.Payload, name, f.Clock, f.Channels)
	} else {
		a.line("a=rtpmap:%d %s/%d", f.Payload, name, f.Clock)
	}
	for _, fb := range f.Feedback {
		switch fb {
		case "transport-cc":
			if !l.receive && l.wide == 0 {
				continue // nothing is made of it
			}
			fallthrough
		case "nack", "nack pli", "ccm fir", "goog-remb":
			a.line("a=rtcp-fb:%d %s", f.Payload, fb)
		}
	}
	if p := parameters(f); p != "" {
		a.line("a=fmtp:%d %s", f.Payload, p)
	}
	if l.rtx != 0 {
		a.line("a=rtpmap:%d rtx/%d", l.rtx, f.Clock)
		a.line("a=fmtp:%d apt=%d", l.rtx, f.Payload)
	}
}

// parameters returns the format's fmtp, of which only what has the form of a
// parameter is given back.
func parameters(f *Format) string {
	var all []string
	for name, value := range f.FMTP {
		if token(name) && token(value) {
			all = append(all, name+"="+value)
		}
	}
	if f.Name == "opus" && f.FMTP["stereo"] == "" {
		all = append(all, "stereo=1")
	}
	slices.Sort(all)
	return strings.Join(all, ";")
}

// token reports whether a text of a peer is harmless in a line.
func token(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == ';' || c == '=' && !strings.HasSuffix(s, "=") {
			return false
		}
	}
	return true
}

func knownProto(s string) bool {
	switch s {
	case "UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF", "UDP/DTLS/SCTP", "TCP/DTLS/SCTP", "DTLS/SCTP":
		return true
	}
	return false
}
