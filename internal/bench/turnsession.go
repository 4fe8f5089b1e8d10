package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// How a TURN client reaches its server.
const (
	viaUDP  = "udp"
	viaTCP  = "tcp"
	viaTLS  = "tls"
	viaDTLS = "dtls"
)

const (
	turnUser     = "bench"
	turnPassword = "bench-password"
	turnRealm    = "bench.example"
	turnChannel  = 0x4000
)

// A turnSession is a client's allocation with one channel: what a browser has
// once it talks through a relay, without what would cost the load generator.
type turnSession struct {
	conn   net.Conn
	via    string
	relay  netip.AddrPort
	key    *stunwire.Key
	nonce  string
	realm  string
	buf    []byte
	frames frameReader // TCP and TLS
	pack   *packer     // TCP and TLS
}

// dialTurn connects a client, from the given local address if the transport
// keeps its own socket.
func dialTurn(server, via string, local netip.Addr, timeout time.Duration) (*turnSession, error) {
	s := &turnSession{via: via, buf: make([]byte, 2048)}
	d := net.Dialer{Timeout: timeout}
	switch via {
	case viaUDP, viaDTLS:
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(server)))
		if err != nil {
			return nil, err
		}
		_ = c.SetReadBuffer(1 << 20) // losses are to be the server's
		s.conn = c
		if via == viaUDP {
			return s, nil
		}
		dc, err := dtls.ClientWithOptions(asPacketConn{c}, c.RemoteAddr(), dtls.WithInsecureSkipVerify(true))
		if err != nil {
			c.Close()
			return nil, err
		}
		s.conn = dc
		return s, nil
	case viaTCP, viaTLS:
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		c, err := d.Dial("tcp", server)
		if err != nil {
			return nil, err
		}
		s.pack = &packer{Conn: c}
		s.conn = s.pack
		if via == viaTLS {
			s.conn = tls.Client(s.pack, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // a loopback server with a certificate of this minute
		}
		s.frames.r = s.conn
		return s, nil
	}
	return nil, fmt.Errorf("bench: no transport %q", via)
}

// asPacketConn gives pion/dtls a connected socket as the PacketConn that it
// asks for.
type asPacketConn struct{ *net.UDPConn }

func (c asPacketConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// A packer gathers writes until it is told to send, so that the TLS records of
// a burst leave together.
type packer struct {
	net.Conn
	held []byte
	hold bool
}

func (p *packer) Write(b []byte) (int, error) {
	if !p.hold {
		return p.Conn.Write(b)
	}
	p.held = append(p.held, b...)
	return len(b), nil
}

func (p *packer) send() error {
	_, err := p.Conn.Write(p.held)
	p.held = p.held[:0]
	return err
}

// A frameReader takes the messages of a stream apart.
type frameReader struct {
	r    io.Reader
	buf  [64 << 10]byte
	a, b int // buf[a:b] has been read and not returned
}

// next returns the next message. It is good until the next call.
func (f *frameReader) next() ([]byte, error) {
	for {
		if have := f.buf[f.a:f.b]; len(have) >= 4 {
			total, padded, err := stunwire.FrameSize(have)
			switch {
			case err != nil:
				return nil, err
			case padded > len(f.buf):
				return nil, errors.New("bench: a message of a stream is too long")
			case len(have) >= padded:
				f.a += padded
				return have[:total], nil
			}
		}
		if f.a > 0 {
			f.b = copy(f.buf[:], f.buf[f.a:f.b])
			f.a = 0
		}
		n, err := f.r.Read(f.buf[f.b:])
		f.b += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

func (s *turnSession) close() { s.conn.Close() }

// read returns the next message, or ChannelData, of the server.
func (s *turnSession) read() ([]byte, error) {
	if s.pack != nil {
		return s.frames.next()
	}
	n, err := s.conn.Read(s.buf)
	return s.buf[:n], err
}

// request sends a request that add has completed and returns the answer.
func (s *turnSession) request(method stunwire.Method, add func(b *stunwire.Builder)) (*stunwire.Message, error) {
	var id stunwire.TxID
	_, _ = rand.Read(id[:]) // it does not fail
	b := stunwire.Build(nil, stunwire.NewType(method, stunwire.Request), id)
	add(&b)
	if s.key != nil {
		b.AddString(stunwire.AttrUsername, turnUser)
		b.AddString(stunwire.AttrRealm, s.realm)
		b.AddString(stunwire.AttrNonce, s.nonce)
		b.AddIntegrity(s.key)
	}
	tries, wait := 7, 500*time.Millisecond
	if s.pack != nil {
		tries, wait = 1, 10*time.Second
	}
	for range tries {
		if _, err := s.conn.Write(b.Bytes()); err != nil {
			return nil, err
		}
		if err := s.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return nil, err
		}
		for {
			p, err := s.read()
			var e net.Error
			if errors.As(err, &e) && e.Timeout() {
				break
			}
			if err != nil {
				return nil, err
			}
			m := new(stunwire.Message)
			if m.Parse(p) == nil && m.TxID == id {
				return m, s.conn.SetReadDeadline(time.Time{})
			}
		}
	}
	return nil, fmt.Errorf("bench: no answer to method %#x", uint16(method))
}

// allocate makes the allocation, after the refusal that tells the nonce.
func (s *turnSession) allocate() error {
	for range 3 {
		m, err := s.request(stunwire.Allocate, func(b *stunwire.Builder) {
			b.Add(stunwire.AttrRequestedTransport, []byte{17, 0, 0, 0})
		})
		if err != nil {
			return err
		}
		if m.Type.Class() == stunwire.Success {
			v, _ := m.Get(stunwire.AttrXORRelayedAddress)
			s.relay, err = m.XORAddr(v)
			return err
		}
		code := errorOf(m)
		if code != 401 && code != 438 {
			return fmt.Errorf("bench: Allocate: error %d", code)
		}
		realm, _ := m.Get(stunwire.AttrRealm)
		nonce, _ := m.Get(stunwire.AttrNonce)
		s.realm, s.nonce = string(realm), string(nonce)
		s.key = stunwire.NewKey(stunwire.LongTermKey(turnUser, s.realm, turnPassword, stunwire.MD5))
	}
	return errors.New("bench: Allocate: the server does not take the credentials")
}

// bind binds turnChannel to the peer.
func (s *turnSession) bind(peer netip.AddrPort) error {
	m, err := s.request(stunwire.ChannelBind, func(b *stunwire.Builder) {
		b.AddUint32(stunwire.AttrChannelNumber, turnChannel<<16)
		b.AddXORAddr(stunwire.AttrXORPeerAddress, peer)
	})
	if err == nil && m.Type.Class() != stunwire.Success {
		err = fmt.Errorf("bench: ChannelBind: error %d", errorOf(m))
	}
	return err
}

func errorOf(m *stunwire.Message) int {
	v, _ := m.Get(stunwire.AttrErrorCode)
	code, _, _ := stunwire.ErrorCode(v)
	return code
}

// channelData makes a ChannelData message of size bytes of data at b and
// returns the data and what follows the message, with padding for a stream.
func channelData(b []byte, size int, stream bool) (data, rest []byte) {
	binary.BigEndian.PutUint16(b, turnChannel)
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	n := 4 + size
	if stream {
		n = (n + 3) &^ 3
	}
	return b[4 : 4+size], b[n:]
}
