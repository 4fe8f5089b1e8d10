package stun

import (
	"net/netip"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A Responder answers Binding requests. The zero value answers with
// XOR-MAPPED-ADDRESS and nothing else. Its fields must not change once it is
// used; its methods may be called from many goroutines.
//
// The answer goes where the request came from, which can be forged. So it is
// small: 12 bytes more than a bare request over IPv4 (24 over IPv6), 48 (96)
// more where RFC 5780 demands it, plus Software and what a Verifier asks for
// if they are set. PADDING is answered with no more than was sent.
type Responder struct {
	// Software is sent as SOFTWARE. "": it is not sent.
	Software string
	// Fingerprint adds FINGERPRINT to every answer. Requests that have one are
	// answered with one in any case.
	Fingerprint bool
	// Verifier asks for credentials. nil: nobody is asked, as RFC 8489 Section
	// 12 recommends. With short-term ones the connectivity checks of ICE are
	// answered too.
	Verifier *Verifier

	// Alternate, if not empty, sends those who have proven who they are to
	// other servers (RFC 8489 Section 10). AlternateDomain is what the
	// certificate there is for, if it is another.
	Alternate       []netip.AddrPort
	AlternateDomain string

	// Addrs are the addresses of the four sockets of NAT behaviour discovery
	// (RFC 5780), in the order of Socket, as clients see them. Zero: off, and
	// CHANGE-REQUEST is answered with 420.
	Addrs [4]netip.AddrPort
}

// A Socket is one of four for NAT behaviour discovery: two addresses with two
// ports each.
type Socket uint8

// The sockets, and the bits that lead from one to another.
const (
	Primary          Socket = 0b00
	AlternatePort    Socket = 0b01 // primary address, alternate port
	AlternateAddress Socket = 0b10 // alternate address, primary port
	Alternate        Socket = 0b11 // alternate address and port
)

// An Answer is what goes back.
type Answer struct {
	To   netip.AddrPort // where to; not always where the request came from (RESPONSE-PORT)
	From Socket         // through which socket (CHANGE-REQUEST)
	Code int            // 0: a success, else that of the error
}

// Append appends the answer to one datagram from an address, for servers with
// one socket. It appends nothing if msg is not a Binding request. It does not
// allocate, but for credentials.
func (r *Responder) Append(dst, msg []byte, from netip.AddrPort) []byte {
	one := Responder{Software: r.Software, Fingerprint: r.Fingerprint, Verifier: r.Verifier, Alternate: r.Alternate, AlternateDomain: r.AlternateDomain}
	dst, _ = one.Answer(dst, msg, from, Primary)
	return dst
}

// Answer appends the answer to a datagram that came from an address through
// one of the sockets. If it appends nothing there is nothing to send.
func (r *Responder) Answer(dst, msg []byte, from netip.AddrPort, through Socket) ([]byte, Answer) {
	var m stunwire.Message
	if m.Parse(msg) != nil || m.Type != stunwire.NewType(stunwire.Binding, stunwire.Request) || !from.IsValid() {
		return dst, Answer{}
	}
	present, valid := m.Fingerprint()
	if present && !valid {
		return dst, Answer{} // not STUN after all (Section 6.3)
	}
	a := Answer{To: from, From: through & 3}
	var verdict Verdict
	if r.Verifier != nil {
		if verdict = r.Verifier.checkMessage(&m, from); verdict.Code != 0 {
			a.Code = verdict.Code
		}
	}
	var list [16]stunwire.Attr
	unknown := list[:0]
	change := r.change(&m)
	if a.Code == 0 {
		unknown = m.Unknown(unknown, r.known)
		switch {
		case len(unknown) > 0:
			a.Code = 420
		case change.bad:
			a.Code = 400
		case len(r.Alternate) > 0 && verdict.key != nil:
			a.Code = 300
		default:
			a.From ^= change.socket
			if change.port != 0 {
				a.To = netip.AddrPortFrom(from.Addr(), change.port)
			}
		}
	}

	class := stunwire.Success
	if a.Code != 0 {
		class = stunwire.Error
	}
	b := stunwire.Build(dst, stunwire.NewType(stunwire.Binding, class), m.TxID)
	switch a.Code {
	case 0:
		r.success(&b, from, a.From, through&3, change.padding)
	case 300:
		b.AddError(300, "")
		r.alternates(&b, from)
	case 420:
		b.AddError(420, "")
		b.AddUnknown(unknown[:min(len(unknown), len(list))])
	default:
		b.AddError(a.Code, "")
		if a.Code != 400 && r.Verifier != nil {
			r.Verifier.challenge(&b, from)
		}
	}
	if r.Software != "" {
		b.AddString(stunwire.AttrSoftware, r.Software[:min(len(r.Software), 127)])
	}
	if verdict.Code == 0 {
		verdict.sign(&b)
	}
	if present || r.Fingerprint {
		b.AddFingerprint()
	}
	return b.Bytes(), a
}

// nat is whether RFC 5780 is on.
func (r *Responder) nat() bool { return r.Addrs[Alternate].IsValid() }

func (r *Responder) known(a stunwire.Attr) bool {
	switch a {
	case stunwire.AttrUsername, stunwire.AttrUserHash, stunwire.AttrRealm, stunwire.AttrNonce, stunwire.AttrPasswordAlgorithm:
		return true
	case stunwire.AttrChangeRequest, stunwire.AttrResponsePort, stunwire.AttrPadding:
		return r.nat()
	case stunwire.AttrPriority, stunwire.AttrUseCandidate:
		return r.Verifier != nil && r.Verifier.Realm == ""
	}
	return false
}

// A change is what a request of RFC 5780 wants to be different.
type change struct {
	socket  Socket // bits to flip
	port    uint16 // 0: the one that the request came from
	padding int    // bytes
	bad     bool
}

// change reads the attributes of RFC 5780 Section 6.1.
func (r *Responder) change(m *stunwire.Message) (c change) {
	if !r.nat() {
		return change{}
	}
	if v, ok := m.Get(stunwire.AttrChangeRequest); ok {
		if len(v) != 4 {
			return change{bad: true}
		}
		if v[3]&4 != 0 {
			c.socket |= AlternateAddress
		}
		if v[3]&2 != 0 {
			c.socket |= AlternatePort
		}
	}
	padding, padded := m.Get(stunwire.AttrPadding)
	c.padding = len(padding) &^ 3
	if v, ok := m.Get(stunwire.AttrResponsePort); ok {
		// Two bytes, which older clients pad as part of the value.
		if len(v) != 2 && len(v) != 4 || padded {
			return change{bad: true}
		}
		if c.port = uint16(v[0])<<8 | uint16(v[1]); c.port == 0 {
			return change{bad: true}
		}
	}
	return c
}

// maxPadding is what an Ethernet carries; RFC 5780 Section 7.6 wants padding
// of about that size.
const maxPadding = 1500

func (r *Responder) success(b *stunwire.Builder, from netip.AddrPort, by, through Socket, padding int) {
	b.AddXORAddr(stunwire.AttrXORMappedAddress, from)
	if !r.nat() {
		return
	}
	b.AddAddr(stunwire.AttrMappedAddress, from)
	b.AddAddr(stunwire.AttrResponseOrigin, r.Addrs[by])
	b.AddAddr(stunwire.AttrOtherAddress, r.Addrs[through^Alternate])
	if padding > 0 {
		var zeros [maxPadding]byte
		b.Add(stunwire.AttrPadding, zeros[:min(padding, maxPadding)])
	}
}

// alternates adds one server of the family that the client has, then one of
// the other (RFC 8489 Section 10).
func (r *Responder) alternates(b *stunwire.Builder, from netip.AddrPort) {
	for _, same := range []bool{true, false} {
		for _, to := range r.Alternate {
			if (to.Addr().Unmap().Is4() == from.Addr().Unmap().Is4()) == same {
				b.AddAddr(stunwire.AttrAlternateServer, to)
				break
			}
		}
	}
	if r.AlternateDomain != "" {
		b.AddString(stunwire.AttrAlternateDomain, r.AlternateDomain)
	}
}

// wellFormed finds what can't work.
func (r *Responder) wellFormed() error {
	if r.Verifier != nil {
		return r.Verifier.check()
	}
	if len(r.Alternate) > 0 {
		return errAlternate
	}
	return nil
}
