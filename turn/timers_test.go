package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// A packetNet carries datagrams in memory, for tests whose time is synctest's.
type packetNet struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*packetNetConn
	port  uint16
}

type packetNetConn struct {
	net    *packetNet
	at     netip.AddrPort
	remote netip.AddrPort // of Read and Write
	in     chan packetNetDatagram
	done   chan struct{}
	once   sync.Once
	limit  time.Time
}

type packetNetDatagram struct {
	from netip.AddrPort
	b    []byte
}

func (n *packetNet) listen(at netip.AddrPort) (*packetNetConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[netip.AddrPort]*packetNetConn)
	}
	if at.Port() == 0 {
		n.port++
		at = netip.AddrPortFrom(at.Addr(), 50000+n.port)
	}
	if n.conns[at] != nil {
		return nil, errors.New("address in use")
	}
	c := &packetNetConn{net: n, at: at, in: make(chan packetNetDatagram, 64), done: make(chan struct{})}
	n.conns[at] = c
	return c, nil
}

func (c *packetNetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	var expired <-chan time.Time
	if !c.limit.IsZero() {
		t := time.NewTimer(time.Until(c.limit))
		defer t.Stop()
		expired = t.C
	}
	select {
	case d := <-c.in:
		return copy(b, d.b), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.done:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *packetNetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.net.mu.Lock()
	d := c.net.conns[addrPortOf(to)]
	c.net.mu.Unlock()
	if d != nil {
		select {
		case d.in <- packetNetDatagram{c.at, append([]byte(nil), b...)}:
		default:
		}
	}
	return len(b), nil
}

func (c *packetNetConn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		delete(c.net.conns, c.at)
	})
	return nil
}

func (c *packetNetConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c *packetNetConn) Write(b []byte) (int, error) {
	return c.WriteTo(b, net.UDPAddrFromAddrPort(c.remote))
}
func (c *packetNetConn) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(c.at) }
func (c *packetNetConn) RemoteAddr() net.Addr               { return net.UDPAddrFromAddrPort(c.remote) }
func (c *packetNetConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *packetNetConn) SetReadDeadline(t time.Time) error  { c.limit = t; return nil }
func (c *packetNetConn) SetWriteDeadline(t time.Time) error { return nil }

// OpenRelay makes it a RelayAllocator.
func (n *packetNet) OpenRelay(_ context.Context, r *RelayRequest) (*Relay, error) {
	if r.Network != "udp4" {
		return nil, ErrNoFamily
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("8.8.4.4"), 0)
	if r.Port.IsValid() {
		at = r.Port
	}
	c, err := n.listen(at)
	if err != nil {
		return nil, err
	}
	return &Relay{PacketConn: c}, nil
}

var (
	memServer = netip.MustParseAddrPort("198.51.100.1:3478")
	memPeer   = netip.MustParseAddrPort("8.8.8.8:9")
)

// inMemory runs f in a bubble of its own time, with a server in memory.
func inMemory(t *testing.T, change func(*Server, *Policy), f func(t *testing.T, s *Server, n *packetNet, client func() *rawClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := new(packetNet)
		s := &Server{Realm: "test.example", Auth: users(alice), Relays: n}
		p := &Policy{}
		if change != nil {
			change(s, p)
		}
		s.SetPolicy(p)
		pc, err := n.listen(memServer)
		require.NoError(t, err)
		done := make(chan error)
		go func() { done <- s.ServePacket(pc) }()
		synctest.Wait()
		f(t, s, n, func() *rawClient {
			c, err := n.listen(netip.MustParseAddrPort("203.0.113.1:0"))
			require.NoError(t, err)
			c.remote = memServer
			return &rawClient{t: t, conn: c, user: "alice", pass: "wonder"}
		})
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-done, ErrServerClosed)
	})
}

// held returns what f counts while it holds the server's lock.
func held(s *Server, f func() int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

func count(s *Server) (n int) {
	for range s.Allocations() {
		n++
	}
	return n
}

func TestAllocationExpires(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, s *Server, _ *packetNet, client func() *rawClient) {
		ended := make(chan EndReason, 4)
		go func() {
			for e := range s.Events(context.Background()) {
				if e, ok := e.(AllocationEnded); ok {
					ended <- e.Reason
				}
			}
		}()
		synctest.Wait()
		c := client()
		c.allocate()
		time.Sleep(599 * time.Second)
		require.Equal(t, 1, count(s))
		c.nonce = "" // run out by now, for the most part
		require.Equal(t, 438, code(c.refresh(600)))
		c.adopt(c.do(stunwire.Refresh, nil))
		require.Equal(t, 0, code(c.refresh(700)))
		time.Sleep(698 * time.Second)
		require.Equal(t, 1, count(s))
		time.Sleep(4 * time.Second)
		require.Equal(t, 0, count(s))
		require.Equal(t, EndExpired, <-ended)
	})
}

func TestStaleNonce(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, _ *Server, _ *packetNet, client func() *rawClient) {
		c := client()
		c.allocate(lifetimeAttr(3600))
		time.Sleep(598 * time.Second)
		require.Equal(t, 0, code(c.refresh(3600)))
		time.Sleep(3 * time.Second)
		m := c.do(stunwire.Refresh, lifetimeAttr(3600))
		require.Equal(t, 438, code(m))
		c.adopt(m)
		require.Equal(t, 0, code(c.refresh(3600)))
	})
}

