package turn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// allocateTCP logs in and makes an allocation for TCP.
func (c *rawClient) allocateTCP() netip.AddrPort {
	c.t.Helper()
	c.login()
	m := c.do(stunwire.Allocate, transportAttr(protocolTCP))
	require.Equal(c.t, 0, code(m))
	return relayed(c.t, m)[0]
}

// bindTCP opens a data connection for a CONNECTION-ID.
func (f *fixture) bindTCP(c *rawClient, id uint32) (*rawClient, int) {
	f.t.Helper()
	d := f.dialTCP()
	d.user, d.pass, d.realm, d.nonce, d.key = c.user, c.pass, c.realm, c.nonce, c.key
	m := d.do(stunwire.ConnectionBind, func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrConnectionID, id) })
	return d, code(m)
}

// bindUnknown names a connection that there is not.
func (f *fixture) bindUnknown(id uint32) int {
	f.t.Helper()
	d := f.dialTCP()
	d.login()
	return code(d.do(stunwire.ConnectionBind, func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrConnectionID, id) }))
}

func listenPeer(t *testing.T) (net.Listener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln, addrPortOf(ln.Addr())
}

// connectPeer has the server connect to a peer, and binds the connection: data is
// the client's end, peer the other.
func (f *fixture) connectPeer(c *rawClient) (data *rawClient, peer net.Conn) {
	f.t.Helper()
	ln, to := listenPeer(f.t)
	m := c.do(stunwire.Connect, peerAttr(to))
	require.Equal(f.t, 0, code(m))
	peer, err := ln.Accept()
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = peer.Close() })
	data, refused := f.bindTCP(c, connectionID(f.t, m))
	require.Zero(f.t, refused)
	return data, peer
}

func connectionID(t *testing.T, m *stunwire.Message) uint32 {
	t.Helper()
	id, ok := m.Uint32(stunwire.AttrConnectionID)
	require.True(t, ok)
	return id
}

// echoes exchanges bytes both ways between two ends, then half-closes.
func exchangeBytes(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, ends := range [][2]net.Conn{{a, b}, {b, a}} {
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // 256 KB
		go func() {
			_, _ = ends[0].Write(payload)
			_ = ends[0].(*net.TCPConn).CloseWrite()
		}()
		require.NoError(t, ends[1].SetReadDeadline(time.Now().Add(answerTimeout)))
		got, err := io.ReadAll(ends[1])
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, got))
	}
}

func TestConnect(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	at := c.allocateTCP()
	ln, to := listenPeer(t)
	m := c.do(stunwire.Connect, peerAttr(to))
	require.Equal(t, 0, code(m))
	peer, err := ln.Accept()
	require.NoError(t, err)
	defer peer.Close()
	require.Equal(t, at, addrPortOf(peer.RemoteAddr()), "the peer sees the relayed address")
	require.Equal(t, 446, code(c.do(stunwire.Connect, peerAttr(to))), "connected already")
	_, err = peer.Write([]byte("early")) // before the client has bound it
	require.NoError(t, err)
	data, refused := f.bindTCP(c, connectionID(t, m))
	require.Zero(t, refused)
	early := make([]byte, 5)
	_, err = io.ReadFull(data.conn, early)
	require.NoError(t, err)
	require.Equal(t, "early", string(early))
	exchangeBytes(t, data.conn, peer)
	eventually(t, func() bool { return f.one().Info().Connections == 0 }, "forgotten")
	u := f.one().Info().Usage
	require.EqualValues(t, 1<<18, u.ToPeer.Bytes)
	require.EqualValues(t, 1<<18+5, u.ToClient.Bytes)
	require.Equal(t, 400, f.bindUnknown(connectionID(t, m)), "an id is good for once")
}

func TestConnectionAttempt(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	at := c.allocateTCP()
	stranger, err := net.Dial("tcp", at.String())
	require.NoError(t, err)
	_, err = stranger.Read(make([]byte, 1))
	require.Error(t, err, "without permission")

	require.Equal(t, 0, c.permit(netip.MustParseAddrPort("127.0.0.1:0")))
	peer, err := net.Dial("tcp", at.String())
	require.NoError(t, err)
	defer peer.Close()
	var m stunwire.Message
	require.NoError(t, m.Parse(c.next(answerTimeout)))
	require.Equal(t, stunwire.NewType(stunwire.ConnectionAttempt, stunwire.Indication), m.Type)
	v, _ := m.Get(stunwire.AttrXORPeerAddress)
	from, err := m.XORAddr(v)
	require.NoError(t, err)
	require.Equal(t, addrPortOf(peer.LocalAddr()), from)
	data, refused := f.bindTCP(c, connectionID(t, &m))
	require.Zero(t, refused)
	exchangeBytes(t, data.conn, peer)
}

