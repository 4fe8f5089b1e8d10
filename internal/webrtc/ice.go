package webrtc

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Credentials are those of one generation of ICE, with those of the one before:
// while the peer restarts ICE, its media goes on over what it had (RFC 8445
// Section 9).
type credentials struct {
	ours, password string
	key            *stunwire.Key // of password
	theirs         string        // the peer's ufrag
	remote         *stunwire.Key // of its password; nil: we check nothing
	before         *credentials  // nil: none
}

// of returns the credentials with a ufrag of ours, or nil.
func (c *credentials) of(ufrag []byte) *credentials {
	for ; c != nil; c = c.before {
		if c.ours == string(ufrag) {
			return c
		}
	}
	return nil
}

// name is what SRS calls a session: both ufrags.
func (c *credentials) name() string { return c.ours + ":" + c.theirs }

// issue gives a session credentials under a ufrag that no other one has. Called
// with t.mu held.
func (t *Transport) issue(s *Session, theirs, password string) *credentials {
	c := &credentials{password: secret(18), theirs: strings.Clone(theirs)}
	if t.Full {
		c.remote = stunwire.NewKey([]byte(password))
	}
	c.key = stunwire.NewKey([]byte(c.password))
	for c.ours == "" || t.sessions[c.ours] != nil {
		c.ours = secret(6)
	}
	if now := s.ice.Load(); now != nil {
		if now.before != nil {
			delete(t.sessions, now.before.ours)
		}
		c.before = &credentials{ours: now.ours, password: now.password, key: now.key, theirs: now.theirs, remote: now.remote}
	}
	t.sessions[c.ours] = s
	s.ice.Store(c)
	return c
}

// Restart begins ICE anew for a peer that has new credentials (RFC 8445 Section
// 9, RFC 9725 Section 4.3.3), and returns ours, as a fragment of SDP (RFC 8840).
// Media goes on over the old path until the peer has proved itself on another.
func (s *Session) Restart(ufrag, password string) (fragment []byte, err error) {
	if err := checkCredentials(ufrag, password); err != nil {
		return nil, err
	}
	t := s.transport
	candidates, err := t.candidates()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	if s.ended() {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	c := t.issue(s, ufrag, password)
	t.mu.Unlock()
	s.anew()
	a := answer{session: s, credentials: c, candidates: candidates}
	return a.fragment(), nil
}

// ETag names the generation of ICE, for HTTP's conditions (RFC 9725 Section
// 4.3).
func (s *Session) ETag() string { return `"` + s.ice.Load().ours + `"` }

// binding answers a connectivity check (RFC 8445 Section 7.3). Only the peer of
// a session knows the password that it takes, and only then something is kept
// for its address.
func (p *port) binding(d []byte, from netip.AddrPort, now time.Time) bool {
	var m stunwire.Message
	if m.Parse(d) != nil {
		return false
	}
	if present, valid := m.Fingerprint(); present && !valid {
		return false
	}
	switch m.Type {
	case stunwire.NewType(stunwire.Binding, stunwire.Request):
	case stunwire.NewType(stunwire.Binding, stunwire.Success):
		return p.checked(&m, from, now)
	default:
		return false
	}
	user, _ := m.Get(stunwire.AttrUsername)
	ours, theirs, ok := bytes.Cut(user, []byte(":"))
	if !ok {
		return false
	}
	s := p.transport.find(ours)
	if s == nil {
		return false
	}
	c := s.ice.Load().of(ours)
	if c == nil || string(theirs) != c.theirs || !m.CheckIntegrity(c.key) {
		return false
	}
	// Both sides being controlled, one must change its mind; a full agent does
	// (RFC 8445 Section 7.3.1.1).
	if m.Has(stunwire.AttrICEControlled) {
		b := stunwire.Build(p.out[:0], stunwire.NewType(stunwire.Binding, stunwire.Error), m.TxID)
		b.AddError(487, "Role Conflict")
		p.answer(&b, c.key, from)
		return true
	}
	if !s.heard(p, from, m.Has(stunwire.AttrUseCandidate), now) {
		return false
	}
	b := stunwire.Build(p.out[:0], stunwire.NewType(stunwire.Binding, stunwire.Success), m.TxID)
	b.AddXORAddr(stunwire.AttrXORMappedAddress, from)
	p.answer(&b, c.key, from)
	return true
}

func (p *port) answer(b *stunwire.Builder, key *stunwire.Key, to netip.AddrPort) {
	b.AddIntegrity(key)
	b.AddFingerprint()
	p.out = b.Bytes()
	p.write(p.out, to) // if it is lost, the peer asks again
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
		s.path.Store(&path{p, from, p.tcp[from]})
		s.dtls.start(net.UDPAddrFromAddrPort(from))
	}
	return true
}
