package webrtc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/dtlsmux"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// patience is how long anything may take that happens at once on an idle machine.
const patience = 20 * time.Second

// start serves a Transport on loopback.
func start(t *testing.T, tr *Transport) *Transport {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- tr.ServePacket(pc) }()
	t.Cleanup(func() {
		tr.Close()
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
	require.Eventually(t, func() bool { _, err := tr.candidates(); return err == nil }, patience, time.Millisecond)
	return tr
}

// A client is a WebRTC peer made of pion's parts, but for ICE.
type client struct {
	t           *testing.T
	conn        net.Conn
	certificate tls.Certificate
	ufrag, pwd  string // the server's
	key         *stunwire.Key
	dtls        *dtls.Conn
	in, out     *srtp.Context
	packets     chan []byte // that are neither STUN nor DTLS
	records     chan []byte // DTLS
	answers     chan []byte // STUN
	tcp         bool        // the server is to be reached by TCP
	path        net.Conn    // to be used instead of a socket
	mu          sync.Mutex
	expired     chan struct{} // guarded by mu; closed: the read deadline of DTLS is in the past
	deaf        int           // to so many of the last flights of DTLS
}

const (
	theirUfrag    = "abcd"
	theirPassword = "0123456789abcdef012345"
)

func newClient(t *testing.T) *client {
	t.Helper()
	c := &client{t: t, packets: make(chan []byte, 4096), records: make(chan []byte, 256), answers: make(chan []byte, 256)}
	var err error
	c.certificate, err = newCertificate()
	require.NoError(t, err)
	return c
}

// offer returns an offer with the client's fingerprint.
func (c *client) offer(media ...string) *Offer {
	c.t.Helper()
	f := fingerprintOf("sha-256", c.certificate.Certificate[0])
	o, err := ParseOffer([]byte(strings.ReplaceAll(offerOf(media...), "sha-256 AA:BB", "sha-256 "+f.Digest)))
	require.NoError(c.t, err)
	return o
}

// dial takes an answer and opens a socket to the server.
func (c *client) dial(answer []byte) {
	c.t.Helper()
	var at netip.AddrPort
	for l := range strings.Lines(string(answer)) {
		l = strings.TrimSpace(l)
		if v, ok := strings.CutPrefix(l, "a=ice-ufrag:"); ok {
			c.ufrag = v
		}
		if v, ok := strings.CutPrefix(l, "a=ice-pwd:"); ok {
			c.pwd = v
		}
		if f := strings.Fields(l); strings.HasPrefix(l, "a=candidate:") && !at.IsValid() && (f[2] == "tcp") == c.tcp {
			at = netip.MustParseAddrPort(net.JoinHostPort(f[4], f[5]))
		}
	}
	c.key = stunwire.NewKey([]byte(c.pwd))
	if c.path != nil {
		c.listen(c.path)
		return
	}
	network := "udp4"
	if c.tcp {
		network = "tcp4"
	}
	conn, err := net.Dial(network, at.String())
	require.NoError(c.t, err)
	if c.tcp {
		conn = &framed{Conn: conn}
	}
	c.listen(conn)
}

// listen takes conn for the way to the server.
func (c *client) listen(conn net.Conn) {
	c.conn = conn
	c.t.Cleanup(func() { conn.Close() })
	go func() {
		for {
			b := make([]byte, 2048)
			n, err := conn.Read(b)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue // ICMP
			}
			to := c.packets
			switch first := b[0]; {
			case first < 4:
				to = c.answers
			case first < 64:
				to = c.records
			}
			select {
			case to <- b[:n]:
			default:
			}
		}
	}()
}

// check sends a connectivity check made with a key, and returns the answer, nil
// if there is none.
func (c *client) check(key *stunwire.Key, user string, wait time.Duration, attrs ...stunwire.Attr) *stunwire.Message {
	c.t.Helper()
	id := stunwire.TxID{1, 2, 3, byte(len(user)), byte(len(attrs))}
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), id)
	b.AddString(stunwire.AttrUsername, user)
	for _, a := range attrs {
		if a == stunwire.AttrICEControlled {
			b.Add(a, make([]byte, 8))
		} else {
			b.Add(a, nil)
		}
	}
	if key != nil {
		b.AddIntegrity(key)
	}
	b.AddFingerprint()
	for until := time.Now().Add(wait); time.Now().Before(until); {
		_, err := c.conn.Write(b.Bytes())
		require.NoError(c.t, err)
		select {
		case a := <-c.answers:
			m := &stunwire.Message{}
			require.NoError(c.t, m.Parse(a))
			require.Equal(c.t, id, m.TxID)
			return m
		case <-time.After(min(wait, 200*time.Millisecond)):
		}
	}
	return nil
}

