package turn

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A clientPeer is an address that was written to.
type clientPeer struct {
	addr    netip.AddrPort
	channel uint16      // 0: none was given out; guarded by PacketConn.mu until bound
	ready   atomic.Bool // the server permits it
	asked   atomic.Bool // a channel was asked for
	bound   atomic.Bool // and is there
	used    atomic.Bool // since the last renewal
}

// A clientPermit is the permission for an address, or the wait for it.
type clientPermit struct {
	decided chan struct{}
	err     error // once decided is closed
	pinned  bool  // by Permit: it stays although nothing is written; guarded by PacketConn.mu
}

// Channels and permissions live for ten and five minutes (RFC 8656 Sections
// 9, 12); binding a channel renews its permission, too.
const (
	clientMinChannel = 0x4000
	clientMaxChannel = 0x4FFF
	clientRenew      = 4 * time.Minute
	clientRetry      = 5 * time.Second // between refreshes that failed
)

// maxClientPeers bounds the addresses that a PacketConn knows at a time.
const maxClientPeers = 1 << 16

var errTooManyPeers = errors.New("turn: too many peers")

// Permit asks the server to relay from these addresses, whatever their ports,
// until the PacketConn closes. It is for peers that speak first; WriteTo asks by
// itself. It blocks until the server has answered or ctx ends.
func (p *PacketConn) Permit(ctx context.Context, peers ...netip.Addr) error {
	for _, peer := range peers {
		if err := p.permit(ctx, peer.Unmap(), true); err != nil {
			return err
		}
	}
	return nil
}

// permit waits for a permission, and asks for it if nobody has yet.
func (p *PacketConn) permit(ctx context.Context, peer netip.Addr, pin bool) error {
	p.mu.Lock()
	g := p.permits[peer]
	if g == nil {
		if len(p.permits) >= maxClientPeers {
			p.mu.Unlock()
			return errTooManyPeers
		}
		g = &clientPermit{decided: make(chan struct{})}
		p.permits[peer] = g
		go p.askPermit(peer, g)
	}
	g.pinned = g.pinned || pin
	p.mu.Unlock()
	select {
	case <-g.decided:
		return g.err
	case <-p.done:
		return p.failed()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *PacketConn) askPermit(peer netip.Addr, g *clientPermit) {
	g.err = p.createPermission(peer)
	if g.err != nil {
		p.mu.Lock()
		delete(p.permits, peer)
		p.mu.Unlock()
	}
	close(g.decided)
}

func (p *PacketConn) createPermission(peer netip.Addr) error {
	_, err := p.session.Load().do(p.background, stunwire.CreatePermission, func(b *stunwire.Builder) {
		b.AddXORAddr(stunwire.AttrXORPeerAddress, netip.AddrPortFrom(peer, 0))
	})
	return err
}

// introduce returns the peer of an address, permitted.
func (p *PacketConn) introduce(to netip.AddrPort) (*clientPeer, error) {
	ctx, cancel := p.writeDeadline.context(p.background)
	defer cancel()
	if err := p.permit(ctx, to.Addr(), false); err != nil {
		if ctx.Err() != nil && p.background.Err() == nil {
			return nil, os.ErrDeadlineExceeded
		}
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.peers[to]
	if peer == nil {
		if len(p.peers) >= maxClientPeers {
			return nil, errTooManyPeers
		}
		peer = &clientPeer{addr: to}
		p.peers[to] = peer
	}
	peer.ready.Store(true)
	return peer, nil
}

// bindLater binds a channel to the peer in the background. A server that has
// none left goes on with indications.
func (p *PacketConn) bindLater(peer *clientPeer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if peer.channel == 0 {
		if p.next > clientMaxChannel {
			return
		}
		peer.channel = p.next
		p.channels[peer.channel] = peer
		p.next++
	}
	go func() {
		if err := p.bindChannel(peer); err != nil && p.background.Err() == nil {
			p.client.log().Debug("turn client: no channel", "peer", peer.addr, "err", err)
		}
	}()
}

func (p *PacketConn) bindChannel(peer *clientPeer) error {
	_, err := p.session.Load().do(p.background, stunwire.ChannelBind, func(b *stunwire.Builder) {
		b.AddUint32(stunwire.AttrChannelNumber, uint32(peer.channel)<<16)
		b.AddXORAddr(stunwire.AttrXORPeerAddress, peer.addr)
	})
	peer.bound.Store(err == nil)
	return err
}

// keep refreshes the allocation, the permissions and the channels until the
// PacketConn ends.
func (p *PacketConn) keep(life time.Duration) {
	expires := time.Now().Add(life)
	refresh, renew := time.NewTimer(refreshIn(life)), time.NewTicker(clientRenew)
	defer refresh.Stop()
	defer renew.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-renew.C:
			p.renew()
		case <-refresh.C:
			life, err := p.refresh()
			switch {
			case err == nil:
				expires = time.Now().Add(life)
				refresh.Reset(refreshIn(life))
			case errors.Is(err, ErrNoAllocation) || time.Now().After(expires):
				p.end(err)
			default:
				p.client.log().Warn("turn client: refresh failed", "relayed", p.relayed[0], "err", err)
				refresh.Reset(clientRetry)
			}
		}
	}
}

