package turn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/oneport"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// A session for TCP that lives while the server drains goes on to make data
// connections, which are TCP connections of their own.
func TestShutdownLeavesDataConnections(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	done := make(chan error, 1)
	go func() { done <- f.server.Shutdown(context.Background()) }()
	eventually(t, func() bool { return f.server.Stats().Draining }, "drains")
	data, peer := f.connectPeer(c)
	exchangeBytes(t, data.conn, peer)

	other := f.dialTCP()
	other.login()
	require.Equal(t, 508, code(other.do(stunwire.Allocate, transportAttr(protocolUDP))), "no new session")
	require.Equal(t, 0, code(c.refresh(0)))
	require.NoError(t, <-done)
	_, err := net.Dial("tcp", f.tcp.String())
	require.Error(t, err, "the listener is closed in the end")
}

// The last client is told that its session has ended before the server is gone.
func TestShutdownAnswersTheLastRefresh(t *testing.T) {
	for name, dial := range map[string]func(*fixture) *rawClient{"udp": (*fixture).client, "tcp": (*fixture).dialTCP} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				f := start(t, nil)
				c := dial(f)
				c.allocate()
				done := make(chan error, 1)
				go func() { done <- f.server.Shutdown(context.Background()) }()
				eventually(t, func() bool { return f.server.Stats().Draining }, "drains")
				end := c.build(stunwire.Refresh, lifetimeAttr(0))
				if c.stream { // what comes behind it must not reset the connection
					end = append(end, make([]byte, 10_000)...)
				}
				m := c.exchange(end, answerTimeout)
				require.NotNil(t, m)
				require.Zero(t, code(m))
				if c.stream {
					_, err := c.conn.Read(make([]byte, 1))
					require.ErrorIs(t, err, io.EOF)
					require.NoError(t, c.conn.Close())
				}
				require.NoError(t, <-done)
			}
		})
	}
}

// A connection of RFC 6062 ends one way at a time, on a port that takes TLS
// beside plain TCP too.
func TestDataConnectionIsHalfClosed(t *testing.T) {
	f := start(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f.tcp = f.listenAlso(oneport.Listen(l, serverTLS(t), oneport.Options{}))
	c := f.dialTCP()
	c.allocateTCP()
	data, peer := f.connectPeer(c)
	require.NoError(t, peer.(*net.TCPConn).CloseWrite())
	require.NoError(t, data.conn.SetReadDeadline(time.Now().Add(answerTimeout)))
	_, err = data.conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	_, err = data.conn.Write([]byte("still here"))
	require.NoError(t, err)
	got := make([]byte, 10)
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(answerTimeout)))
	_, err = io.ReadFull(peer, got)
	require.NoError(t, err, "the other way goes on")
}

// A dual allocation for TCP has peers of both families, and ends with both.
func TestDualTCP(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.login()
	m := c.do(stunwire.Allocate, with(transportAttr(protocolTCP), attr(stunwire.AttrAdditionalAddressFamily, familyIPv6, 0, 0, 0)))
	require.Equal(t, 0, code(m))
	require.Len(t, relayed(t, m), 2)
	peers := map[string]net.Conn{}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", at)
		require.NoError(t, err)
		defer ln.Close()
		require.Equal(t, 0, code(c.do(stunwire.Connect, peerAttr(addrPortOf(ln.Addr())))), at)
		peers[at], err = ln.Accept()
		require.NoError(t, err)
		defer peers[at].Close()
	}
	require.Equal(t, 2, f.one().Info().Connections)
	require.Equal(t, 0, code(c.do(stunwire.Refresh, with(lifetimeAttr(0), familyAttr(true)))))
	require.True(t, closed(t, peers["[::1]:0"]), "its family is given up")
	require.Equal(t, 1, f.one().Info().Connections)
	require.Equal(t, 443, code(c.do(stunwire.Connect, peerAttr(netip.MustParseAddrPort("[::1]:9")))))
	require.NoError(t, c.conn.Close())
	require.True(t, closed(t, peers["127.0.0.1:0"]), "the session has ended")
}

// Clients with a certificate have no password to sign ConnectionBind with.
func TestConnectionBindByCertificate(t *testing.T) {
	mine := selfSigned(t, "client.example")
	pool := x509.NewCertPool()
	pool.AddCert(mine.Leaf)
	cfg := serverTLS(t)
	cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, pool
	f := start(t, func(s *Server, _ *Policy) {
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
				return nil, auth.ErrDenied
			}
			return &auth.Grant{User: r.TLS.PeerCertificates[0].Subject.CommonName}, nil
		})
	})
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	at := f.listenAlso(ln)
	dial := func(certs ...tls.Certificate) *rawClient {
		conn, err := tls.Dial("tcp", at.String(), &tls.Config{InsecureSkipVerify: true, Certificates: certs})
		require.NoError(t, err)
		return f.over(conn, true)
	}
	c := dial(mine)
	require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolTCP))))
	peers, to := listenPeer(t)
	m := c.do(stunwire.Connect, peerAttr(to))
	require.Equal(t, 0, code(m))
	id := connectionID(t, m)
	peer, err := peers.Accept()
	require.NoError(t, err)
	defer peer.Close()
	bind := func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrConnectionID, id) }
	require.Equal(t, 401, code(dial().do(stunwire.ConnectionBind, bind)))
	data := dial(mine)
	require.Equal(t, 0, code(data.do(stunwire.ConnectionBind, bind)))
	_, err = peer.Write([]byte("bytes"))
	require.NoError(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(data.conn, got)
	require.NoError(t, err)
	require.Equal(t, "bytes", string(got))
}
