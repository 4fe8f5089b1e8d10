package webrtc

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// binding answers a connectivity check (RFC 8445 Section 7.3). Only the peer of
// a session knows the password that it takes, and only then something is kept
// for its address.
func (p *port) binding(d []byte, from netip.AddrPort, now time.Time) bool {
	var m stunwire.Message
	if m.Parse(d) != nil || m.Type != stunwire.NewType(stunwire.Binding, stunwire.Request) {
		return false
	}
	if present, valid := m.Fingerprint(); present && !valid {
		return false
	}
	user, _ := m.Get(stunwire.AttrUsername)
	ours, theirs, ok := bytes.Cut(user, []byte(":"))
	if !ok {
		return false
	}
	s := p.transport.find(ours)
	if s == nil || string(theirs) != s.offer.Ufrag || !m.CheckIntegrity(s.key) {
		return false
	}
	// Both sides being controlled, one must change its mind; a full agent does
	// (RFC 8445 Section 7.3.1.1).
	if m.Has(stunwire.AttrICEControlled) {
		b := stunwire.Build(p.out[:0], stunwire.NewType(stunwire.Binding, stunwire.Error), m.TxID)
		b.AddError(487, "Role Conflict")
		p.answer(&b, s, from)
		return true
	}
	if !s.heard(p, from, m.Has(stunwire.AttrUseCandidate), now) {
		return false
	}
	b := stunwire.Build(p.out[:0], stunwire.NewType(stunwire.Binding, stunwire.Success), m.TxID)
	b.AddXORAddr(stunwire.AttrXORMappedAddress, from)
	p.answer(&b, s, from)
	return true
}

func (p *port) answer(b *stunwire.Builder, s *Session, to netip.AddrPort) {
	b.AddIntegrity(s.key)
	b.AddFingerprint()
	p.out = b.Bytes()
	_ = p.conn.WriteTo(p.out, to) // lost as on a network: the peer asks again
}

// maxPaths is how many addresses a peer may come from at once.
const maxPaths = 16

// heard notes that the peer has proved itself at an address, and that this is
// the one to send to if it says so, or is the first. Called in the goroutine of
// p.
func (s *Session) heard(p *port, from netip.AddrPort, nominated bool, now time.Time) bool {
	if s.ended() {
		return false
	}
	s.last.Store(now.UnixNano())
	if p.paths[from] != s {
		n := 0
		for _, other := range p.paths {
			if other == s {
				n++
			}
		}
		if n >= maxPaths {
			return false
		}
		p.paths[from] = s
		if s.receives() {
			p.publish[s] = struct{}{}
			p.loop.Wake()
		}
	}
	if to := s.path.Load(); to == nil || nominated && (to.addr != from || to.port != p) {
		s.path.Store(&path{p, from})
		s.dtls.start()
	}
	return true
}