func TestTCPErrors(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	ln, to := listenPeer(t)
	require.Equal(t, 400, code(c.do(stunwire.Connect, nil)))
	require.Equal(t, 443, code(c.do(stunwire.Connect, peerAttr(netip.MustParseAddrPort("[::1]:9")))))
	require.Equal(t, 403, code(c.do(stunwire.Connect, peerAttr(netip.MustParseAddrPort("10.0.0.1:9")))))
	require.Equal(t, 403, code(c.do(stunwire.Connect, peerAttr(f.tcp))), "the server itself")
	require.NoError(t, ln.Close())
	require.Equal(t, 447, code(c.do(stunwire.Connect, peerAttr(to))), "nobody listens")
	require.Equal(t, 400, c.bind(0x4000, to), "no channels for TCP")
	require.Equal(t, 400, f.bindUnknown(12345))

	u := f.dialTCP()
	u.allocate()
	require.Equal(t, 400, code(u.do(stunwire.Connect, peerAttr(to))), "not an allocation for TCP")
	x := f.dialTCP()
	x.login()
	require.Equal(t, 437, code(x.do(stunwire.Connect, peerAttr(to))))
	require.Equal(t, 400, code(x.do(stunwire.Allocate, with(transportAttr(protocolTCP), attr(stunwire.AttrEvenPort, 0)))))
	require.Equal(t, 400, code(x.do(stunwire.Allocate, with(transportAttr(protocolTCP), attr(stunwire.AttrDontFragment)))))
}

func TestConnectionBindIsTheUsers(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	ln, to := listenPeer(t)
	m := c.do(stunwire.Connect, peerAttr(to))
	peer, err := ln.Accept()
	require.NoError(t, err)
	defer peer.Close()
	d := f.dialTCP()
	d.user, d.pass = "bob", "builder"
	d.login()
	id := connectionID(t, m)
	require.Equal(t, 441, code(d.do(stunwire.ConnectionBind, func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrConnectionID, id) })))
	_, refused := f.bindTCP(c, id)
	require.Zero(t, refused)
}

func TestTCPEndsWithTheAllocation(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	data, peer := f.connectPeer(c)
	require.NoError(t, c.conn.Close())
	for _, conn := range []net.Conn{peer, data.conn} {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(answerTimeout)))
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "closed, not silent")
	}
}

// A peer that is denied while its connection lives is cut off with the next
// bytes.
func TestPolicyEndsDataConnections(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	data, peer := f.connectPeer(c)
	_, err := data.conn.Write([]byte("a"))
	require.NoError(t, err)
	_, err = io.ReadFull(peer, make([]byte, 1))
	require.NoError(t, err)
	f.server.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true, Deny: ranges(t, "127.0.0.0/8")}, UnauthenticatedRate: -1})
	_, err = data.conn.Write([]byte("b"))
	require.NoError(t, err)
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(answerTimeout)))
	n, err := peer.Read(make([]byte, 1))
	require.Zero(t, n)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "closed, not silent")
	eventually(t, func() bool { return f.one().Info().Connections == 0 }, "forgotten")
	require.Equal(t, 403, code(c.do(stunwire.Connect, peerAttr(addrPortOf(peer.LocalAddr())))))
}

func TestTCPBackpressure(t *testing.T) {
	f := start(t, nil)
	c := f.dialTCP()
	c.allocateTCP()
	data, peer := f.connectPeer(c)
	// The client writes, the peer does not read: the client is stopped.
	chunk := []byte(strings.Repeat("z", 1<<16))
	require.NoError(t, data.conn.SetWriteDeadline(time.Now().Add(700*time.Millisecond)))
	sent := 0
	for {
		n, err := data.conn.Write(chunk)
		sent += n
		if err != nil {
			break
		}
		require.Less(t, sent, 64<<20, "the writer is never stopped")
	}
	require.NoError(t, data.conn.SetWriteDeadline(time.Time{}))
	require.NoError(t, data.conn.(*net.TCPConn).CloseWrite())
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(answerTimeout)))
	n, err := io.Copy(io.Discard, peer)
	require.NoError(t, err)
	require.EqualValues(t, sent, n, "and nothing is lost")
}
