package turn

import (
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
	"github.com/runnel-media/runnel/stun"
)

// binding answers a Binding request (RFC 8489) without authentication and
// without allocating. It runs in the loop that reads the client, if one does.
func (s *Server) binding(p *path, policy *policy, m *stunwire.Message, now int64, out []byte) {
	s.stats.bindings.Add(1)
	if policy.NoBinding && p.alloc.Load() == nil {
		s.stats.drop(dropNoAllocation, 1)
		return
	}
	present, valid := m.Fingerprint()
	if present && !valid {
		s.stats.drop(dropMalformed, 1)
		return
	}
	if p.kind == overUDP && !policy.binding.allow(p.remote.Addr(), now) {
		s.stats.drop(dropRateBinding, 1)
		return
	}
	if p.kind == overUDP && s.discovery(p, m, out) {
		return
	}
	var list [8]stunwire.Attr
	if unknown := m.Unknown(list[:0], knowsBinding); len(unknown) > 0 {
		b := stunwire.Build(out[:0], stunwire.NewType(stunwire.Binding, stunwire.Error), m.TxID)
		b.AddError(420, "")
		b.AddUnknown(unknown[:min(len(unknown), 32)])
		if present {
			b.AddFingerprint()
		}
		s.stats.refused(420)
		p.answer(b.Bytes())
		return
	}
	b := stunwire.Build(out[:0], stunwire.NewType(stunwire.Binding, stunwire.Success), m.TxID)
	b.AddXORAddr(stunwire.AttrXORMappedAddress, p.remote)
	if s.Software != "" {
		b.AddString(stunwire.AttrSoftware, s.Software[:min(len(s.Software), 128)])
	}
	if present {
		b.AddFingerprint()
	}
	p.answer(b.Bytes())
}

// knowsBinding are the comprehension-required attributes that a Binding
// request may have. Credentials, and those of ICE, mean nothing here; RFC
// 5780's are for a stun.Server.
func knowsBinding(a stunwire.Attr) bool {
	switch a {
	case stunwire.AttrUsername, stunwire.AttrUserHash, stunwire.AttrRealm, stunwire.AttrNonce,
		stunwire.AttrPasswordAlgorithm, stunwire.AttrMessageIntegrity, stunwire.AttrMessageIntegritySHA256,
		stunwire.AttrPriority, stunwire.AttrUseCandidate, stunwire.AttrPadding:
		return true
	}
	return false
}

// joinNAT notes a socket that is one of Server.NAT.
func (s *Server) joinNAT(conn *udp.Conn) {
	for i, a := range s.NAT {
		if a.IsValid() && a == canonical(conn.LocalAddr()) {
			s.nat[i].Store(conn)
		}
	}
}

// discovery answers a Binding request of NAT behaviour discovery, by the socket
// that it asks for. It reports false if its own socket is none of those.
func (s *Server) discovery(p *path, m *stunwire.Message, out []byte) bool {
	if !s.NAT[stun.Alternate].IsValid() {
		return false
	}
	for i, a := range s.NAT {
		if a != canonical(p.local) {
			continue
		}
		r := stun.Responder{Software: s.Software, Addrs: s.NAT}
		b, answer := r.Answer(out[:0], m.Raw, p.remote, stun.Socket(i))
		conn := s.nat[answer.From].Load()
		if len(b) == 0 || conn == nil {
			return true
		}
		if answer.Code != 0 {
			s.stats.refused(answer.Code)
		}
		if conn.WriteTo(b, answer.To) != nil {
			s.stats.drop(dropSend, 1)
		}
		return true
	}
	return false
}
