package webrtc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"github.com/runnel-media/runnel/stream"
)

// Bounds of what an offer may say.
const (
	MaxSDP      = 64 << 10
	maxMedia    = 32
	maxPayloads = 128 // of one m-line
	maxLines    = 512 // attributes of one m-line
)

// ErrOffer is wrapped by every refusal of an offer; its text may be shown to the
// peer.
var ErrOffer = errors.New("webrtc: offer not acceptable")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrOffer, fmt.Sprintf(format, args...))
}

// An Offer is what a peer has said of itself.
type Offer struct {
	Ufrag, Password string
	Fingerprint     Fingerprint
	Setup           string // "actpass", "active" or "passive"
	Media           []Media
	From            netip.Addr // who has made it, for Transport.MaxPerSource; not from the text
	bundle          []string
	candidates      []netip.AddrPort // where the peer may be, as far as it knows
}

// A Fingerprint is the digest of the certificate that a peer will show (RFC 8122).
type Fingerprint struct {
	Algorithm string // "sha-256", …
	Digest    string // upper-case hex with colons
}

// Media is one m-line.
type Media struct {
	MID        string
	Kind       stream.Kind // 0: neither audio nor video; it is rejected
	Formats    []Format    // in the order of the peer's preference
	Extensions map[string]uint8
	Send, Recv bool              // what the peer is ready for
	RIDs       []string          // simulcast layers that the peer sends, in its order; none: one picture
	ssrcs      map[uint32]string // the layer of each SSRC, if they are told by these
	proto      string
}

// A Format is one payload type and what it stands for.
type Format struct {
	Payload  uint8
	Name     string // as registered, lower-case: "h264", "opus", "rtx"
	Clock    int
	Channels int
	FMTP     map[string]string // lower-case names
	Feedback []string          // "nack", "nack pli", "transport-cc"
}

// RTX returns the payload type for retransmissions of f in m (RFC 4588), or 0.
func (m *Media) RTX(f *Format) uint8 {
	for i := range m.Formats {
		r := &m.Formats[i]
		if r.Name == "rtx" && r.FMTP["apt"] == strconv.Itoa(int(f.Payload)) {
			return r.Payload
		}
	}
	return 0
}

// ParseOffer reads an offer, whose text comes from a peer.
func ParseOffer(text []byte) (*Offer, error) {
	if len(text) > MaxSDP {
		return nil, refuse("more than %d bytes", MaxSDP)
	}
	var d sdp.SessionDescription
	if err := d.Unmarshal(text); err != nil {
		return nil, refuse("not SDP")
	}
	switch n := len(d.MediaDescriptions); {
	case n == 0:
		return nil, refuse("no media")
	case n > maxMedia:
		return nil, refuse("more than %d media", maxMedia)
	}
	o := &Offer{}
	if group, ok := d.Attribute("group"); ok {
		if mids, ok := strings.CutPrefix(group, "BUNDLE "); ok {
			o.bundle = strings.Fields(mids)
		}
	}
	for i, m := range d.MediaDescriptions {
		if len(m.Attributes) > maxLines || len(m.MediaName.Formats) > maxPayloads {
			return nil, refuse("m-line %d is too long", i)
		}
		media, err := parseMedia(m)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(o.Media, func(other Media) bool { return other.MID == media.MID }) {
			return nil, refuse("two media with the mid %q", media.MID)
		}
		o.Media = append(o.Media, media)
	}
	if len(o.Media) > 1 && len(o.bundle) == 0 {
		return nil, refuse("no BUNDLE group")
	}
	o.candidates = candidatesOf(string(text))
	return o, o.transport(&d)
}

// transport reads what all media share, from the session or the first m-line.
func (o *Offer) transport(d *sdp.SessionDescription) error {
	get := func(key string) string {
		for _, m := range d.MediaDescriptions {
			if v, ok := m.Attribute(key); ok {
				return v
			}
		}
		v, _ := d.Attribute(key)
		return v
	}
	o.Ufrag, o.Password = get("ice-ufrag"), get("ice-pwd")
	if err := checkCredentials(o.Ufrag, o.Password); err != nil {
		return err
	}
	algorithm, digest, ok := strings.Cut(get("fingerprint"), " ")
	if !ok {
		return refuse("no fingerprint")
	}
	o.Fingerprint = Fingerprint{strings.ToLower(algorithm), strings.ToUpper(strings.TrimSpace(digest))}
	if hashes[o.Fingerprint.Algorithm] == 0 {
		return refuse("fingerprint of an unknown or weak algorithm")
	}
	switch o.Setup = get("setup"); o.Setup {
	case "actpass", "active", "passive":
	default:
		return refuse("setup is neither actpass, active nor passive")
	}
	return nil
}

