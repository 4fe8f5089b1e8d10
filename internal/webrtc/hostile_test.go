package webrtc

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stream"
)

var peerAddr = netip.MustParseAddrPort("192.0.2.7:4000")

// alone returns a session that has its keys but no socket, and the contexts of
// its peer.
func alone(t testing.TB, send bool) (p *port, s *Session, out *srtp.Context, feed *Feed) {
	t.Helper()
	tr := &Transport{}
	p = newPort(tr)
	tr.ports = []*port{p}
	close(tr.isOpen())
	p.tcp = make(map[netip.AddrPort]*tcpConn)
	p.listener = noListener{}
	offer := offerOf(videoLine(0, "a=extmap:4 "+uriMID+"\r\na=extmap:3 "+uriTransportCC+"\r\n"), audioLine(1, ""))
	o, err := ParseOffer([]byte(strings.ReplaceAll(offer, "sha-256 AA:BB", "sha-256 "+fingerprintOf("sha-256", nil).Digest)))
	require.NoError(t, err)
	if send {
		video := &stream.Track{ID: 1, Codec: stream.VP8}
		s, _, err = tr.Send(o, []*stream.Track{video}, Handler{})
		require.NoError(t, err)
		feed = &Feed{}
		feed.SetTrack(video, &rtp.VP8{})
		feed.Add(s)
	} else {
		s, _, err = tr.Receive(o, true, Handler{})
		require.NoError(t, err)
	}
	key, salt := make([]byte, 16), make([]byte, 12)
	config := srtp.Config{Profile: srtp.ProtectionProfileAeadAes128Gcm, Keys: srtp.SessionKeys{
		LocalMasterKey: key, LocalMasterSalt: salt, RemoteMasterKey: key, RemoteMasterSalt: salt,
	}}
	require.NoError(t, s.secure(&config))
	p.paths[peerAddr] = s
	if send {
		s.path.Store(&path{port: p, addr: peerAddr, tcp: newTCPConn(nil, peerAddr)})
		for i := range 3 {
			feed.Write(&stream.Frame{Track: &stream.Track{ID: 1, Codec: stream.VP8}, Key: i == 0, PTS: time.Duration(i) * time.Second, Data: bytes.Repeat([]byte{0x10}, 3000)}, time.Unix(int64(i), 0))
		}
	}
	out, err = srtp.CreateContext(key, salt, config.Profile)
	require.NoError(t, err)
	return p, s, out, feed
}

// noListener stands for the socket of a session that is alone.
type noListener struct{ net.Listener }

func (noListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// FuzzSession gives a session what a peer that has its keys may send, and what
// anybody may.
func FuzzSession(f *testing.F) {
	seed := func(parts ...[]byte) {
		var b []byte
		for i, p := range parts {
			b = append(append(b, byte(i), byte(len(p))), p...)
		}
		f.Add(false, b)
		f.Add(true, b)
	}
	packet, _ := (&pion.Packet{Header: pion.Header{Version: 2, PayloadType: vp8, SSRC: 1, SequenceNumber: 3}, Payload: []byte{0x10, 0, 1}}).Marshal()
	again, _ := (&pion.Packet{Header: pion.Header{Version: 2, PayloadType: vp8RTX, SSRC: 2, SequenceNumber: 3, Padding: true, PaddingSize: 2}, Payload: []byte{0, 4, 0x10, 0, 1, 0, 2}}).Marshal()
	reports, _ := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: 1, NTPTime: 1 << 40}, &rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 1}}},
		&rtcp.TransportLayerNack{MediaSSRC: 1, Nacks: []rtcp.NackPair{{PacketID: 1, LostPackets: 0xffff}}}, &rtcp.PictureLossIndication{MediaSSRC: 1},
		&rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 1}}}, &rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: 1e6, SSRCs: []uint32{1}},
	})
	seed([]byte{22, 254, 253}, packet, reports, again)
	f.Fuzz(func(t *testing.T, send bool, b []byte) {
		p, s, out, _ := alone(t, send)
		now := time.Unix(1e9, 0)
		for len(b) >= 2 {
			kind, n := b[0]%4, min(int(b[1]), len(b)-2)
			d := bytes.Clone(b[2 : 2+n])
			b = b[2+n:]
			now = now.Add(7 * time.Millisecond)
			switch kind {
			case 0:
				p.handle(d, peerAddr, now)
			case 1, 3:
				var h pion.Header
				if n, err := h.Unmarshal(d); err != nil || n > len(d) {
					continue
				}
				if sealed, err := out.EncryptRTP(nil, d, nil); err == nil {
					p.handle(sealed, peerAddr, now)
				}
			case 2:
				if len(d) < 8 {
					continue
				}
				d[0], d[1] = d[0]&0x3f|0x80, 192+d[1]%32
				if sealed, err := out.EncryptRTCP(nil, d, nil); err == nil {
					p.handle(sealed, peerAddr, now)
				}
			}
			s.tick(now)
		}
		if len(s.incoming.bySSRC) > maxSSRC || len(s.incoming.repairs) > maxSSRC || len(s.incoming.tracks) > 2 {
			t.Fatal("more sources than there may be")
		}
	})
}