func TestPermissionAndChannelExpire(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, s *Server, n *packetNet, client func() *rawClient) {
		peer, err := n.listen(memPeer)
		require.NoError(t, err)
		defer peer.Close()
		got := func() string {
			b := make([]byte, 100)
			require.NoError(t, peer.SetReadDeadline(time.Now().Add(time.Millisecond)))
			n, _ := peer.Read(b)
			return string(b[:n])
		}
		c := client()
		at := relayed(t, c.allocate(lifetimeAttr(3600)))[0]
		from := func() bool {
			_, err := peer.WriteTo([]byte("down"), net.UDPAddrFromAddrPort(at))
			require.NoError(t, err)
			_, _, data := c.data(time.Millisecond)
			return data == "down"
		}
		require.Equal(t, 0, c.permit(memPeer))
		time.Sleep(299 * time.Second)
		c.indicate(memPeer, "in time")
		require.Equal(t, "in time", got())
		require.True(t, from())
		time.Sleep(2 * time.Second)
		c.indicate(memPeer, "too late")
		require.Empty(t, got())
		require.False(t, from())

		require.Equal(t, 0, c.bind(0x4000, memPeer))
		time.Sleep(299 * time.Second)
		require.True(t, from(), "a channel permits its peer")
		time.Sleep(2 * time.Second)
		require.False(t, from(), "for 300 seconds")
		c.channel(0x4000, "for 600 seconds")
		require.Equal(t, "for 600 seconds", got())
		time.Sleep(300 * time.Second)
		c.channel(0x4000, "too late")
		require.Empty(t, got())
		require.Empty(t, s.Allocation(1).Info().Channels)
		time.Sleep(31 * time.Second)
		s.Allocation(1).mu.Lock()
		defer s.Allocation(1).mu.Unlock()
		require.Empty(t, s.Allocation(1).peers.numbers, "forgotten by the sweep")
		require.Empty(t, s.Allocation(1).peers.permissions)
	})
}

func TestCredentialExpiresWhileLive(t *testing.T) {
	inMemory(t, func(s *Server, _ *Policy) {
		inner := s.Auth
		s.Auth = auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
			g, err := inner.Authorize(ctx, r)
			if g != nil {
				g.Expires = time.Now().Add(100 * time.Second)
			}
			return g, err
		})
	}, func(t *testing.T, s *Server, _ *packetNet, client func() *rawClient) {
		c := client()
		require.EqualValues(t, 100, lifetime(t, c.allocate()))
		time.Sleep(50 * time.Second)
		require.EqualValues(t, 50, lifetime(t, c.refresh(3600)), "not longer than the credential")
		time.Sleep(52 * time.Second)
		require.Equal(t, 0, count(s))
	})
}

func TestReservationExpires(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, s *Server, n *packetNet, client func() *rawClient) {
		c := client()
		c.allocate(attr(stunwire.AttrEvenPort, 0x80))
		n.mu.Lock()
		before := len(n.conns)
		n.mu.Unlock()
		require.Equal(t, 1, held(s, func() int { return len(s.reserved) }))
		time.Sleep(32 * time.Second)
		n.mu.Lock()
		require.Len(t, n.conns, before-1, "its socket is closed")
		n.mu.Unlock()
		require.Zero(t, held(s, func() int { return len(s.reserved) }))
		inUse, _, _ := s.quota.counts("test.example", "alice")
		require.Equal(t, 1, inUse)
	})
}

func TestMoveThatIsNotUsedExpires(t *testing.T) {
	inMemory(t, mobile, func(t *testing.T, s *Server, _ *packetNet, client func() *rawClient) {
		c := client()
		m := c.allocate(attr(stunwire.AttrMobilityTicket))
		d := client()
		d.login()
		require.Equal(t, 0, code(d.do(stunwire.Refresh, ticketOf(t, m))))
		time.Sleep(65 * time.Second)
		require.Equal(t, 437, code(d.refresh(600)))
		require.Equal(t, 0, code(c.refresh(600)))
		require.Equal(t, 1, count(s))
	})
}

func TestSlowAuthHoldsNobodyUp(t *testing.T) {
	inMemory(t, func(s *Server, _ *Policy) {
		inner := s.Auth
		s.MaxAuthorizing = 2
		s.Auth = auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.User == "bob" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return inner.Authorize(ctx, r)
		})
	}, func(t *testing.T, s *Server, _ *packetNet, client func() *rawClient) {
		c := client()
		c.allocate()
		for range 3 {
			slow := client()
			slow.user, slow.pass = "bob", "builder"
			slow.login()
			request := slow.build(stunwire.Allocate, transportAttr(protocolUDP))
			slow.write(request)
			slow.write(request) // again, as clients do
		}
		synctest.Wait()
		require.Equal(t, 0, code(c.refresh(600)), "live sessions are not held up")
		drops := s.Stats().Drops
		require.EqualValues(t, 4, drops["repeated"]+drops["authorizer-busy"], "of six requests two wait")
		time.Sleep(11 * time.Second)
		require.EqualValues(t, 2, s.Stats().Errors[500], "Auth has ten seconds")
		require.Empty(t, s.authorizing)
	})
}

// Hundreds of realms with sessions are loaded anew in time, not all at once.
func TestManyRealmsAreLoadedAnew(t *testing.T) {
	s := &Server{Realm: "r", Realms: testRealms{}}
	s.init()
	const n = 3 * realmLoads
	s.mu.Lock()
	for i := range n {
		r := &realm{name: fmt.Sprint("realm ", i), live: 1}
		r.loaded.Store(1)
		s.realms[r.name] = r
	}
	s.mu.Unlock()
	now := s.clock() + 2*realmFresh
	fresh := func() (fresh int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range s.realms {
			if r.changes.Load() > 0 {
				fresh++
				r.loaded.Store(now)
			}
		}
		return fresh
	}
	for round := range 3 {
		s.sweepRealms(now)
		eventually(t, func() bool { return fresh() == (round+1)*realmLoads }, "a share of them")
	}
	require.NoError(t, s.Close())
}
