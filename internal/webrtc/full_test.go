package webrtc

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

func TestParseCandidate(t *testing.T) {
	for v, want := range map[string]string{
		"1 1 udp 2130706431 192.0.2.1 5000 typ host generation 0":  "192.0.2.1:5000",
		"2 1 UDP 1 2001:db8::1 9 typ srflx raddr 10.0.0.1 rport 9": "[2001:db8::1]:9",
		"3 1 udp 1 ::ffff:192.0.2.1 9 typ host":                    "192.0.2.1:9",
		"1 2 udp 1 192.0.2.1 5000 typ host":                        "",
		"1 1 tcp 1 192.0.2.1 9 typ host tcptype active":            "",
		"1 1 udp 1 9ab4.local 5000 typ host":                       "",
		"1 1 udp 1 192.0.2.1 0 typ host":                           "",
		"1 1 udp 1 0.0.0.0 5 typ host":                             "",
		"1 1 udp 1 224.0.0.1 5 typ host":                           "",
		"1 1 udp 1 255.255.255.255 5 typ host":                     "",
		"1 1 udp 1 fe80::1%eth0 5 typ host":                        "",
		"1 1 udp 1 192.0.2.1 70000 typ host":                       "",
		"":                                                         "",
	} {
		at, ok := parseCandidate(v)
		require.Equal(t, want != "", ok, v)
		if ok {
			require.Equal(t, want, at.String())
		}
	}
	many := strings.Repeat("a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n", 3)
	require.Len(t, candidatesOf(many), 1)
	for i := range 100 {
		many += strings.Replace("a=candidate:1 1 udp 1 192.0.2.1 50XX typ host\r\n", "XX", string([]byte{'0' + byte(i/10), '0' + byte(i%10)}), 1)
	}
	require.Len(t, candidatesOf(many), maxTargets)
}

func FuzzCandidates(f *testing.F) {
	f.Add("a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\na=candidate:x\n")
	f.Add("a=candidate:2 1 UDP 1 2001:db8::1 9 typ srflx raddr 10.0.0.1 rport 9\n")
	f.Fuzz(func(t *testing.T, text string) {
		all := candidatesOf(text)
		if len(all) > maxTargets {
			t.Fatal("too many")
		}
		for _, at := range all {
			if at.Port() == 0 || at.Addr().Is4In6() || at.Addr().IsMulticast() {
				t.Fatal(at)
			}
		}
	})
}

// A full agent checks the addresses that its peer names, and takes one that answers
// for the path, though nothing has come from there; it goes on to ask if it may
// send. What is forged has no effect.
func TestFull(t *testing.T) {
	tr := start(t, &Transport{Full: true})
	c := newClient(t)
	connected, frames := make(chan struct{}), make(chan Frame, 10)
	s, answer, err := tr.Receive(c.offer(audioLine(0, "")), true, Handler{
		Connected: func() { close(connected) }, Frame: func(_ *Incoming, f Frame) { frames <- f },
	})
	require.NoError(t, err)
	require.NotContains(t, string(answer), "ice-lite")
	c.dial(answer)
	at := netip.MustParseAddrPort(c.conn.LocalAddr().String())
	s.aim([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), at})
	s.aim([]netip.AddrPort{at})
	theirs := stunwire.NewKey([]byte("0123456789012345678901"))
	asked := func() *stunwire.Message {
		m := &stunwire.Message{}
		require.NoError(t, m.Parse(wait(t, c.answers)))
		require.Equal(t, stunwire.NewType(stunwire.Binding, stunwire.Request), m.Type)
		user, _ := m.Get(stunwire.AttrUsername)
		require.Equal(t, theirUfrag+":"+c.ufrag, string(user))
		require.True(t, m.CheckIntegrity(theirs))
		require.True(t, m.Has(stunwire.AttrPriority) && m.Has(stunwire.AttrICEControlled))
		require.False(t, m.Has(stunwire.AttrUseCandidate), "the peer nominates")
		return m
	}
	reply := func(id stunwire.TxID, key *stunwire.Key) {
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Success), id)
		b.AddXORAddr(stunwire.AttrXORMappedAddress, at)
		if key != nil {
			b.AddIntegrity(key)
		}
		b.AddFingerprint()
		_, err := c.conn.Write(b.Bytes())
		require.NoError(t, err)
	}
	m := asked()
	before := tr.Dropped()
	reply(m.TxID, nil)
	reply(m.TxID, stunwire.NewKey([]byte("guess")))
	reply(stunwire.TxID{1}, theirs)
	require.Eventually(t, func() bool { return tr.Dropped() == before+3 }, patience, time.Millisecond)
	require.False(t, s.RemoteAddr().IsValid())
	reply(asked().TxID, theirs)
	require.Eventually(t, func() bool { return s.RemoteAddr() == at }, patience, time.Millisecond)
	require.NoError(t, c.secure())
	wait(t, connected)
	c.send(opusPT, 2, 7, 960, true, []byte{1, 2})
	require.Equal(t, []byte{1, 2}, wait(t, frames).Data)
	asked() // for consent

	fragment, err := s.Restart("restarted", theirPassword)
	require.NoError(t, err)
	require.NotContains(t, string(fragment), "ice-lite")
	s.aim([]netip.AddrPort{at})
	require.Eventually(t, func() bool {
		m := &stunwire.Message{}
		require.NoError(t, m.Parse(wait(t, c.answers)))
		user, _ := m.Get(stunwire.AttrUsername)
		return strings.HasPrefix(string(user), "restarted:") && m.CheckIntegrity(stunwire.NewKey([]byte(theirPassword)))
	}, patience, time.Millisecond)
	p := tr.udpPort()
	s.Close()
	require.Eventually(t, func() (gone bool) {
		p.loop.Do(func() { gone = len(p.full)+len(p.asked) == 0 })
		return gone
	}, patience, time.Millisecond)
}
