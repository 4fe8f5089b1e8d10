package dtlsmux

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/gob"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// settled is how old a handshake has to be before another ClientHello from its
// address may take its place, so that nobody has us sign as fast as he can
// send.
const settled = time.Second

// A handshake runs pion's one for a client that returned its cookie. It is the
// net.PacketConn of pion's connection: Input feeds it, Send gets what it
// writes.
type handshake struct {
	Inbox
	mux     *Mux
	remote  netip.AddrPort
	random  [32]byte // of the client
	begun   time.Time
	cookie  []byte // to be put in the place of pion's; nil: pion's own is used
	seqBase uint64 // of the record that brought the cookie
	conn    *dtls.Conn

	mu    sync.Mutex
	muted bool   // pion says nothing any more; guarded by mu
	final []byte // the datagram with our Finished, held back until the keys are ours; guarded by mu
}

var errCookieField = errors.New("dtlsmux: pion/dtls keeps its cookie elsewhere")

// cookieOf returns the cookie that a connection of pion's sent. pion makes it
// of random bytes and keeps it in an unexported field; there is no other way to
// tell it that the client has proved its address already. The slice is pion's
// own: what is written to it is what pion compares with.
func cookieOf(c *dtls.Conn) []byte {
	if !cookieReachable() {
		return nil
	}
	return reflect.ValueOf(c).Elem().FieldByName("state").FieldByName("cookie").Bytes()
}

// cookieReachable reports whether cookieOf knows this version of pion/dtls. If
// it does not, pion answers the first ClientHello itself, and handshakes are
// bounded by the caps alone.
func cookieReachable() bool {
	state, ok := reflect.TypeFor[dtls.Conn]().FieldByName("state")
	if !ok || state.Type.Kind() != reflect.Struct {
		return false
	}
	cookie, ok := state.Type.FieldByName("cookie")
	return ok && cookie.Type == reflect.TypeFor[[]byte]()
}

// newHandshake prepares the handshake of a ClientHello, r, which brings our
// cookie unless pion is to ask for its own.
func newHandshake(m *Mux, remote netip.AddrPort, r *record, hello *clientHello, now time.Time) (*handshake, error) {
	h := &handshake{mux: m, remote: remote, begun: now, seqBase: r.seq}
	h.From = net.UDPAddrFromAddrPort(remote)
	copy(h.random[:], hello.random)
	suites := []dtls.CipherSuiteID{
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	}
	if !hello.offers(uint16(suites[0]), uint16(suites[1])) {
		suites = []dtls.CipherSuiteID{
			dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		}
	}
	opts := []dtls.ServerOption{
		dtls.WithCipherSuites(suites...),
		dtls.WithMTU(m.mtu()),
		dtls.WithLoggerFactory(Silence{}),
		dtls.WithGetCertificate(func(i *dtls.ClientHelloInfo) (*tls.Certificate, error) {
			info := &tls.ClientHelloInfo{ServerName: i.ServerName, SupportedVersions: []uint16{tls.VersionTLS12}}
			for _, id := range i.CipherSuites {
				info.CipherSuites = append(info.CipherSuites, uint16(id))
			}
			return m.GetCertificate(info)
		}),
	}
	if len(m.NextProtos) > 0 {
		opts = append(opts, dtls.WithSupportedProtocols(m.NextProtos...))
	}
	if m.ClientAuth != tls.NoClientCert {
		opts = append(opts, dtls.WithClientAuth(dtls.ClientAuthType(m.ClientAuth)))
		if m.ClientCAs != nil {
			opts = append(opts, dtls.WithClientCAs(m.ClientCAs))
		}
	}
	var err error
	if h.conn, err = dtls.ServerWithOptions(h, h.From, opts...); err != nil {
		return nil, err
	}
	if len(hello.cookie) > 0 {
		h.cookie = bytes.Clone(hello.cookie)
		h.Feed(hello.appendFirst(nil))
	}
	h.Feed(r.raw)
	return h, nil
}

// run does the handshake and returns the connection that it made.
func (h *handshake) run(timeout time.Duration) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// Once muted, what pion has to say at its end (that it closes) stays here.
	defer h.conn.Close()
	err := h.conn.HandshakeContext(ctx)
	h.mu.Lock()
	h.muted = true
	final := h.final
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	state, ok := h.conn.ConnectionState()
	if !ok {
		return nil, errors.New("dtlsmux: the handshake left no state")
	}
	c, err := takeOver(&state)
	if err != nil {
		return nil, err
	}
	c.mux, c.remote, c.random, c.final = h.mux, h.remote, h.random, final
	return c, nil
}

