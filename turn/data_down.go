package turn

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/runnel-media/runnel/internal/dtlsmux"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// HandlePackets relays what peers have sent to the relay socket to the client:
// as ChannelData where the peer has a channel (RFC 8656 Section 12.7), else as
// Data indications (Section 11.4).
func (r *relay) HandlePackets(ps []udp.Packet) {
	a := r.alloc
	now := a.srv.clock()
	policy := a.srv.policy.Load()
	a.mu.Lock()
	p := a.path
	if p == nil {
		p = a.next
	}
	for i := range ps {
		a.fromPeer(p, policy, &ps[i], now)
	}
	a.mu.Unlock()
	if p != nil && p.stream != nil {
		p.stream.flush()
	}
}

// fromPeer relays one read of a relay socket; mu is held.
func (a *Allocation) fromPeer(p *path, policy *policy, pkt *udp.Packet, now int64) {
	n := uint64(pkt.Len())
	a.usage.FromPeer.Packets += n
	a.usage.FromPeer.Bytes += uint64(len(pkt.Data))
	if a.ended || p == nil {
		a.drop(dropNoClient, n)
		return
	}
	channel, ok := a.admits(policy, pkt.Addr, now)
	if !ok {
		a.drop(dropNoPermission, n)
		return
	}
	mark, ok := onward(pkt.Mark)
	if !ok {
		a.drop(dropTTL, n)
		return
	}
	o := &a.shard.down
	if p.stream == nil {
		o.use(p.shard.conn)
	}
	var head []byte // of the datagrams with size bytes
	size := -1
	for d := range pkt.Datagrams() {
		if !a.lease.allow(toClient, len(d), now) {
			a.drop(dropRateToClient, 1)
			continue
		}
		a.usage.ToClient.count(len(d))
		if channel != 0 && len(d) != size {
			size = len(d)
			if head = nil; pkt.Segment == 0 {
				head = pkt.Front(stunwire.ChannelHeader)
			}
			if head == nil {
				head = o.batch.Scratch(stunwire.ChannelHeader)
			}
			head = stunwire.AppendChannelHeader(head[:0], channel, size)
		}
		data := d
		if channel == 0 {
			head, data = dataIndication(o, pkt.Addr, d), nil
		}
		switch p.kind {
		case overUDP:
			o.batch.Add(p.to, mark, head, data)
		case overDTLS:
			if record := seal(o, p, head, data); record != nil {
				o.batch.Add(p.to, mark, record, nil)
			} else {
				a.drop(dropSend, 1)
			}
		default:
			if !p.stream.queue(head, data) {
				a.drop(dropSlowClient, 1)
			}
		}
	}
}

// dataHeader is the most that stands before the data of a Data indication:
// XOR-PEER-ADDRESS of IPv6 and the header of DATA.
const dataHeader = stunwire.HeaderSize + 24 + 4

// dataIndication builds a Data indication in memory that lasts until o is
// flushed.
func dataIndication(o *outbox, from netip.AddrPort, data []byte) []byte {
	b := stunwire.Build(o.batch.Scratch(dataHeader + len(data) + 3)[:0],
		stunwire.NewType(stunwire.Data, stunwire.Indication), txID())
	b.AddXORAddr(stunwire.AttrXORPeerAddress, from)
	b.Add(stunwire.AttrData, data)
	return b.Bytes()
}

// txID returns a transaction id for an indication: it has to differ, and keeps
// no secret.
func txID() (id stunwire.TxID) {
	binary.LittleEndian.PutUint64(id[:], rand.Uint64())
	binary.LittleEndian.PutUint32(id[8:], rand.Uint32())
	return id
}

// seal makes a DTLS record of head and data in memory that lasts until o is
// flushed. nil: the association has ended.
func seal(o *outbox, p *path, head, data []byte) []byte {
	n := len(head) + len(data)
	record, err := p.dtls.Append(o.batch.Scratch(n + dtlsmux.Overhead + dtlsmux.Spare)[:0], head, data)
	if err != nil {
		return nil
	}
	return record
}

// HandleICMP passes the network's report on a packet to a peer on to the client
// (RFC 8656 Section 11.5).
func (r *relay) HandleICMP(e *udp.ICMPError) {
	a := r.alloc
	s := a.srv
	now := s.clock()
	a.mu.Lock()
	p := a.path
	allowed := !a.ended && p != nil && a.permits(s.policy.Load(), e.Peer, now)
	a.mu.Unlock()
	if !allowed {
		return
	}
	var value [8]byte // reserved, type in 7 bits and code in 9, data (Section 18.13)
	binary.BigEndian.PutUint16(value[2:], uint16(e.Type&0x7F)<<9|uint16(e.Code))
	binary.BigEndian.PutUint32(value[4:], e.MTU)
	if e.V6 && e.Type > 0x7F { // informational, never about a packet of ours
		return
	}
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Data, stunwire.Indication), txID())
	b.AddXORAddr(stunwire.AttrXORPeerAddress, e.Peer)
	b.Add(stunwire.AttrICMP, value[:])
	p.send(b.Bytes())
}
