package turn

import (
	"encoding/binary"
	"net/netip"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// createPermission answers CreatePermission (RFC 8656 Section 10.2): all of the
// addresses are permitted, or none.
func (r *request) createPermission() {
	a := r.allocation()
	if a == nil {
		return
	}
	var list [16]netip.Addr
	ips := list[:0]
	for attr, v := range r.msg.Each {
		if attr != stunwire.AttrXORPeerAddress {
			continue
		}
		ap, err := r.msg.XORAddr(v)
		if err != nil {
			r.refuse(400)
			return
		}
		ips = append(ips, ap.Addr().Unmap())
	}
	if len(ips) == 0 {
		r.refuse(400)
		return
	}
	if code := a.permit(r.policy, ips, r.now); code != 0 {
		r.refuse(code)
		return
	}
	b := r.success()
	r.finish(&b)
}

// permit installs permissions, or says by which error code they are refused.
func (a *Allocation) permit(p *policy, ips []netip.Addr, now int64) (code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return 437
	}
	generation := a.generation(p)
	for _, ip := range ips {
		if a.relays[relayIndex(ip)].open == nil {
			return 443
		}
		if a.judge(p, netip.AddrPortFrom(ip, 0), true) != nil {
			return 403
		}
	}
	if !a.peers.roomFor(ips, p.MaxPermissions, now) {
		return 508
	}
	for _, ip := range ips {
		a.peers.permit(ip, a.newPermission(ip, now+int64(p.PermissionLifetime), generation))
	}
	return 0
}

// channelBind answers ChannelBind (RFC 8656 Section 12.2).
func (r *request) channelBind() {
	a := r.allocation()
	if a == nil {
		return
	}
	v, ok := r.msg.Get(stunwire.AttrChannelNumber)
	to, hasPeer := peer(r.msg)
	if !ok || len(v) != 4 || !hasPeer || a.network != protocolUDP {
		r.refuse(400)
		return
	}
	number := binary.BigEndian.Uint16(v)
	if number < 0x4000 || number > r.policy.lastChannel {
		r.refuse(400)
		return
	}
	if code := a.bind(r.policy, number, to, r.now); code != 0 {
		r.refuse(code)
		return
	}
	b := r.success()
	r.finish(&b)
}

// bind binds a channel, and permits its peer, or says by which error code it is
// refused.
func (a *Allocation) bind(p *policy, number uint16, to netip.AddrPort, now int64) (code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return 437
	}
	if c := a.peers.number(number, now); c != nil && c.peer != to {
		return 400
	}
	c := a.peers.channel(to, now)
	if c != nil && c.number != number {
		return 400
	}
	if a.relays[relayIndex(to.Addr())].open == nil {
		return 443
	}
	if a.judge(p, to, false) != nil {
		return 403
	}
	ips := []netip.Addr{to.Addr()}
	if c == nil && len(a.peers.numbers) >= p.MaxChannels {
		if a.peers.tidy(now); len(a.peers.numbers) >= p.MaxChannels {
			return 508
		}
	}
	if !a.peers.roomFor(ips, p.MaxPermissions, now) {
		return 508
	}
	generation := a.generation(p)
	a.peers.permit(to.Addr(), a.newPermission(to.Addr(), now+int64(p.PermissionLifetime), generation))
	a.peers.bind(&channel{
		number: number, peer: to, expires: now + int64(p.ChannelLifetime), judged: generation,
		own: a.srv.own.kind(netip.AddrPortFrom(to.Addr(), 0)) != ownNone,
	})
	return 0
}