// refreshIn is how long to wait with the refresh of an allocation: until a
// minute before its end, Section 8.
func refreshIn(life time.Duration) time.Duration { return max(life/2, life-time.Minute, time.Second) }

func (p *PacketConn) refresh() (time.Duration, error) {
	reply, err := p.session.Load().do(p.background, stunwire.Refresh, p.addLifetime)
	if err != nil {
		return 0, err
	}
	p.keepTicket(reply)
	return reply.lifetime()
}

func (p *PacketConn) addLifetime(b *stunwire.Builder) {
	if p.asked > 0 {
		b.AddUint32(stunwire.AttrLifetime, seconds(p.asked))
	}
}

func (p *PacketConn) keepTicket(r *clientReply) {
	if v, ok := r.Get(stunwire.AttrMobilityTicket); ok && len(v) > 0 {
		p.mu.Lock()
		p.ticket = append([]byte(nil), v...)
		p.mu.Unlock()
	}
}

// renew renews channels and permissions in use, and lets go of the others.
func (p *PacketConn) renew() {
	var bind []*clientPeer
	wanted := make(map[netip.Addr]bool) // false: a channel renews it
	p.mu.Lock()
	for at, peer := range p.peers {
		switch {
		case !peer.used.Swap(false):
			// Its channel number stays its own: the server may still know it.
			peer.ready.Store(false)
			peer.bound.Store(false)
			peer.asked.Store(false)
			if peer.channel == 0 {
				delete(p.peers, at)
			}
		case peer.bound.Load():
			bind = append(bind, peer)
			wanted[at.Addr()] = false
		default:
			if _, ok := wanted[at.Addr()]; !ok {
				wanted[at.Addr()] = true
			}
		}
	}
	for addr, g := range p.permits {
		_, ok := wanted[addr]
		switch {
		case ok:
		case g.pinned:
			wanted[addr] = true
		default:
			select {
			case <-g.decided:
				delete(p.permits, addr)
			default: // somebody waits for it now
			}
		}
	}
	p.mu.Unlock()

	for _, peer := range bind {
		if err := p.bindChannel(peer); err != nil && p.background.Err() == nil {
			wanted[peer.addr.Addr()] = true
		}
	}
	for addr, ask := range wanted {
		if !ask || p.background.Err() != nil {
			continue
		}
		if err := p.createPermission(addr); err != nil && p.background.Err() == nil {
			p.client.log().Warn("turn client: permission lost", "peer", addr, "err", err)
			p.forget(addr)
		}
	}
}

// forget makes the next write to an address ask for permission again.
func (p *PacketConn) forget(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.permits[addr]; g != nil && !g.pinned { // what is pinned is asked for again at the next renewal
		delete(p.permits, addr)
	}
	for at, peer := range p.peers {
		if at.Addr() == addr {
			peer.ready.Store(false)
		}
	}
}

// Move takes the allocation to a new connection to the server (RFC 8016), as
// when the network has changed: the relayed address, permissions and channels
// stay. It needs AllocateOptions.Mobility and a server that has it. Until it
// returns data flows over the old connection, if that still works; an error
// changes nothing.
func (p *PacketConn) Move(ctx context.Context) error {
	p.moving.Lock()
	defer p.moving.Unlock()
	p.mu.RLock()
	ticket := p.ticket
	p.mu.RUnlock()
	if len(ticket) == 0 {
		return errNoTicket
	}
	old := p.session.Load()
	s, err := p.client.connect(ctx, old.target, p.handlers())
	if err != nil {
		return err
	}
	s.auth.Store(old.auth.Load().inherit())
	reply, err := s.do(ctx, stunwire.Refresh, func(b *stunwire.Builder) {
		b.Add(stunwire.AttrMobilityTicket, ticket)
		p.addLifetime(b)
	})
	if err != nil {
		s.close(err)
		return err
	}
	p.keepTicket(reply)
	p.session.Store(s)
	go p.watch(s)
	p.confirm(ctx, s)
	old.close(errClientClosed)
	return nil
}

// confirm lets the server hear from the new connection, for it sends to the
// old one until then. The allocation has moved already: an answer that does
// not come changes nothing. coturn 4.6 loses what follows a move at once, even
// over TCP.
func (p *PacketConn) confirm(ctx context.Context, s *clientSession) {
	for wait := clientRTO; wait <= 4*clientRTO; wait *= 2 {
		ctx, cancel := context.WithTimeout(ctx, wait)
		_, err := s.do(ctx, stunwire.Refresh, p.addLifetime)
		cancel()
		if err == nil {
			return
		}
	}
}

var errNoTicket = errors.New("turn: the server gave no mobility ticket")
