package turn

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// A rawClient speaks STUN and ChannelData to a server, without manners: it
// sends what a test wants.
type rawClient struct {
	t      *testing.T
	f      *fixture // may be nil
	conn   net.Conn
	stream bool

	user, pass   string
	realm, nonce string
	key          *stunwire.Key
	sha256       bool          // MESSAGE-INTEGRITY-SHA256, and that algorithm
	algorithms   []byte        // PASSWORD-ALGORITHMS as offered
	fingerprint  bool          //
	early        [][]byte      // what came while an answer was waited for
	last         stunwire.TxID // of the last request
	raw          []byte        // the last request
}

const answerTimeout = 20 * time.Second

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

// read returns the next message, without padding; nil: none came in time.
func (c *rawClient) read(wait time.Duration) []byte {
	c.t.Helper()
	require.NoError(c.t, c.conn.SetReadDeadline(time.Now().Add(wait)))
	if !c.stream {
		b := make([]byte, 1<<16)
		n, err := c.conn.Read(b)
		if err != nil {
			return nil
		}
		return b[:n]
	}
	head := make([]byte, 4, 1<<16)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return nil
	}
	total, padded, err := stunwire.FrameSize(head)
	require.NoError(c.t, err)
	b := head[:padded]
	_, err = io.ReadFull(c.conn, b[4:])
	require.NoError(c.t, err)
	require.Equal(c.t, make([]byte, padded-total), b[total:], "padding is zero")
	return b[:total]
}

// next returns the next message that is no answer.
func (c *rawClient) next(wait time.Duration) []byte {
	c.t.Helper()
	if len(c.early) > 0 {
		b := c.early[0]
		c.early = c.early[1:]
		return b
	}
	return c.read(wait)
}

func (c *rawClient) build(method stunwire.Method, add func(*stunwire.Builder)) []byte {
	rand.Read(c.last[:])
	b := stunwire.Build(nil, stunwire.NewType(method, stunwire.Request), c.last)
	if add != nil {
		add(&b)
	}
	if c.key != nil {
		b.AddString(stunwire.AttrUsername, c.user)
		if c.realm != "" {
			b.AddString(stunwire.AttrRealm, c.realm)
			b.AddString(stunwire.AttrNonce, c.nonce)
		}
		if c.sha256 {
			b.Add(stunwire.AttrPasswordAlgorithms, c.algorithms)
			b.Add(stunwire.AttrPasswordAlgorithm, []byte{0, 2, 0, 0})
			b.AddIntegritySHA256(c.key)
		} else {
			b.AddIntegrity(c.key)
		}
	}
	if c.fingerprint {
		b.AddFingerprint()
	}
	require.NoError(c.t, b.Err())
	return b.Bytes()
}

// exchange sends a request as it is and returns the answer; nil: there was none.
func (c *rawClient) exchange(b []byte, wait time.Duration) *stunwire.Message {
	c.t.Helper()
	c.raw = b
	c.write(b)
	end := time.Now().Add(wait)
	for time.Now().Before(end) {
		in := c.read(time.Until(end))
		if in == nil {
			return nil
		}
		m := new(stunwire.Message)
		if len(in) >= stunwire.HeaderSize && m.Parse(in) == nil && string(m.TxID[:]) == string(b[8:20]) {
			return m
		}
		c.early = append(c.early, in)
	}
	return nil
}

// do sends a request and returns the answer.
func (c *rawClient) do(method stunwire.Method, add func(*stunwire.Builder)) *stunwire.Message {
	c.t.Helper()
	m := c.exchange(c.build(method, add), answerTimeout)
	require.NotNil(c.t, m, "no answer to %v: %v", method, c.drops())
	require.Equal(c.t, method, m.Type.Method())
	if c.key != nil && code(m) != 401 && code(m) != 438 {
		require.True(c.t, intact(m, c.key), "integrity of the answer to %v, code %d", method, code(m))
		require.Equal(c.t, c.sha256, m.Has(stunwire.AttrMessageIntegritySHA256))
	}
	if c.fingerprint {
		present, valid := m.Fingerprint()
		require.True(c.t, present && valid)
	}
	return m
}

// code returns the error code of an answer, 0 for a success.
func code(m *stunwire.Message) int {
	v, ok := m.Get(stunwire.AttrErrorCode)
	if !ok {
		return 0
	}
	n, _, _ := stunwire.ErrorCode(v)
	return n
}

// login takes realm and nonce from a 401 and has requests signed from now on.
func (c *rawClient) login() {
	c.t.Helper()
	c.key = nil
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	require.Equal(c.t, 401, code(m))
	c.adopt(m)
}

