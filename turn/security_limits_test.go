package turn

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/dtlsmux"
	"github.com/runnel-media/runnel/internal/oneport"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// Bounds on what clients without an allocation may hold or keep busy.

// listenAlso serves one more listener.
func (f *fixture) listenAlso(l net.Listener) netip.AddrPort {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.check(f.server.Serve(l))
	}()
	f.t.Cleanup(func() {
		f.check(f.server.Close())
		<-done
	})
	return addrPortOf(l.Addr())
}

// Slow-loris over TCP and TLS: who is past the first byte, or the handshake,
// and says no more. Ten thousand hold no more than the caps let them.
func TestSlowLorisMemoryStaysFlat(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			const most = 50
			f := start(t, func(s *Server, _ *Policy) { s.MaxWaiting = most })
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			at := f.listenAlso(oneport.Listen(l, serverTLS(t), oneport.Options{MaxHalfOpen: most}))
			dial := func() {
				conn, err := net.Dial("tcp", at.String())
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				if secure {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
					require.NoError(t, conn.(*tls.Conn).Handshake())
				}
				_, err = conn.Write([]byte{0, 3, 0})
				require.NoError(t, err)
			}
			for range most {
				dial()
			}
			eventually(t, func() bool { return f.server.waiting.Len() == most }, "all wait")
			before := use()
			for i := most; i < n; i++ {
				if secure && i%20 != 0 { // the rest begin a handshake and stop
					conn, err := net.Dial("tcp", at.String())
					require.NoError(t, err)
					_, _ = conn.Write([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3})
					require.NoError(t, conn.Close())
					continue
				}
				conn, err := net.Dial("tcp", at.String())
				require.NoError(t, err)
				_, _ = conn.Write([]byte{0, 3, 0})
				_, err = io.Copy(io.Discard, conn)
				if e, ok := err.(net.Error); ok {
					require.False(t, e.Timeout())
				}
				require.NoError(t, conn.Close())
			}
			require.Equal(t, most, f.server.waiting.Len())
			require.Less(t, use()-before, int64(4<<20))
			require.NotZero(t, f.server.Stats().Drops["waiting"])
		})
	}
}

func use() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// A source has its share of the connections that wait; who has an allocation
// does not wait, who gives it up does again, and nobody is counted for ever.
func TestWaitingConnectionsOfOneSource(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.MaxWaitingPerSource = 2 })
	a, b := f.dialTCP(), f.dialTCP()
	eventually(t, func() bool { return f.server.waiting.Len() == 2 }, "both wait")
	require.True(t, closed(t, f.dialTCP().conn), "the third")
	a.allocate()
	require.Equal(t, 1, f.server.waiting.Len())
	c := f.dialTCP()
	c.login()
	require.Equal(t, 0, code(a.refresh(0)))
	require.True(t, closed(t, a.conn), "no room to wait again")
	b.allocate()
	c.login()
	require.NoError(t, b.conn.Close())
	require.NoError(t, c.conn.Close())
	eventually(t, func() bool { return f.server.waiting.Len() == 0 }, "nobody waits")
	f.dialTCP().allocate()
}

// Talk alone does not keep a DTLS association.
func TestDTLSWithoutAllocationIsIdle(t *testing.T) {
	s := &Server{Realm: "r"}
	s.init()
	defer s.Close()
	limit := s.policy.Load().IdleTimeout
	c := new(dtlsmux.Conn)
	require.True(t, s.openedDTLS(c))
	require.Equal(t, limit, s.dtlsIdle(c), "it has said nothing")
	o := c.Owner.(*dtlsClient)
	o.path = new(path)
	require.Equal(t, limit, s.dtlsIdle(c))
	o.path.alloc.Store(new(Allocation))
	o.idle -= 2 * int64(limit)
	require.Greater(t, s.dtlsIdle(c), time.Hour)
	o.path.alloc.Store(nil)
	require.Equal(t, limit, s.dtlsIdle(c), "it had one just now")
	o.idle -= 2 * int64(limit)
	require.Negative(t, s.dtlsIdle(c))
	o.idle = s.clock()
	o.wait.settled()
	require.Negative(t, s.dtlsIdle(c), "no room to wait")
}