// stop ends the handshake.
func (h *handshake) stop() { h.Close() }

// exported is what we need of a State of pion's in its exported form, by
// the names that the fields have there.
type exported struct {
	LocalRandom, RemoteRandom [32]byte
	CipherSuiteID             uint16
	MasterSecret              []byte
	SequenceNumber            uint64
	PeerCertificates          [][]byte
	IsClient                  bool
	NegotiatedProtocol        string
}

// takeOver makes a Conn of the state that pion's connection has after the
// handshake. That connection must not send any more.
func takeOver(state *dtls.State) (*Conn, error) {
	x, in, out, err := halves(state)
	if err != nil {
		return nil, err
	}
	c := &Conn{suite: x.CipherSuiteID, alpn: x.NegotiatedProtocol, certs: x.PeerCertificates, in: in, out: out}
	c.seq.Store(x.SequenceNumber)
	return c, nil
}

// halves returns the two directions of the connection that pion has made.
func halves(state *dtls.State) (x exported, in, out half, err error) {
	b, err := state.MarshalBinary()
	if err != nil {
		return x, in, out, err
	}
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&x); err != nil {
		return x, in, out, err
	}
	newHash, keyLen := hashAndKey(x.CipherSuiteID)
	if newHash == nil || len(x.MasterSecret) == 0 {
		return x, in, out, fmt.Errorf("dtlsmux: cipher suite %04x", x.CipherSuiteID)
	}
	client, server := x.RemoteRandom, x.LocalRandom
	if x.IsClient {
		client, server = server, client
	}
	keys, err := prf.GenerateEncryptionKeys(x.MasterSecret, client[:], server[:], 0, keyLen, 4, newHash)
	if err != nil {
		return x, in, out, err
	}
	if in, err = newHalf(keys.ClientWriteKey, keys.ClientWriteIV); err != nil {
		return x, in, out, err
	}
	if out, err = newHalf(keys.ServerWriteKey, keys.ServerWriteIV); err != nil {
		return x, in, out, err
	}
	if x.IsClient {
		in, out = out, in
	}
	return x, in, out, nil
}

func hashAndKey(suite uint16) (func() hash.Hash, int) {
	switch dtls.CipherSuiteID(suite) {
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return sha256.New, 16
	case dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return sha512.New384, 32
	}
	return nil, 0
}

// WriteTo takes a datagram of pion's. Its HelloVerifyRequest goes nowhere:
// the client has had ours, and that cookie takes the place of pion's. The
// datagram with our Finished is held back until run is done, so that no data
// can come before the keys are where they are needed.
func (h *handshake) WriteTo(b []byte, _ net.Addr) (int, error) {
	h.mu.Lock()
	if h.muted {
		h.mu.Unlock()
		return len(b), nil
	}
	out := bytes.Clone(b)
	for rest := out; len(rest) > 0; {
		r, next, ok := cutRecord(rest)
		if !ok {
			break
		}
		rest = next
		if r.epoch == 0 && r.typ == typeHandshake && h.cookie != nil && len(r.body()) > 0 && r.body()[0] == msgHelloVerify {
			h.mu.Unlock()
			pions := cookieOf(h.conn) // pion's goroutine is in here: nobody else looks at it
			if len(pions) != len(h.cookie) {
				return 0, errCookieField
			}
			copy(pions, h.cookie)
			return len(b), nil
		}
		if r.epoch == 0 && h.cookie != nil {
			// pion's HelloVerifyRequest is number 0, what follows it is to
			// have the number of the ClientHello and those after it. Without
			// one, number 0 is an alert and the last word.
			r.setSeq(h.seqBase + max(r.seq, 1) - 1)
		}
		if r.typ == typeChangeCipherSpec {
			h.final = out
		}
	}
	hold := h.final != nil && &h.final[0] == &out[0]
	h.mu.Unlock()
	if hold {
		return len(b), nil
	}
	if err := h.mux.Send(out, h.remote); err != nil {
		h.mux.debug("DTLS handshake not sent", h.remote, err) // the client asks again
	}
	return len(b), nil
}

// Close ends reads and what is written from then on.
func (h *handshake) Close() error {
	h.mu.Lock()
	h.muted = true
	h.mu.Unlock()
	return h.Inbox.Close()
}