// adopt takes realm and nonce from a 401 or 438.
func (c *rawClient) adopt(m *stunwire.Message) {
	realm, _ := m.Get(stunwire.AttrRealm)
	nonce, _ := m.Get(stunwire.AttrNonce)
	c.algorithms, _ = m.Get(stunwire.AttrPasswordAlgorithms)
	c.realm, c.nonce = string(realm), string(nonce)
	alg := stunwire.MD5
	if c.sha256 {
		alg = stunwire.SHA256
	}
	c.key = stunwire.NewKey(stunwire.LongTermKey(c.user, c.realm, c.pass, alg))
}

func transportAttr(protocol byte) func(*stunwire.Builder) {
	return func(b *stunwire.Builder) { b.Add(stunwire.AttrRequestedTransport, []byte{protocol, 0, 0, 0}) }
}

// with joins what several functions add.
func with(list ...func(*stunwire.Builder)) func(*stunwire.Builder) {
	return func(b *stunwire.Builder) {
		for _, f := range list {
			f(b)
		}
	}
}

func attr(a stunwire.Attr, v ...byte) func(*stunwire.Builder) {
	return func(b *stunwire.Builder) { b.Add(a, v) }
}

func peerAttr(to netip.AddrPort) func(*stunwire.Builder) {
	return func(b *stunwire.Builder) { b.AddXORAddr(stunwire.AttrXORPeerAddress, to) }
}

func lifetimeAttr(seconds uint32) func(*stunwire.Builder) {
	return func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrLifetime, seconds) }
}

func channelAttr(number uint16) func(*stunwire.Builder) {
	return func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrChannelNumber, uint32(number)<<16) }
}

// allocate logs in and makes an allocation for UDP.
func (c *rawClient) allocate(add ...func(*stunwire.Builder)) *stunwire.Message {
	c.t.Helper()
	c.login()
	m := c.do(stunwire.Allocate, with(append(add, transportAttr(protocolUDP))...))
	require.Equal(c.t, 0, code(m), "Allocate")
	return m
}

// relayed returns the relayed addresses of an Allocate's answer.
func relayed(t *testing.T, m *stunwire.Message) (list []netip.AddrPort) {
	t.Helper()
	for a, v := range m.Each {
		if a == stunwire.AttrXORRelayedAddress {
			ap, err := m.XORAddr(v)
			require.NoError(t, err)
			list = append(list, ap)
		}
	}
	require.NotEmpty(t, list)
	return list
}

func lifetime(t *testing.T, m *stunwire.Message) uint32 {
	t.Helper()
	n, ok := m.Uint32(stunwire.AttrLifetime)
	require.True(t, ok)
	return n
}

func (c *rawClient) permit(to netip.AddrPort) int {
	c.t.Helper()
	return code(c.do(stunwire.CreatePermission, peerAttr(to)))
}

func (c *rawClient) bind(number uint16, to netip.AddrPort) int {
	c.t.Helper()
	return code(c.do(stunwire.ChannelBind, with(channelAttr(number), peerAttr(to))))
}

func (c *rawClient) refresh(seconds uint32) *stunwire.Message {
	c.t.Helper()
	return c.do(stunwire.Refresh, lifetimeAttr(seconds))
}

// channel sends ChannelData.
func (c *rawClient) channel(number uint16, data string) {
	c.t.Helper()
	b := append(stunwire.AppendChannelHeader(nil, number, len(data)), data...)
	for c.stream && len(b)&3 != 0 {
		b = append(b, 0)
	}
	c.write(b)
}

// indicate sends a Send indication.
func (c *rawClient) indicate(to netip.AddrPort, data string, add ...func(*stunwire.Builder)) {
	c.t.Helper()
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Send, stunwire.Indication), txID())
	b.AddXORAddr(stunwire.AttrXORPeerAddress, to)
	b.AddString(stunwire.AttrData, data)
	with(add...)(&b)
	c.write(b.Bytes())
}

// data reads ChannelData, or a Data indication, whose number is 0.
func (c *rawClient) data(wait time.Duration) (number uint16, from netip.AddrPort, data string) {
	c.t.Helper()
	b := c.next(wait)
	if b == nil {
		return 0, netip.AddrPort{}, ""
	}
	if number, data, ok := stunwire.ChannelData(b); ok {
		return number, netip.AddrPort{}, string(data)
	}
	var m stunwire.Message
	require.NoError(c.t, m.Parse(b))
	require.Equal(c.t, stunwire.NewType(stunwire.Data, stunwire.Indication), m.Type)
	from, ok := peer(&m)
	require.True(c.t, ok)
	v, _ := m.Get(stunwire.AttrData)
	return 0, from, string(v)
}

// A fixture is a server on loopback and what a test needs of it.
type fixture struct {
	t      *testing.T
	server *Server
	udp    netip.AddrPort
	tcp    netip.AddrPort
}