// connect does ICE and DTLS.
func (c *client) connect(profiles ...dtls.SRTPProtectionProfile) error {
	c.t.Helper()
	m := c.check(c.key, c.ufrag+":"+theirUfrag, patience, stunwire.AttrUseCandidate)
	require.NotNil(c.t, m)
	require.Equal(c.t, stunwire.Success, m.Type.Class())
	require.True(c.t, m.CheckIntegrity(c.key))
	v, _ := m.Get(stunwire.AttrXORMappedAddress)
	mapped, err := m.XORAddr(v)
	require.NoError(c.t, err)
	require.Equal(c.t, c.conn.LocalAddr().String(), mapped.String())
	return c.secure(profiles...)
}

// secure does DTLS.
func (c *client) secure(profiles ...dtls.SRTPProtectionProfile) error {
	c.t.Helper()
	var err error
	if len(profiles) == 0 {
		profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM}
	}
	c.dtls, err = dtls.ClientWithOptions(clientDTLS{c}, c.conn.RemoteAddr(),
		dtls.WithCertificates(c.certificate), dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(profiles...),
		dtls.WithLoggerFactory(dtlsmux.Silence{}))
	require.NoError(c.t, err)
	c.t.Cleanup(func() { c.dtls.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.dtls.HandshakeContext(ctx); err != nil {
		return err
	}
	state, ok := c.dtls.ConnectionState()
	require.True(c.t, ok)
	profile, ok := c.dtls.SelectedSRTPProtectionProfile()
	require.True(c.t, ok)
	config := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	require.NoError(c.t, config.ExtractSessionKeysFromDTLS(&state, true))
	c.in, err = srtp.CreateContext(config.Keys.RemoteMasterKey, config.Keys.RemoteMasterSalt, config.Profile)
	require.NoError(c.t, err)
	c.out, err = srtp.CreateContext(config.Keys.LocalMasterKey, config.Keys.LocalMasterSalt, config.Profile)
	require.NoError(c.t, err)
	return nil
}

// send sends an RTP packet, and returns it as it went out.
func (c *client) send(payload uint8, ssrc uint32, sequence uint16, stamp uint32, marker bool, body []byte) []byte {
	c.t.Helper()
	p := pion.Packet{Header: pion.Header{Version: 2, PayloadType: payload, SSRC: ssrc, SequenceNumber: sequence, Timestamp: stamp, Marker: marker}, Payload: body}
	b, err := p.Marshal()
	require.NoError(c.t, err)
	out, err := c.out.EncryptRTP(nil, b, nil)
	require.NoError(c.t, err)
	_, err = c.conn.Write(out)
	require.NoError(c.t, err)
	return out
}

// sendRTCP sends RTCP packets.
func (c *client) sendRTCP(packets ...rtcp.Packet) {
	c.t.Helper()
	b, err := rtcp.Marshal(packets)
	require.NoError(c.t, err)
	out, err := c.out.EncryptRTCP(nil, b, nil)
	require.NoError(c.t, err)
	_, err = c.conn.Write(out)
	require.NoError(c.t, err)
}

// next returns the next RTP packet, or the next RTCP packets, that wanted takes.
func (c *client) next(wanted func(*pion.Packet, []rtcp.Packet) bool) {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case b := <-c.packets:
			if b[1] >= 192 && b[1] < 224 {
				plain, err := c.in.DecryptRTCP(nil, b, nil)
				require.NoError(c.t, err)
				packets, err := rtcp.Unmarshal(plain)
				require.NoError(c.t, err)
				if wanted(nil, packets) {
					return
				}
				continue
			}
			plain, err := c.in.DecryptRTP(nil, b, nil)
			require.NoError(c.t, err)
			p := &pion.Packet{}
			require.NoError(c.t, p.Unmarshal(plain))
			if wanted(p, nil) {
				return
			}
		case <-timeout:
			c.t.Fatal("not what was waited for")
		}
	}
}

// expiry is closed when the read deadline is in the past.
func (c *client) expiry() chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired == nil {
		c.expired = make(chan struct{})
	}
	return c.expired
}

// SetReadDeadline knows only no deadline and one in the past.
func (d clientDTLS) SetReadDeadline(t time.Time) error {
	past := d.expiry()
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-past:
		if t.IsZero() {
			d.expired = nil
		}
	default:
		if !t.IsZero() && !t.After(time.Now()) && d.expired == past {
			close(past)
		}
	}
	return nil
}

// clientDTLS is the net.PacketConn of the client's DTLS.
type clientDTLS struct{ *client }

func (d clientDTLS) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		select {
		case r := <-d.records:
			if d.deaf > 0 && dtlsmux.IsFinal(r) {
				d.deaf--
				continue
			}
			return copy(b, r), d.conn.RemoteAddr(), nil
		case <-d.expiry():
			return 0, nil, os.ErrDeadlineExceeded
		}
	}
}

func (d clientDTLS) WriteTo(b []byte, _ net.Addr) (int, error) { return d.conn.Write(b) }
func (d clientDTLS) Close() error                              { return nil }
func (d clientDTLS) SetDeadline(t time.Time) error             { return d.SetReadDeadline(t) }
func (d clientDTLS) SetWriteDeadline(time.Time) error          { return nil }
func (d clientDTLS) LocalAddr() net.Addr                       { return d.conn.LocalAddr() }
