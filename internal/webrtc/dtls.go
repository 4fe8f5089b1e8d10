package webrtc

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"

	"github.com/runnel-media/runnel/internal/dtlsmux"
)

// An association is a session's DTLS. pion makes the handshake; when it is done
// its connection is let go, so that no goroutine and no buffer stays.
type association struct {
	session *Session

	mu     sync.Mutex
	shake  *handshake    // while it goes on
	begun  bool          // a handshake has been
	closed bool          // there is to be none
	tail   *dtlsmux.Tail // after it
}

// feed takes a datagram of the peer's. Called in the goroutine that reads.
func (a *association) feed(d []byte) (ok bool) {
	a.mu.Lock()
	if a.shake != nil {
		defer a.mu.Unlock()
		return a.shake.Feed(d)
	}
	if a.tail == nil || a.closed {
		a.mu.Unlock()
		return false
	}
	answer, closed, ok := a.tail.Input(d)
	a.closed = closed
	if len(answer) > 0 {
		a.session.write(answer)
	}
	a.mu.Unlock()
	if closed {
		a.session.end(ErrHungUp)
	}
	return ok
}

// start begins the handshake, once, with the peer at addr.
func (a *association) start(addr net.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.begun && !a.closed {
		a.begun = true
		a.shake = newHandshake(a.session, addr)
		go a.run(a.shake)
	}
}

// shut says good-bye and ends the association.
func (a *association) shut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tail != nil && !a.closed {
		a.session.write(a.tail.Goodbye())
	}
	a.closed = true
	if a.shake != nil {
		a.shake.Close()
	}
}

// run makes the handshake and hands the keys to the session.
func (a *association) run(h *handshake) {
	tail, err := h.run()
	a.mu.Lock()
	a.shake, a.tail = nil, tail
	closed := a.closed
	if err == nil && !closed && h.final != nil {
		a.session.write(h.final) // now that what it lets the peer send is understood
	}
	a.mu.Unlock()
	switch {
	case err != nil:
		a.session.end(err)
	case !closed:
		a.session.connected()
	}
}

// A handshake is the net.PacketConn of pion's connection, which the port feeds.
type handshake struct {
	dtlsmux.Inbox
	session *Session

	mu    sync.Mutex
	muted bool   // pion says nothing any more; guarded by mu
	final []byte // the datagram with our Finished, which run's caller is to send; guarded by mu
}

func newHandshake(s *Session, addr net.Addr) *handshake {
	return &handshake{session: s, Inbox: dtlsmux.Inbox{From: addr}}
}

// suites are those of both roles: what every browser has.
var suites = []dtls.CipherSuiteID{
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
}

// profiles are ours, the best first: as DTLS server we choose.
var profiles = []dtls.SRTPProtectionProfile{
	dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80,
}

// run makes the handshake, after which the session has its keys.
func (h *handshake) run() (*dtlsmux.Tail, error) {
	s := h.session
	cert, err := s.transport.identity()
	if err != nil {
		return nil, err
	}
	verify := dtls.WithVerifyPeerCertificate(func(shown [][]byte, _ [][]*x509.Certificate) error {
		return s.peer.check(shown)
	})
	var conn *dtls.Conn
	if s.active {
		conn, err = dtls.ClientWithOptions(h, h.From,
			dtls.WithCertificates(*cert), dtls.WithCipherSuites(suites...), dtls.WithSRTPProtectionProfiles(profiles...),
			dtls.WithInsecureSkipVerify(true), verify, // the fingerprint is what counts
			dtls.WithLoggerFactory(dtlsmux.Silence{}), dtls.WithMTU(1200))
	} else {
		conn, err = dtls.ServerWithOptions(h, h.From,
			dtls.WithCertificates(*cert), dtls.WithCipherSuites(suites...), dtls.WithSRTPProtectionProfiles(profiles...),
			dtls.WithClientAuth(dtls.RequireAnyClientCert), verify,
			dtls.WithInsecureSkipVerifyHello(true), // ICE has proved the address
			dtls.WithLoggerFactory(dtlsmux.Silence{}), dtls.WithMTU(1200))
	}
	if err != nil {
		return nil, err
	}
	// It waits for pion's goroutines. Once muted, that it closes stays here.
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), or(s.transport.Setup, 15*time.Second))
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errors.New("webrtc: the handshake left no state")
	}
	if err := s.peer.check(state.PeerCertificates); err != nil { // as verify, whatever pion made of that
		return nil, err
	}
	profile, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return nil, errors.New("webrtc: the peer does not do SRTP")
	}
	h.mu.Lock()
	h.muted = true
	final := h.final
	h.mu.Unlock()
	tail, err := dtlsmux.NewTail(&state, final)
	if err != nil {
		return nil, err
	}
	c := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := c.ExtractSessionKeysFromDTLS(&state, s.active); err != nil {
		return nil, err
	}
	return tail, s.secure(&c)
}

// WriteTo sends to where ICE says. The datagram with our Finished is held back
// until the keys are where they are needed: what the peer sends then is heard.
func (h *handshake) WriteTo(b []byte, _ net.Addr) (int, error) {
	h.mu.Lock()
	hold := !h.session.active && dtlsmux.IsFinal(b)
	if hold {
		h.final = bytes.Clone(b)
	}
	hold = hold || h.muted
	h.mu.Unlock()
	if !hold {
		h.session.write(b)
	}
	return len(b), nil
}
