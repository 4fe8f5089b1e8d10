package turn

import (
	"net/netip"
	"testing"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// FuzzDatagram gives a server what strangers, a client with an allocation and
// a peer may send.
func FuzzDatagram(f *testing.F) {
	d := newDataPath(f, false)
	d.s.Anonymity, d.s.ThirdParty = true, "turn.example"
	d.s.SetPolicy(&Policy{Mobility: true, UnauthenticatedRate: -1})
	f.Add(d.up(2, 9)[0].Data, uint16(13))
	f.Add(d.send(5)[0].Data, uint16(0))
	for _, method := range []stunwire.Method{
		stunwire.Binding, stunwire.Allocate, stunwire.Refresh, stunwire.CreatePermission,
		stunwire.ChannelBind, stunwire.Connect, stunwire.ConnectionBind,
	} {
		b := stunwire.Build(nil, stunwire.NewType(method, stunwire.Request), stunwire.TxID{byte(method)})
		transportAttr(protocolUDP)(&b)
		channelAttr(0x4001)(&b)
		peerAttr(d.peer)(&b)
		lifetimeAttr(600)(&b)
		b.AddString(stunwire.AttrUsername, "alice")
		b.AddString(stunwire.AttrRealm, "r")
		b.Add(stunwire.AttrNonce, d.s.nonces.append(nil, d.s.features(), d.p.remote, "r", d.s.start.UnixMilli()))
		b.AddIntegrity(stunwire.NewKey([]byte("k")))
		b.AddFingerprint()
		f.Add(b.Bytes(), uint16(0))
	}
	relay := &d.a.relays[relayIPv4]
	f.Fuzz(func(t *testing.T, b []byte, segment uint16) {
		for _, from := range []netip.AddrPort{d.p.remote, netip.MustParseAddrPort("[2001:db8::5]:7")} {
			d.sh.HandlePackets([]udp.Packet{{Data: append([]byte(nil), b...), Addr: from, Segment: int(segment)}})
			d.sh.flush()
		}
		relay.HandlePackets([]udp.Packet{{Data: b, Addr: d.peer, Segment: int(segment)}})
		d.sh.flush()
		if d.a.isEnded() {
			t.Fatal("nobody who has not the key can end a session")
		}
	})
}
