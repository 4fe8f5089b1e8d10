package turn

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A scriptServer is the other end of a client's datagrams, in memory: it
// answers every message that it gets by a function of the test.
type scriptServer struct {
	mu      sync.Mutex
	conns   []*scriptConn
	dialed  []string
	got     []scriptMessage
	started time.Time
	answer  func(s *scriptServer, m *stunwire.Message) []byte // nil: silence

	key     *stunwire.Key // once a request was authenticated
	nonce   string
	bound   map[uint16]netip.AddrPort
	sha256  bool
	silence bool
}

// A scriptMessage is what the server got, and when.
type scriptMessage struct {
	at     time.Duration
	method stunwire.Method // 0: ChannelData
	raw    []byte
}

// A scriptConn is the client's end.
type scriptConn struct {
	s    *scriptServer
	in   chan []byte
	once sync.Once
	done chan struct{}
}

func (s *scriptServer) dial(_ context.Context, _, address string) (net.Conn, error) {
	c := &scriptConn{s: s, in: make(chan []byte, 1000), done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started.IsZero() {
		s.started = time.Now()
	}
	s.conns, s.dialed = append(s.conns, c), append(s.dialed, address)
	return c, nil
}

func (c *scriptConn) Read(b []byte) (int, error) {
	select {
	case p := <-c.in:
		return copy(b, p), nil
	case <-c.done:
		return 0, net.ErrClosed
	}
}

func (c *scriptConn) Write(b []byte) (int, error) {
	select {
	case <-c.done:
		return 0, net.ErrClosed
	default:
	}
	c.s.take(c, append([]byte(nil), b...))
	return len(b), nil
}

func (c *scriptConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *scriptConn) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}
}
func (c *scriptConn) RemoteAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 3478}
}
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

func (s *scriptServer) take(c *scriptConn, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := scriptMessage{at: time.Since(s.started), raw: b}
	if _, _, ok := stunwire.ChannelData(b); ok {
		s.got = append(s.got, e)
		return
	}
	var m stunwire.Message
	if err := m.Parse(b); err != nil {
		panic(err)
	}
	e.method = m.Type.Method()
	s.got = append(s.got, e)
	if s.silence || m.Type.Class() != stunwire.Request {
		return
	}
	answer := s.answer
	if answer == nil {
		answer = (*scriptServer).serve
	}
	if r := answer(s, &m); r != nil {
		c.in <- r
	}
}

// scriptPassword is the credential of the tests: user "user", realm "realm".
const scriptPassword = "pass"

// serve is a server as it should be, for one client.
func (s *scriptServer) serve(m *stunwire.Message) []byte {
	if s.nonce == "" {
		s.nonce = "nonce"
	}
	nonce, _ := m.Get(stunwire.AttrNonce)
	algorithm := stunwire.MD5
	if s.sha256 {
		algorithm = stunwire.SHA256
	}
	s.key = stunwire.NewKey(stunwire.LongTermKey("user", "realm", scriptPassword, algorithm))
	switch {
	case nonce == nil:
		return s.refuse(m, 401)
	case s.sha256 && !m.CheckIntegritySHA256(s.key) || !s.sha256 && !m.CheckIntegrity(s.key):
		return s.refuse(m, 401)
	case string(nonce) != s.nonce:
		return s.refuse(m, 438)
	}
	return s.succeed(m, func(b *stunwire.Builder) {
		switch m.Type.Method() {
		case stunwire.Allocate:
			b.AddXORAddr(stunwire.AttrXORRelayedAddress, netip.MustParseAddrPort("198.51.100.1:50000"))
			b.AddXORAddr(stunwire.AttrXORMappedAddress, netip.MustParseAddrPort("203.0.113.9:4000"))
			b.AddUint32(stunwire.AttrLifetime, 600)
			if m.Has(stunwire.AttrMobilityTicket) {
				b.AddString(stunwire.AttrMobilityTicket, "ticket 1")
			}
		case stunwire.Refresh:
			life, ok := m.Uint32(stunwire.AttrLifetime)
			if !ok {
				life = 600
			}
			b.AddUint32(stunwire.AttrLifetime, life)
			if v, ok := m.Get(stunwire.AttrMobilityTicket); ok {
				b.AddString(stunwire.AttrMobilityTicket, string(v[:7])+string(v[7]+1))
			}
		case stunwire.ChannelBind:
			number, _ := m.Uint32(stunwire.AttrChannelNumber)
			v, _ := m.Get(stunwire.AttrXORPeerAddress)
			if s.bound == nil {
				s.bound = make(map[uint16]netip.AddrPort)
			}
			s.bound[uint16(number>>16)], _ = m.XORAddr(v)
		}
	})
}

func (s *scriptServer) succeed(m *stunwire.Message, add func(*stunwire.Builder)) []byte {
	b := stunwire.Build(nil, stunwire.NewType(m.Type.Method(), stunwire.Success), m.TxID)
	add(&b)
	if s.sha256 {
		b.AddIntegritySHA256(s.key)
	} else {
		b.AddIntegrity(s.key)
	}
	return b.Bytes()
}

func (s *scriptServer) refuse(m *stunwire.Message, code int) []byte {
	b := stunwire.Build(nil, stunwire.NewType(m.Type.Method(), stunwire.Error), m.TxID)
	b.AddError(code, "")
	if code == 401 || code == 438 {
		b.AddString(stunwire.AttrRealm, "realm")
		b.AddString(stunwire.AttrNonce, s.nonce)
		if s.sha256 {
			b.Add(stunwire.AttrPasswordAlgorithms, []byte{0, 2, 0, 0, 0, 1, 0, 0})
		}
	}
	return b.Bytes()
}

// times returns when messages of the method came, in whole milliseconds.
func (s *scriptServer) times(method stunwire.Method) (at []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.got {
		if m.method == method {
			at = append(at, int(m.at.Milliseconds()))
		}
	}
	return at
}

// last returns the last message of the method.
func (s *scriptServer) last(t *testing.T, method stunwire.Method) *stunwire.Message {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.got) - 1; i >= 0; i-- {
		if s.got[i].method == method {
			var m stunwire.Message
			require.NoError(t, m.Parse(s.got[i].raw))
			return &m
		}
	}
	t.Fatalf("no %v came", method)
	return nil
}

// send sends to the client's newest connection.
func (s *scriptServer) send(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[len(s.conns)-1].in <- b
}

func (s *scriptServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *scriptServer) client() *Client {
	return &Client{Server: "turn.example.org", Username: "user", Password: scriptPassword, Dial: s.dial}
}

var scriptPeer = netip.MustParseAddrPort("192.0.2.77:1234")
