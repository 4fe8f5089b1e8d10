package turn

import (
	"net/netip"
)

// peers are the permissions and channels of an allocation. What has run out is
// as if it were not there; tidy forgets it.
type peers struct {
	permissions map[netip.Addr]*permission
	numbers     map[uint16]*channel
	channels    map[netip.AddrPort]*channel
	last        admitted
}

// admitted is what was found out about the peer whose packet came last: most
// have the next one, too, and need not be looked up then. It holds as long as
// nothing that it was made of has changed.
type admitted struct {
	from       netip.AddrPort
	number     uint16 // of its channel; 0: there is none
	until      int64  // clock
	generation uint32 // of the rules
	own        uint64 // version of ownAddrs
}

// A permission lets the packets of one address pass (RFC 8656 Section 9).
type permission struct {
	expires int64  // clock
	judged  uint32 // generation of the rules that have allowed it
	own     bool   // a relay address of this server: which ports count is to be asked again
}

// A channel stands for a peer (RFC 8656 Section 12).
type channel struct {
	number  uint16
	peer    netip.AddrPort
	expires int64  // clock
	judged  uint32 // generation of the rules that have allowed it
	own     bool   // the peer is a relay address of this server: its port may be given up
}

// permission returns the permission of an address, nil if there is none.
func (p *peers) permission(ip netip.Addr, now int64) *permission {
	if m := p.permissions[ip]; m != nil && m.expires > now {
		return m
	}
	return nil
}

// roomFor reports whether permissions for more addresses fit under limit.
func (p *peers) roomFor(ips []netip.Addr, limit int, now int64) bool {
	added := func() (n int) {
		for _, ip := range ips {
			if p.permissions[ip] == nil {
				n++
			}
		}
		return n
	}
	if len(p.permissions)+added() <= limit {
		return true
	}
	p.tidy(now)
	return len(p.permissions)+added() <= limit
}

func (p *peers) permit(ip netip.Addr, m permission) {
	p.last = admitted{}
	if old := p.permissions[ip]; old != nil {
		m.expires = max(m.expires, old.expires)
		*old = m
		return
	}
	if p.permissions == nil {
		p.permissions = make(map[netip.Addr]*permission, 1)
	}
	p.permissions[ip] = &m
}

// number returns the channel of a number, nil if it is not bound.
func (p *peers) number(n uint16, now int64) *channel {
	if c := p.numbers[n]; c != nil && c.expires > now {
		return c
	}
	return nil
}

// channel returns the channel of a peer, nil if there is none.
func (p *peers) channel(peer netip.AddrPort, now int64) *channel {
	if c := p.channels[peer]; c != nil && c.expires > now {
		return c
	}
	return nil
}

// bind binds a channel anew, or again; that it may is checked.
func (p *peers) bind(c *channel) {
	p.last = admitted{}
	if old := p.numbers[c.number]; old != nil && old.peer == c.peer {
		old.expires, old.judged, old.own = c.expires, c.judged, c.own
		return
	}
	// What is in the way has run out.
	if old := p.numbers[c.number]; old != nil {
		delete(p.channels, old.peer)
	}
	if old := p.channels[c.peer]; old != nil {
		delete(p.numbers, old.number)
	}
	if p.numbers == nil {
		p.numbers = make(map[uint16]*channel, 1)
		p.channels = make(map[netip.AddrPort]*channel, 1)
	}
	p.numbers[c.number] = c
	p.channels[c.peer] = c
}

// tidy forgets what has run out.
func (p *peers) tidy(now int64) {
	for ip, m := range p.permissions {
		if m.expires <= now {
			delete(p.permissions, ip)
		}
	}
	for n, c := range p.numbers {
		if c.expires <= now {
			delete(p.numbers, n)
			delete(p.channels, c.peer)
		}
	}
}

func (p *peers) list(now int64) (permissions []netip.Addr, channels map[uint16]netip.AddrPort) {
	for ip, m := range p.permissions {
		if m.expires > now {
			permissions = append(permissions, ip)
		}
	}
	for n, c := range p.numbers {
		if c.expires > now {
			if channels == nil {
				channels = make(map[uint16]netip.AddrPort)
			}
			channels[n] = c.peer
		}
	}
	return permissions, channels
}

// generation numbers the rules that peers of the allocation are judged by.
func (a *Allocation) generation(p *policy) uint32 { return p.generation<<8 + a.realm.changes.Load() }

// judge says whether the rules allow a peer; anyPort leaves its port out.
func (a *Allocation) judge(p *policy, peer netip.AddrPort, anyPort bool) error {
	return p.peers.check(peer, anyPort, a.realm.rules.Load(), a.srv.own.kind)
}

// newPermission is one that the rules of a generation allow.
func (a *Allocation) newPermission(ip netip.Addr, expires int64, generation uint32) permission {
	return permission{expires, generation, a.srv.own.kind(netip.AddrPortFrom(ip, 0)) != ownNone}
}

// permits reports whether packets from a peer may pass; mu is held.
func (a *Allocation) permits(p *policy, from netip.AddrPort, now int64) bool {
	m := a.peers.permission(from.Addr(), now)
	if m == nil {
		return false
	}
	if g := a.generation(p); m.judged != g {
		if a.judge(p, netip.AddrPortFrom(from.Addr(), 0), true) != nil {
			delete(a.peers.permissions, from.Addr())
			return false
		}
		*m = a.newPermission(from.Addr(), m.expires, g)
	}
	return !m.own || a.judge(p, from, false) == nil
}

// admits reports whether packets from a peer may pass, and the number of the
// peer's channel, 0 if it has none; mu is held.
func (a *Allocation) admits(p *policy, from netip.AddrPort, now int64) (number uint16, ok bool) {
	last := &a.peers.last
	generation, own := a.generation(p), a.srv.own.version.Load()
	if last.from == from && now < last.until && last.generation == generation && last.own == own {
		return last.number, true
	}
	if !a.permits(p, from, now) {
		return 0, false
	}
	*last = admitted{from: from, until: a.peers.permissions[from.Addr()].expires, generation: generation, own: own}
	if c := a.peers.channel(from, now); c != nil {
		last.number, last.until = c.number, min(last.until, c.expires)
	}
	return last.number, true
}

// passes reports whether data may go over a channel; mu is held.
func (a *Allocation) passes(p *policy, c *channel) bool {
	if g := a.generation(p); c.judged != g || c.own {
		if a.judge(p, c.peer, false) != nil {
			return false
		}
		c.judged = g
	}
	return true
}