// Associations of DTLS without an allocation are bounded by source, like
// connections.
func TestWaitingDTLSOfOneSource(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		s.MaxWaitingPerSource = 2
		s.DTLS = serverTLS(t)
	})
	dial := func(wait time.Duration) (*rawClient, error) {
		c, err := dtls.Dial("udp", net.UDPAddrFromAddrPort(f.udp), &dtls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		err = c.HandshakeContext(ctx)
		return f.over(c, false), err
	}
	open := func() *rawClient {
		c, err := dial(4 * answerTimeout)
		require.NoError(t, err)
		return c
	}
	a, b := open(), open()
	eventually(t, func() bool { return f.server.waiting.Len() == 2 }, "both wait")
	_, err := dial(500 * time.Millisecond)
	require.Error(t, err, "the third")
	a.allocate()
	require.Equal(t, 1, f.server.waiting.Len())
	c := open()
	eventually(t, func() bool { return f.server.waiting.Len() == 2 }, "there is room for one")
	require.Equal(t, 0, code(a.refresh(0)))
	eventually(t, func() bool { return f.server.Stats().Drops["waiting"] >= 2 }, "no room to wait again")
	for _, one := range []*rawClient{a, b, c} {
		require.NoError(t, one.conn.Close())
	}
	eventually(t, func() bool { return f.server.waiting.Len() == 0 }, "nobody waits")
}

// slowRealms answers about an ORIGIN when the question ends.
type slowRealms struct{ testRealms }

func (slowRealms) RealmOf(ctx context.Context, _ string) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// What strangers make the server ask Realms leaves room for who has proved his
// address, however many sources they forge.
func TestStrangersOriginsLeaveRoom(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Realms, s.MaxAuthorizing = slowRealms{}, 8 })
	for i := range 40 {
		c := f.from(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}))
		c.write(c.build(stunwire.Allocate, with(transportAttr(protocolUDP), attr(stunwire.AttrOrigin, byte('a'+i)))))
	}
	eventually(t, func() bool { return f.server.Stats().Drops["authorizer-busy"] == 38 }, "two are asked about")
	f.client().allocate()
	f.dialTCP().allocate()
}

// from connects alice by UDP from an address of the loopback network.
func (f *fixture) from(ip netip.Addr) *rawClient {
	f.t.Helper()
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)), net.UDPAddrFromAddrPort(f.udp))
	require.NoError(f.t, err)
	return f.over(conn, false)
}

// One source, and streams, have but a share of what Auth is asked at a time.
func TestAuthIsSharedBySources(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		inner := s.Auth
		s.MaxAuthorizing = 16
		s.Auth = auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.User == "bob" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return inner.Authorize(ctx, r)
		})
	})
	slow := func(c *rawClient) {
		c.user, c.pass = "bob", "builder"
		c.login()
		c.write(c.build(stunwire.Allocate, transportAttr(protocolUDP)))
	}
	for range 12 {
		slow(f.client())
	}
	eventually(t, func() bool { return f.server.Stats().Drops["authorizer-busy"] == 8 }, "four of twelve are asked about")
	for range 12 {
		slow(f.dialTCP())
	}
	eventually(t, func() bool { return len(f.server.authorizing) == 12 }, "and eight of the streams")
	f.from(netip.MustParseAddr("127.0.0.77")).allocate()
}

// A token names nobody: with another one, though it is as good, nobody takes a
// session over.
func TestMobilityTicketWithAnotherToken(t *testing.T) {
	f := start(t, func(s *Server, p *Policy) {
		p.Mobility = true
		s.ThirdParty = "turn.example"
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.Token == "" || !r.Proof(auth.Secret{Key: []byte("key of " + r.Token)}) {
				return nil, auth.ErrDenied
			}
			return &auth.Grant{User: r.User}, nil
		})
	})
	holder := func(token string) (*rawClient, func(*stunwire.Builder)) {
		c := f.client()
		c.adopt(c.do(stunwire.Allocate, transportAttr(protocolUDP)))
		c.user, c.key = "kid", stunwire.NewKey([]byte("key of "+token))
		return c, attr(stunwire.AttrAccessToken, []byte(token)...)
	}
	c, mine := holder("mine")
	m := c.do(stunwire.Allocate, with(transportAttr(protocolUDP), mine, attr(stunwire.AttrMobilityTicket)))
	require.Equal(t, 0, code(m))
	ticket := ticketOf(t, m)
	thief, other := holder("other")
	require.Equal(t, 441, code(thief.do(stunwire.Refresh, with(other, ticket))))
	require.Equal(t, 441, code(thief.do(stunwire.Refresh, with(other, ticket, lifetimeAttr(0)))))
	require.Equal(t, c.local(), f.one().Info().Client)
	moved, _ := holder("mine")
	require.Equal(t, 0, code(moved.do(stunwire.Refresh, with(mine, ticket))))
}
