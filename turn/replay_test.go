package turn

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// replay sends what was sent before until there is an answer: what the server
// still has in hand it does not look at twice.
func (c *rawClient) replay(b []byte) *stunwire.Message {
	c.t.Helper()
	for range 20 {
		if m := c.exchange(b, answerTimeout/20); m != nil {
			return m
		}
	}
	c.t.Fatalf("no answer: %v", c.drops())
	return nil
}

// A request, a nonce or a ticket that is played again changes nothing.
func TestReplay(t *testing.T) {
	f := start(t, mobile)
	c := f.client()
	m := c.allocate(attr(stunwire.AttrMobilityTicket))
	allocate := c.raw
	ticket := ticketOf(t, m)
	require.Equal(t, 0, code(c.refresh(0)))
	end := c.raw
	require.Equal(t, 438, code(c.replay(allocate)), "an Allocate whose session has ended")
	require.Equal(t, 437, code(c.replay(end)))
	require.Zero(t, count(f.server))

	d := f.client()
	require.Equal(t, 438, code(d.replay(allocate)), "from another address")
	require.Zero(t, count(f.server))

	e := f.client()
	e.allocate(attr(stunwire.AttrMobilityTicket))
	moved := f.client()
	moved.login()
	require.Equal(t, 437, code(moved.do(stunwire.Refresh, ticket)), "a ticket of a session that has ended")
	move := moved.raw
	thief := f.client()
	require.Equal(t, 438, code(thief.replay(move)))
	require.Equal(t, e.local(), f.one().Info().Client)
}

// Requests that come again from the client's own address, while their nonce is
// good, get the answer that they had.
func TestReplayFromTheSameAddress(t *testing.T) {
	for name, dial := range map[string]func(*fixture) *rawClient{"udp": (*fixture).client, "tcp": (*fixture).dialTCP} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(_ *Server, p *Policy) { p.MaxPermissions = 3 })
			c := dial(f)
			c.allocate()
			a := f.one()
			p, q := newPeer(t, loopback), newPeer(t, loopback)

			c.refresh(3000)
			long := c.raw
			require.EqualValues(t, 700, lifetime(t, c.refresh(700)))
			expires := a.Info().Expires
			require.InDelta(t, 700, lifetime(t, c.replay(long)), 10, "the lifetime that is left")
			require.Equal(t, expires, a.Info().Expires)

			require.Equal(t, 0, c.permit(p.addr))
			permit := c.raw
			require.Equal(t, 0, c.bind(0x4000, q.addr))
			bind := c.raw
			a.forgetPeers()
			m := c.replay(permit)
			require.Equal(t, 0, code(m))
			require.True(t, intact(m, c.key))
			require.Equal(t, 0, code(c.replay(bind)))
			require.Empty(t, a.Info().Permissions, "permission that has run out stays so")
			require.Empty(t, a.Info().Channels)

			for i := range byte(3) {
				require.Equal(t, 0, c.permit(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 10 + i}), 1)))
			}
			require.Equal(t, 508, c.permit(netip.MustParseAddrPort("127.0.0.20:1")))
			refused := c.raw
			a.forgetPeers()
			require.Equal(t, 508, code(c.replay(refused)), "an error stays one, though there is room by now")
			require.Empty(t, a.Info().Permissions)

			require.Equal(t, 0, c.permit(p.addr), "a new request counts")
			require.Len(t, a.Info().Permissions, 1)
			require.EqualValues(t, 4, f.server.Stats().Drops["repeated"])
		})
	}
}

// forgetPeers ends all permissions and channels before their time.
func (a *Allocation) forgetPeers() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.peers = peers{}
}

// Connect makes one connection, however often it is sent.
func TestReplayedConnect(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	ln, to := listenPeer(t)
	id := connectionID(t, c.do(stunwire.Connect, peerAttr(to)))
	connect := c.raw
	peer, err := ln.Accept()
	require.NoError(t, err)
	defer peer.Close()
	require.Equal(t, 446, code(c.replay(connect)))
	data, refused := f.bindTCP(c, id)
	require.Zero(t, refused)
	require.Equal(t, 400, f.bindUnknown(id), "bound once")
	exchangeBytes(t, data.conn, peer)
	require.NoError(t, peer.Close())
	eventually(t, func() bool { return f.one().Info().Connections == 0 }, "the peer has gone")
	require.Equal(t, 446, code(c.replay(connect)), "though it is over")
	require.Zero(t, f.one().Info().Connections)
}

// What belongs to one session is worth nothing in the client's next one.
func TestReplayIntoTheNextSession(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.allocate()
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.permit(p.addr))
	permit := c.raw
	require.Equal(t, 0, code(c.refresh(0)))
	end := c.raw
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	require.Equal(t, 438, code(m), "the nonce has had its session")
	c.adopt(m)
	require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))), "at once with the new one")
	require.Equal(t, 438, code(c.replay(end)))
	require.Equal(t, 438, code(c.replay(permit)))
	require.Empty(t, f.one().Info().Permissions)
	require.Equal(t, 0, code(c.refresh(600)))
}

// However much a client asks, nothing of it counts twice, and what is kept for
// it is bounded.
func TestReplayBeyondWhatIsRemembered(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.allocate()
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.permit(p.addr))
	permit := c.raw
	a := f.one()
	renewed := 0
	for range 3 * maxDone {
		m := c.refresh(600)
		if code(m) == 438 {
			c.adopt(m)
			m = c.refresh(600)
			renewed++
		}
		require.Equal(t, 0, code(m))
	}
	require.Equal(t, 2, renewed)
	a.forgetPeers()
	require.Equal(t, 438, code(c.replay(permit)))
	require.Empty(t, a.Info().Permissions)
	a.mu.Lock()
	defer a.mu.Unlock()
	require.LessOrEqual(t, len(a.done), maxDone)
}

// Nonces of a fleet's server whose clock is ahead become stale, too, and the one
// that follows is good.
func TestReplayOfANonceFromTheFuture(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.login()
	ahead := func() string {
		return string(f.server.nonces.append(nil, f.server.features(), c.local(), c.realm, time.Now().Add(20*time.Second).UnixMilli()))
	}
	c.nonce = ahead()
	require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	allocate := c.raw
	require.Equal(t, 0, code(c.refresh(0)))
	m := c.replay(allocate)
	require.Equal(t, 438, code(m))
	c.adopt(m)
	require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
}

// What ended sessions leave behind is bounded, and good for a replay that comes
// soon.
func TestPastIsBounded(t *testing.T) {
	s := &Server{Realm: "r"}
	s.init()
	defer s.Close()
	sh := newShard(s, nil)
	at := func(i int) netip.AddrPort {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(i))
		return netip.AddrPortFrom(netip.AddrFrom4(ip), 1)
	}
	const n = 5 * maxPast
	for i := range n {
		sh.remember(at(i), int64(i+1))
		require.EqualValues(t, i+1, sh.ended(at(i)))
	}
	require.LessOrEqual(t, len(sh.past.young)+len(sh.past.old), 2*maxPast)
	require.EqualValues(t, n-maxPast+1, sh.ended(at(n-maxPast)))
	require.Zero(t, sh.ended(at(0)))
}
