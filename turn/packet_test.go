package turn

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stun"
)

// proxyHeader is a PROXY header, version 2, of a UDP client over IPv4.
func proxyHeader(from, to netip.AddrPort) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c")
	src, dst := from.Addr().As4(), to.Addr().As4()
	b = append(append(b, src[:]...), dst[:]...)
	return append(b, byte(from.Port()>>8), byte(from.Port()), byte(to.Port()>>8), byte(to.Port()))
}

// A proxyConn puts a header before each datagram.
type proxyConn struct {
	net.Conn
	header []byte
}

func (c *proxyConn) Write(b []byte) (int, error) {
	_, err := c.Conn.Write(append(append([]byte(nil), c.header...), b...))
	return len(b), err
}

func TestProxiedDatagrams(t *testing.T) {
	client := netip.MustParseAddrPort("203.0.113.77:4242")
	for _, trusted := range []bool{true, false} {
		f := start(t, func(s *Server, _ *Policy) {
			if trusted {
				s.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		})
		c := f.client()
		c.conn = &proxyConn{c.conn, proxyHeader(client, f.udp)}
		if !trusted {
			require.Nil(t, c.exchange(c.build(stunwire.Binding, nil), nothing), "a header of a stranger is not believed")
			continue
		}
		m := c.allocate()
		v, _ := m.Get(stunwire.AttrXORMappedAddress)
		mapped, err := m.XORAddr(v)
		require.NoError(t, err)
		require.Equal(t, client, mapped)
		require.Equal(t, client, f.one().Info().Client)
		relayBothWays(t, c, relayed(t, m)[0], newPeer(t, loopback))
		c.conn.(*proxyConn).header = proxyHeader(netip.MustParseAddrPort("203.0.113.78:1"), f.udp)
		require.Equal(t, 438, code(c.refresh(600)), "another client by the same proxy's port")
	}
}

func TestNATDiscovery(t *testing.T) {
	s := &Server{Realm: "test.example"}
	var sockets []net.PacketConn
	for i, ip := range []string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.2", "127.0.0.2"} {
		if i >= 2 {
			_, port, err := net.SplitHostPort(sockets[i-2].LocalAddr().String())
			require.NoError(t, err)
			ip = net.JoinHostPort(ip, port)
		}
		pc, err := net.ListenPacket("udp", ip)
		if err != nil {
			t.Skipf("no second address on loopback, or its port is taken: %v", err)
		}
		sockets = append(sockets, pc)
		s.NAT[i] = addrPortOf(pc.LocalAddr())
	}
	done := make(chan error, 4)
	for _, pc := range sockets {
		go func() { done <- s.ServePacket(pc) }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	eventually(t, func() bool { return s.nat[stun.Alternate].Load() != nil && s.nat[stun.AlternateAddress].Load() != nil }, "serves")
	behaviour, err := stun.Discover(ctx, pc, s.NAT[0], nil)
	require.NoError(t, err)
	require.Equal(t, stun.EndpointIndependent, behaviour.Mapping)
	require.Equal(t, stun.EndpointIndependent, behaviour.Filtering)
	require.NoError(t, s.Close())
	for range 4 {
		require.ErrorIs(t, <-done, ErrServerClosed)
	}
}
