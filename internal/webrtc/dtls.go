package webrtc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"github.com/pion/srtp/v3"
)

// An association is a session's DTLS: the net.PacketConn of pion's connection,
// which the port feeds.
type association struct {
	session *Session
	begin   sync.Once

	mu      sync.Mutex
	wake    *sync.Cond
	queue   [][]byte
	expired bool // the read deadline is in the past
	closed  bool
	conn    *dtls.Conn
}

const maxQueued = 32 // records of a peer that pion has not read yet

func newAssociation(s *Session) *association {
	a := &association{session: s}
	a.wake = sync.NewCond(&a.mu)
	return a
}

// feed gives pion a copy of a datagram.
func (a *association) feed(d []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.queue) >= maxQueued {
		return false
	}
	a.queue = append(a.queue, bytes.Clone(d))
	a.wake.Broadcast()
	return true
}

// start begins the handshake, once.
func (a *association) start() {
	a.begin.Do(func() { go a.run() })
}

// suites are those of both roles: what every browser has.
var suites = []dtls.CipherSuiteID{
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
}

// profiles are ours, the best first: as DTLS server we choose.
var profiles = []dtls.SRTPProtectionProfile{
	dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80,
}

// run makes the handshake, hands the keys to the session, and waits for the end.
func (a *association) run() {
	s := a.session
	err := a.handshake()
	if err == nil {
		s.connected()
		err = a.wait()
	}
	s.end(err)
}

func (a *association) handshake() error {
	s := a.session
	cert, err := s.transport.identity()
	if err != nil {
		return err
	}
	addr := net.UDPAddrFromAddrPort(s.path.Load().addr)
	verify := func(certificates [][]byte) error { return s.offer.Fingerprint.check(certificates) }
	var conn *dtls.Conn
	if s.active {
		conn, err = dtls.ClientWithOptions(a, addr,
			dtls.WithCertificates(*cert), dtls.WithCipherSuites(suites...), dtls.WithSRTPProtectionProfiles(profiles...),
			dtls.WithInsecureSkipVerify(true), // the fingerprint is what counts, and is checked below
			dtls.WithLoggerFactory(silence{}), dtls.WithMTU(1200))
	} else {
		conn, err = dtls.ServerWithOptions(a, addr,
			dtls.WithCertificates(*cert), dtls.WithCipherSuites(suites...), dtls.WithSRTPProtectionProfiles(profiles...),
			dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(true), // ICE has proved the address
			dtls.WithLoggerFactory(silence{}), dtls.WithMTU(1200))
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.conn = conn
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), or(s.transport.Setup, 15*time.Second))
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return errors.New("webrtc: the handshake left no state")
	}
	if err := verify(state.PeerCertificates); err != nil {
		return err
	}
	profile, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return errors.New("webrtc: the peer does not do SRTP")
	}
	c := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := c.ExtractSessionKeysFromDTLS(&state, s.active); err != nil {
		return err
	}
	return s.secure(&c)
}

// wait returns when the peer hangs up. Application data is not spoken here.
func (a *association) wait() error {
	buf := make([]byte, maxDatagram)
	for {
		if _, err := a.conn.Read(buf); errors.Is(err, io.EOF) {
			return ErrHungUp
		} else if err != nil {
			return err
		}
	}
}

// ReadFrom is pion's.
func (a *association) ReadFrom(b []byte) (int, net.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		switch {
		case a.closed:
			return 0, nil, net.ErrClosed
		case a.expired:
			return 0, nil, os.ErrDeadlineExceeded
		case len(a.queue) > 0:
			n := copy(b, a.queue[0])
			a.queue[0] = nil
			a.queue = a.queue[1:]
			return n, net.UDPAddrFromAddrPort(a.session.path.Load().addr), nil
		}
		a.wake.Wait()
	}
}

// WriteTo sends to where ICE says.
func (a *association) WriteTo(b []byte, _ net.Addr) (int, error) {
	to := a.session.path.Load()
	_ = to.port.conn.WriteTo(b, to.addr) // lost as on a network
	return len(b), nil
}

// Close ends pion's reads.
func (a *association) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.queue = nil
	a.wake.Broadcast()
	return nil
}

// shut says good-bye and ends the association.
func (a *association) shut() {
	a.begin.Do(func() {}) // nothing is to start any more
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
	a.Close()
}

// SetReadDeadline knows only no deadline and one in the past, which is how pion
// ends a read.
func (a *association) SetReadDeadline(t time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expired = !t.IsZero() && !t.After(time.Now())
	a.wake.Broadcast()
	return nil
}

// SetDeadline is SetReadDeadline: writes do not block.
func (a *association) SetDeadline(t time.Time) error { return a.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes do not block.
func (a *association) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is not known to a socket of all addresses.
func (a *association) LocalAddr() net.Addr { return &net.UDPAddr{} }

// silence keeps pion/dtls from logging: what it has to say it also returns.
type silence struct{}

func (silence) NewLogger(string) logging.LeveledLogger {
	return logging.NewDefaultLeveledLoggerForScope("", logging.LogLevelDisabled, io.Discard)
}
