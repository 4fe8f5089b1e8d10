package turn

import (
	"net/netip"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// fromClient relays a read of ChannelData from the client to its peers (RFC
// 8656 Section 12.6).
func (a *Allocation) fromClient(o *outbox, p *path, policy *policy, pkt *udp.Packet, now int64) {
	mark, ok := onward(pkt.Mark)
	if !ok {
		a.srv.stats.drop(dropTTL, uint64(pkt.Len()))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.path != p {
		a.confirm(p)
	}
	if a.unfragmented { // of a Send before
		a.dontFragment(o, false)
	}
	var c *channel
	for d := range pkt.Datagrams() {
		number, data, ok := stunwire.ChannelData(d)
		if !ok {
			a.drop(dropMalformed, 1)
			continue
		}
		if c == nil || c.number != number {
			if c = a.peers.number(number, now); c == nil {
				a.drop(dropNoChannel, 1)
				continue
			}
			if !a.passes(policy, c) {
				a.drop(dropPeerDenied, 1)
				c = nil
				continue
			}
		}
		a.toPeer(o, c.peer, mark, data, now)
	}
}

// toPeer sends data to a peer that is allowed; mu is held.
func (a *Allocation) toPeer(o *outbox, to netip.AddrPort, mark udp.Mark, data []byte, now int64) {
	r := a.relays[relayIndex(to.Addr())].open
	if r == nil {
		a.drop(dropPeerDenied, 1)
		return
	}
	a.usage.FromClient.count(len(data))
	if !a.lease.allow(toPeer, len(data), now) {
		a.drop(dropRateToPeer, 1)
		return
	}
	a.usage.ToPeer.count(len(data))
	o.use(r.conn)
	if mark != r.mark {
		o.flush() // what is collected has the other
		o.use(r.conn)
		_ = r.conn.SetMark(mark) // what the system can't do it does not do
		r.mark = mark
	}
	o.batch.Add(to, udp.Mark{}, nil, data)
}

// fromSend relays a Send indication (RFC 8656 Section 11.2).
func (a *Allocation) fromSend(o *outbox, p *path, policy *policy, m *stunwire.Message, mark udp.Mark, now int64) {
	mark, ok := onward(mark)
	if !ok {
		a.srv.stats.drop(dropTTL, 1)
		return
	}
	data, hasData := m.Get(stunwire.AttrData)
	to, hasPeer := peer(m)
	if !hasData || !hasPeer || a.network != protocolUDP || m.Unknown(nil, knowsSend) != nil {
		a.srv.stats.drop(dropMalformed, 1)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.path != p {
		a.confirm(p)
	}
	if !a.permits(policy, to, now) {
		a.drop(dropNoPermission, 1)
		return
	}
	if a.judge(policy, to, false) != nil {
		a.drop(dropPeerDenied, 1)
		return
	}
	if m.Has(stunwire.AttrDontFragment) != a.unfragmented {
		a.dontFragment(o, !a.unfragmented)
	}
	a.toPeer(o, to, mark, data, now)
}

// dontFragment changes the DF bit of what is sent from now on (RFC 8656
// Section 14); mu is held. What the system can't do it does not do: the RFC
// would have the packet dropped, and the client's probe would be lost.
func (a *Allocation) dontFragment(o *outbox, on bool) {
	o.flush() // what is collected has the other bit
	for i := range a.relays {
		if r := a.relays[i].open; r != nil && r.conn != nil {
			_ = r.conn.SetDontFragment(on)
		}
	}
	a.unfragmented = on
}

func knowsSend(a stunwire.Attr) bool {
	return a == stunwire.AttrXORPeerAddress || a == stunwire.AttrData || a == stunwire.AttrDontFragment
}

// drop counts packets of the session that end here; mu is held.
func (a *Allocation) drop(why dropReason, n uint64) {
	a.usage.Dropped += n
	a.srv.stats.drop(why, n)
}