// checkCredentials bounds what a peer calls itself (RFC 8839 Section 5.4).
func checkCredentials(ufrag, password string) error {
	if n := len(ufrag); n < 4 || n > 256 {
		return refuse("ice-ufrag of %d characters", n)
	}
	if n := len(password); n < 22 || n > 256 {
		return refuse("ice-pwd of %d characters", n)
	}
	return nil
}

func parseMedia(d *sdp.MediaDescription) (Media, error) {
	m := Media{proto: strings.Join(d.MediaName.Protos, "/"), Extensions: make(map[string]uint8), Send: true, Recv: true}
	m.MID, _ = d.Attribute("mid")
	if len(m.MID) > 32 || strings.ContainsAny(m.MID, " \t\r\n") {
		return m, refuse("malformed mid")
	}
	_, bundled := d.Attribute("bundle-only") // RFC 8843 Section 6
	switch {
	case d.MediaName.Port.Value == 0 && !bundled: // it is not wanted, or has been refused
	case !strings.Contains(m.proto, "SAVPF"):
	case d.MediaName.Media == "audio":
		m.Kind = stream.Audio
	case d.MediaName.Media == "video":
		m.Kind = stream.Video
	}
	if m.Kind == 0 {
		return m, nil
	}
	if _, ok := d.Attribute("rtcp-mux"); !ok {
		return m, refuse("no rtcp-mux")
	}
	for _, f := range d.MediaName.Formats {
		if n, err := strconv.ParseUint(f, 10, 7); err == nil {
			m.Formats = append(m.Formats, static(uint8(n)))
		}
	}
	simulcast := ""
	var rids []string
	groups := make(map[string][][]uint32)
	for _, a := range d.Attributes {
		switch a.Key {
		case "rtpmap":
			m.describe(a.Value, (*Format).rtpmap)
		case "fmtp":
			m.describe(a.Value, (*Format).fmtp)
		case "rtcp-fb":
			m.describe(a.Value, func(f *Format, v string) { f.Feedback = append(f.Feedback, v) })
		case "extmap":
			id, uri, _ := strings.Cut(a.Value, " ")
			id, _, _ = strings.Cut(id, "/")
			uri, _, _ = strings.Cut(uri, " ")
			if n, err := strconv.ParseUint(id, 10, 8); err == nil && n > 0 && n < 15 {
				m.Extensions[uri] = uint8(n)
			}
		case "sendonly":
			m.Recv = false
		case "recvonly":
			m.Send = false
		case "inactive":
			m.Send, m.Recv = false, false
		case "rid":
			if id, dir, _ := strings.Cut(a.Value, " "); strings.HasPrefix(dir, "send") && len(rids) < 2*maxLayers {
				rids = append(rids, id)
			}
		case "simulcast":
			simulcast = a.Value
		case "ssrc-group":
			if semantics, ssrcs := ssrcGroup(a.Value); len(groups[semantics]) < maxLayers {
				groups[semantics] = append(groups[semantics], ssrcs)
			}
		}
	}
	if m.Kind == stream.Video {
		m.simulcast(simulcast, rids, groups)
	}
	return m, nil
}

// static returns a payload type as it is without an rtpmap (RFC 3551 Section 6).
func static(payload uint8) Format {
	f := Format{Payload: payload, FMTP: make(map[string]string)}
	switch payload {
	case 0:
		f.Name, f.Clock, f.Channels = "pcmu", 8000, 1
	case 8:
		f.Name, f.Clock, f.Channels = "pcma", 8000, 1
	}
	return f
}

// describe gives what follows a payload type, or "*", to those that it is said of.
func (m *Media) describe(v string, say func(*Format, string)) {
	payload, rest, ok := strings.Cut(v, " ")
	if !ok {
		return
	}
	for i := range m.Formats {
		if f := &m.Formats[i]; payload == "*" || payload == strconv.Itoa(int(f.Payload)) {
			say(f, rest)
		}
	}
}

func (f *Format) rtpmap(v string) {
	p := strings.Split(v, "/")
	if len(p) < 2 {
		return
	}
	clock, err := strconv.ParseUint(p[1], 10, 31)
	if err != nil {
		return
	}
	f.Name, f.Clock, f.Channels = strings.ToLower(p[0]), int(clock), 1
	if len(p) > 2 {
		if n, err := strconv.ParseUint(p[2], 10, 8); err == nil {
			f.Channels = int(n)
		}
	}
}

func (f *Format) fmtp(v string) {
	for p := range strings.SplitSeq(v, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		f.FMTP[strings.ToLower(name)] = value
	}
}