var (
	loopback  = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
)

// users is an Authorizer of plain passwords.
func users(list map[string]string) auth.Authorizer {
	return auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if p, ok := list[r.User]; ok && r.Proof != nil && r.Proof(auth.Secret{Plain: p}) {
			return &auth.Grant{User: r.User}, nil
		}
		return nil, auth.ErrDenied
	})
}

var alice = map[string]string{"alice": "wonder", "bob": "builder"}

// start runs a server with alice and bob that relays to loopback. change may
// alter it, and the policy, before.
func start(t *testing.T, change func(*Server, *Policy)) *fixture {
	t.Helper()
	f := &fixture{t: t, server: &Server{
		Realm: "test.example", Auth: users(alice),
		Relays: &RelayPorts{Addrs: []RelayAddr{{Listen: loopback}, {Listen: loopback6}}},
	}}
	p := &Policy{Peers: PeerPolicy{AllowLoopback: true}, UnauthenticatedRate: -1}
	if change != nil {
		change(f.server, p)
	}
	f.server.SetPolicy(p)
	f.server.init()
	pcs, ln := listenOnePort(t)
	f.udp, f.tcp = addrPortOf(pcs[0].LocalAddr()), addrPortOf(ln.Addr())
	var done sync.WaitGroup
	for _, pc := range pcs {
		done.Go(func() { f.check(f.server.ServePacket(pc)) })
	}
	done.Go(func() { f.check(f.server.Serve(ln)) })
	t.Cleanup(func() {
		f.check(f.server.Close())
		done.Wait()
	})
	return f
}

// listenOnePort listens for UDP and TCP at the same port, as servers do. No peer
// of a test can have it: with two ports, a TCP peer whose port the system drew
// like that of the UDP sockets would be refused as the server itself.
func listenOnePort(t *testing.T) ([]net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 100 {
		ln, failed := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, failed)
		var pcs []net.PacketConn
		if pcs, err = ListenPackets(context.Background(), "udp", ln.Addr().String(), 2); err == nil {
			return pcs, ln
		}
		require.NoError(t, ln.Close())
	}
	require.NoError(t, err)
	return nil, nil
}

func (f *fixture) check(err error) {
	if err != nil && err != ErrServerClosed {
		f.t.Errorf("serve: %v", err)
	}
}

// client connects alice by UDP.
func (f *fixture) client() *rawClient { return f.dial("udp", f.udp) }

// dialTCP connects alice by TCP.
func (f *fixture) dialTCP() *rawClient { return f.dial("tcp", f.tcp) }

func (f *fixture) dial(network string, to netip.AddrPort) *rawClient {
	f.t.Helper()
	conn, err := net.Dial(network, to.String())
	require.NoError(f.t, err)
	return f.over(conn, network == "tcp")
}

func (f *fixture) over(conn net.Conn, stream bool) *rawClient {
	f.t.Cleanup(func() { _ = conn.Close() })
	return &rawClient{t: f.t, f: f, conn: conn, stream: stream, user: "alice", pass: "wonder"}
}

func (c *rawClient) local() netip.AddrPort { return addrPortOf(c.conn.LocalAddr()) }

// A testPeer is a UDP socket that clients exchange data with.
type testPeer struct {
	t    *testing.T
	conn *net.UDPConn
	addr netip.AddrPort
}

func newPeer(t *testing.T, ip netip.Addr) *testPeer {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &testPeer{t, conn, addrPortOf(conn.LocalAddr())}
}

func (p *testPeer) read(wait time.Duration) (string, netip.AddrPort) {
	p.t.Helper()
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(wait)))
	b := make([]byte, 1<<16)
	n, from, err := p.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		return "", netip.AddrPort{}
	}
	return string(b[:n]), canonical(from)
}

func (p *testPeer) write(to netip.AddrPort, data string) {
	p.t.Helper()
	_, err := p.conn.WriteToUDPAddrPort([]byte(data), to)
	require.NoError(p.t, err)
}

// one returns the only allocation there is.
func (f *fixture) one() *Allocation {
	f.t.Helper()
	var list []*Allocation
	for a := range f.server.Allocations() {
		list = append(list, a)
	}
	require.Len(f.t, list, 1)
	return list[0]
}

// eventually waits until ok.
func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	require.Eventually(t, ok, 30*time.Second, 2*time.Millisecond, what)
}

const nothing = 150 * time.Millisecond // to wait for what is not to come

// certificate returns a TLS configuration of a server, self-signed.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "turn.example")}}
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

func (c *rawClient) drops() map[string]uint64 {
	if c.f == nil {
		return nil
	}
	return c.f.server.Stats().Drops
}