// What comes from nobody known costs no memory: ClientHellos, media, and checks
// that prove nothing.
func TestFloodAllocatesNothing(t *testing.T) {
	p, s, _, _ := alone(t, false)
	check := func(user string, key *stunwire.Key) []byte {
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{1})
		if user != "" {
			b.AddString(stunwire.AttrUsername, user)
		}
		if key != nil {
			b.AddIntegrity(key)
		}
		b.AddFingerprint()
		return b.Bytes()
	}
	hello := append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 256)...)
	stranger := netip.MustParseAddrPort("198.51.100.1:1")
	ours := s.ice.Load().ours
	for name, d := range map[string][]byte{
		"hello": hello, "media": append([]byte{0x80, 96}, make([]byte, 100)...), "reports": append([]byte{0x80, 200}, make([]byte, 100)...),
		"no name": check("", nil), "no session": check("nobody:abcd", nil), "no integrity": check(ours+":"+theirUfrag, nil),
		"wrong password": check(ours+":"+theirUfrag, stunwire.NewKey([]byte("guess"))), "runt": {0}, "other": {70, 1, 2},
		"oversized": append([]byte{22}, make([]byte, maxDatagram)...),
	} {
		n := testing.AllocsPerRun(100, func() {
			if p.handle(d, stranger, time.Unix(1e9, 0)) {
				t.Fatal("taken", name)
			}
		})
		require.Zero(t, n, name)
	}
	require.Len(t, p.paths, 1)
	require.False(t, s.dtls.begun)
}

// An offer of a thousand m-lines, or one that names codecs nobody knows, is
// refused with a reason.
func TestOddOffers(t *testing.T) {
	var many []string
	for i := range 1000 {
		many = append(many, audioLine(i, ""))
	}
	_, err := ParseOffer([]byte(offerOf(many...)))
	require.ErrorIs(t, err, ErrOffer)
	_, err = ParseOffer(bytes.Repeat([]byte("a=x\r\n"), 1<<18))
	require.ErrorIs(t, err, ErrOffer)
	o, err := ParseOffer([]byte(strings.Replace(offerOf(audioLine(0, "")), "SAVPF 111 0 8\r", "SAVPF 7\r", 1)))
	if err == nil {
		tr := start(t, &Transport{})
		_, _, err = tr.Receive(o, false, Handler{})
	}
	require.ErrorIs(t, err, ErrOffer)

	tr := start(t, &Transport{MaxPerSource: 2})
	var last *Session
	for range 2 {
		o, err := ParseOffer([]byte(offerOf(audioLine(0, ""))))
		require.NoError(t, err)
		o.From = netip.MustParseAddr("2001:db8::1")
		last, _, err = tr.Receive(o, false, Handler{})
		require.NoError(t, err)
	}
	next := func(from string) error {
		o, err := ParseOffer([]byte(offerOf(audioLine(0, ""))))
		require.NoError(t, err)
		o.From = netip.MustParseAddr(from)
		_, _, err = tr.Receive(o, false, Handler{})
		return err
	}
	require.ErrorIs(t, next("2001:db8::2"), ErrTooMany, "of the same /64")
	require.NoError(t, next("192.0.2.1"))
	last.Close()
	require.NoError(t, next("2001:db8::2"))
}
