package webrtc

import (
	"crypto/rand"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A checker makes the connectivity checks of a full agent (RFC 8445) for one
// session, so that what is between lets its peer's through, and what says that the
// peer wants to be sent to still (RFC 7675). It leaves it to the peer, which has
// made the offer, to nominate. Guarded by Session.mu.
type checker struct {
	tie     [8]byte
	targets []target // addresses that the peer has named
	turn    int      // the target that is to be checked next
	again   bool     // there are others after a restart, beside the path that is used
	consent target   // the path that is used
}

// A target is an address to which checks go.
type target struct {
	addr netip.AddrPort
	id   stunwire.TxID
	at   time.Time // of the last check
	sent int
}

const (
	maxTargets   = 16
	maxChecks    = 12 // of a target: they go on for as long as a session may take to connect
	checkEvery   = 50 * time.Millisecond
	checkAgain   = 500 * time.Millisecond // doubled up to three times
	consentEvery = 5 * time.Second
	// priorityOurs is that of a peer-reflexive candidate (RFC 8445 Section
	// 7.1.1), which ours becomes for a peer that learns it so.
	priorityOurs = 110<<24 | 65535<<8 | 255
)

// parseCandidate returns where a candidate is, of the form "1 1 udp 2130706431
// 192.0.2.1 5000 typ host" (RFC 8839 Section 5.1). Names, which are for
// multicast DNS, and what no peer can be at are none.
func parseCandidate(v string) (at netip.AddrPort, ok bool) {
	f := strings.Fields(v)
	if len(f) < 8 || f[1] != "1" || !strings.EqualFold(f[2], "udp") || f[6] != "typ" {
		return at, false
	}
	ip, err := netip.ParseAddr(f[4])
	port, err2 := strconv.ParseUint(f[5], 10, 16)
	if ip = ip.Unmap(); err != nil || err2 != nil || port == 0 || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() ||
		ip.IsLinkLocalUnicast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return at, false
	}
	return netip.AddrPortFrom(ip, uint16(port)), true
}

// candidatesOf returns those of a text of SDP, or a fragment of it.
func candidatesOf(text string) (all []netip.AddrPort) {
	for l := range strings.Lines(text) {
		v, ok := strings.CutPrefix(strings.TrimSpace(l), "a=candidate:")
		if !ok || len(all) >= maxTargets {
			continue
		}
		if at, ok := parseCandidate(v); ok && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// aim has checks go to addresses of the peer, as a full agent. Those that it has
// learned late come to those before.
func (s *Session) aim(addrs []netip.AddrPort) {
	p := s.transport.udpPort()
	if !s.transport.Full || p == nil {
		return
	}
	s.mu.Lock()
	if s.checks == nil {
		s.checks = &checker{}
		_, _ = rand.Read(s.checks.tie[:]) // never fails
	}
	for _, a := range addrs {
		known := slices.ContainsFunc(s.checks.targets, func(t target) bool { return t.addr == a })
		if !known && len(s.checks.targets) < maxTargets {
			s.checks.targets = append(s.checks.targets, target{addr: a})
		}
	}
	s.mu.Unlock()
	p.loop.Do(func() { p.full[s] = struct{}{} })
	p.loop.Wake()
}

// udpPort returns the first socket of UDP, or nil.
func (t *Transport) udpPort() *port {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.ports {
		if p.conn != nil {
			return p
		}
	}
	return nil
}

// check sends the check that is due. Called in the loop of p.
func (s *Session) check(p *port, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, creds := s.checks, s.ice.Load()
	if to := s.path.Load(); to != nil {
		if to.tcp == nil && to.port == p && now.Sub(c.consent.at) >= consentEvery {
			c.consent.addr = to.addr
			c.ask(p, s, &c.consent, creds, now)
		}
		if !c.again {
			return
		}
	}
	c.again = c.again && slices.ContainsFunc(c.targets, func(t target) bool { return t.sent < maxChecks })
	for range c.targets {
		t := &c.targets[c.turn%len(c.targets)]
		c.turn++
		if t.sent < maxChecks && now.Sub(t.at) >= checkAgain<<min(max(t.sent-1, 0), 3) {
			c.ask(p, s, t, creds, now)
			return
		}
	}
}

// ask sends one check (RFC 8445 Section 7.2.4).
func (c *checker) ask(p *port, s *Session, t *target, creds *credentials, now time.Time) {
	delete(p.asked, t.id)
	_, _ = rand.Read(t.id[:]) // never fails
	p.asked[t.id] = s
	t.at, t.sent = now, min(t.sent+1, math.MaxInt32)
	b := stunwire.Build(p.out[:0], stunwire.NewType(stunwire.Binding, stunwire.Request), t.id)
	b.AddString(stunwire.AttrUsername, creds.theirs+":"+creds.ours)
	b.AddUint32(stunwire.AttrPriority, priorityOurs)
	b.Add(stunwire.AttrICEControlled, c.tie[:])
	p.answer(&b, creds.remote, t.addr)
}

// checked takes the answer to a check: the peer is there, and can be sent to.
func (p *port) checked(m *stunwire.Message, from netip.AddrPort, now time.Time) bool {
	s := p.asked[m.TxID]
	return s != nil && s.answers(m, from) && s.heard(p, from, false, now)
}

// unask forgets the checks of a session that has ended.
func (p *port) unask(s *Session) {
	delete(p.full, s)
	for id, of := range p.asked {
		if of == s {
			delete(p.asked, id)
		}
	}
}

// answers reports whether a message answers a check of the session's.
func (s *Session) answers(m *stunwire.Message, from netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(t *target) bool { return t.sent > 0 && t.addr == from && t.id == m.TxID }
	for i := range s.checks.targets {
		if t := &s.checks.targets[i]; is(t) {
			return m.CheckIntegrity(s.ice.Load().remote)
		}
	}
	return is(&s.checks.consent) && m.CheckIntegrity(s.ice.Load().remote)
}

// anew forgets where checks went: the peer has restarted ICE.
func (s *Session) anew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checks != nil {
		s.checks.targets, s.checks.consent, s.checks.turn, s.checks.again = nil, target{}, 0, true
	}
}
