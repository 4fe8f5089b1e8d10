package turn

import (
	"crypto/rand"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// coturn #1999: 20 KB for each source of a flood.
func TestCoturn1999_SpoofedAllocatesLeaveNothing(t *testing.T) {
	s := &Server{Realm: "test.example", Auth: users(alice), Relays: &RelayPorts{}}
	s.SetPolicy(&Policy{UnauthenticatedRate: -1})
	s.init()
	defer s.Close()
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	sh := newShard(s, wrapForTest(sink))
	defer sh.conn.Close()
	flood := func(from, to int) {
		var msg [stunwire.HeaderSize + 8]byte
		for i := from; i < to; i++ {
			var id stunwire.TxID
			rand.Read(id[:])
			b := stunwire.Build(msg[:0], stunwire.NewType(stunwire.Allocate, stunwire.Request), id)
			transportAttr(protocolUDP)(&b)
			client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9)
			sh.datagrams(packetOf(b.Bytes(), client), client, s.policy.Load(), s.clock())
		}
	}
	flood(0, 100)
	before := heap()
	flood(0, 10_000)
	require.Less(t, heap()-before, int64(200_000))
	require.Empty(t, sh.paths)
	require.Empty(t, sh.asking)
	require.EqualValues(t, 10_100, s.Stats().Errors[401]+s.Stats().Drops["send"])
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Amplification: what a forged source gets.
func TestAmplification(t *testing.T) {
	f := start(t, func(_ *Server, p *Policy) { p.UnauthenticatedRate, p.UnauthenticatedBurst = .001, 10 })
	c := f.client()
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	require.LessOrEqual(t, float64(len(m.Raw))/float64(len(c.raw)), 3.8)
	m = c.do(stunwire.Binding, nil)
	require.LessOrEqual(t, float64(len(m.Raw))/float64(len(c.raw)), 1.6)
	answers := 1
	for range 50 { // of which none earns a new answer while this runs
		c.write(c.build(stunwire.Allocate, transportAttr(protocolUDP)))
	}
	eventually(t, func() bool { return f.server.Stats().Drops["rate-unauthenticated"] > 30 }, "no answers")
	for c.read(nothing) != nil {
		answers++
	}
	require.LessOrEqual(t, answers, 13)
}

// Slow-loris: connections that say nothing, or dribble, and those that have
// authenticated for nothing.
func TestSlowLoris(t *testing.T) {
	f := start(t, nil)
	keeper := f.dialTCP()
	keeper.allocate() // which may take its time
	f.server.SetPolicy(&Policy{UnauthenticatedRate: -1, IdleTimeout: 300 * time.Millisecond})
	silent, dribble, talker := f.dialTCP(), f.dialTCP(), f.dialTCP()
	dribble.write([]byte{0, 3, 0})
	// There may be no time to ask for the nonce.
	talker.realm, talker.key = keeper.realm, keeper.key
	talker.nonce = string(f.server.nonces.append(nil, f.server.features(), talker.local(), talker.realm, time.Now().UnixMilli()))
	for done := time.Now().Add(600 * time.Millisecond); time.Now().Before(done); time.Sleep(50 * time.Millisecond) {
		_, _ = talker.conn.Write(talker.build(stunwire.CreatePermission, peerAttr(f.udp)))
	}
	for _, c := range []*rawClient{silent, dribble, talker} {
		require.True(t, closed(t, c.conn))
	}
	require.Equal(t, 0, code(keeper.refresh(600)))
	require.Equal(t, 0, code(keeper.refresh(0)))
	require.True(t, closed(t, keeper.conn), "without an allocation again")
}
