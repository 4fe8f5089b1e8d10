package turn

import (
	"bufio"
	"bytes"
	"net/netip"
	"testing"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stun"
)

// FuzzClientHandle: whatever a server sends, the client neither panics nor
// hands on more than came.
func FuzzClientHandle(f *testing.F) {
	data := stunwire.Build(nil, stunwire.NewType(stunwire.Data, stunwire.Indication), stunwire.TxID{})
	data.AddXORAddr(stunwire.AttrXORPeerAddress, scriptPeer)
	data.AddString(stunwire.AttrData, "hello")
	f.Add(data.Bytes())
	attempt := stunwire.Build(nil, stunwire.NewType(stunwire.ConnectionAttempt, stunwire.Indication), stunwire.TxID{})
	attempt.AddUint32(stunwire.AttrConnectionID, 7)
	attempt.AddXORAddr(stunwire.AttrXORPeerAddress, scriptPeer)
	f.Add(attempt.Bytes())
	icmp := stunwire.Build(nil, stunwire.NewType(stunwire.Data, stunwire.Indication), stunwire.TxID{})
	icmp.AddXORAddr(stunwire.AttrXORPeerAddress, scriptPeer)
	icmp.Add(stunwire.AttrICMP, make([]byte, 8))
	f.Add(icmp.Bytes())
	challenge := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Error), stunwire.TxID{1})
	challenge.AddError(401, "no")
	challenge.AddString(stunwire.AttrRealm, "realm")
	challenge.AddString(stunwire.AttrNonce, (stun.PasswordAlgorithms|stun.UsernameAnonymity).Cookie()+"x")
	challenge.Add(stunwire.AttrPasswordAlgorithms, []byte{0, 2, 0, 0, 0, 1, 0, 0})
	challenge.AddAddr(stunwire.AttrAlternateServer, scriptPeer)
	f.Add(challenge.Bytes())
	success := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Success), stunwire.TxID{1})
	success.AddXORAddr(stunwire.AttrXORRelayedAddress, scriptPeer)
	success.AddUint32(stunwire.AttrLifetime, 600)
	f.Add(success.Bytes())
	f.Add(append(stunwire.AppendChannelHeader(nil, 0x4000, 3), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s clientSession
		s.init()
		answer := make(chan *clientReply, 1)
		s.waiting[stunwire.TxID{1}] = clientWaiter{answer: answer}
		s.handlers = clientHandlers{
			data: func(peer netip.AddrPort, got []byte) {
				if len(got) > len(b) || peer.Addr().Is4In6() {
					t.Fatalf("%v %x", peer, got)
				}
			},
			channel: func(_ uint16, got []byte) {
				if len(got) > len(b) {
					t.Fatalf("%x", got)
				}
			},
			icmp:    func(netip.Addr, uint8, uint8, uint32) {},
			attempt: func(uint32, netip.AddrPort) {},
		}
		s.handle(b)
		select {
		case r := <-answer:
			c := &Client{Username: "user", Password: "pass"}
			_, _ = c.challenged(t.Context(), nil, r)
			_, _ = clientTarget{}.alternate(r)
			_, _, _ = r.relayed()
			_, _ = r.lifetime()
			_ = r.refusal().Error()
		default:
		}
	})
}

// FuzzClientFrames: however a stream is cut, the same frames come out.
func FuzzClientFrames(f *testing.F) {
	m := stunwire.Build(nil, stunwire.NewType(stunwire.Refresh, stunwire.Success), stunwire.TxID{})
	m.AddUint32(stunwire.AttrLifetime, 600)
	f.Add(append(m.Bytes(), 0x40, 0, 0, 1, 'x', 0, 0, 0, 0x40, 1, 0, 0))
	f.Add([]byte{0x40, 0, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 16)
		var buf []byte
		for rest := b; ; {
			frame, grown, err := readClientFrame(r, buf)
			if err != nil {
				return
			}
			if buf = grown; len(buf) > 2*maxClientFrame {
				t.Fatal("a buffer without bounds")
			}
			if !bytes.HasPrefix(rest, frame) {
				t.Fatalf("%x of %x", frame, rest)
			}
			_, size, _ := stunwire.FrameSize(frame[:4])
			rest = rest[size:]
		}
	})
}
