package turn

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

func mobile(_ *Server, p *Policy) { p.Mobility = true }

func ticketOf(t *testing.T, m *stunwire.Message) func(*stunwire.Builder) {
	t.Helper()
	v, ok := m.Get(stunwire.AttrMobilityTicket)
	require.True(t, ok)
	return attr(stunwire.AttrMobilityTicket, append([]byte(nil), v...)...)
}

func TestMobility(t *testing.T) {
	for name, dial := range map[string]func(*fixture) *rawClient{"udp": (*fixture).client, "tcp": (*fixture).dialTCP} {
		t.Run(name, func(t *testing.T) {
			f := start(t, mobile)
			old := f.client()
			m := old.allocate(attr(stunwire.AttrMobilityTicket))
			at := relayed(t, m)[0]
			ticket := ticketOf(t, m)
			p := newPeer(t, loopback)
			require.Equal(t, 0, old.bind(0x4000, p.addr))

			moved := dial(f)
			moved.login()
			answer := moved.do(stunwire.Refresh, with(lifetimeAttr(900), ticket))
			require.Equal(t, 0, code(answer))
			require.EqualValues(t, 900, lifetime(t, answer))
			fresh := ticketOf(t, answer)
			again := moved.exchange(moved.raw, answerTimeout)
			require.Equal(t, 0, code(again), "the answer was lost")
			v, _ := answer.Get(stunwire.AttrMobilityTicket)
			w, _ := again.Get(stunwire.AttrMobilityTicket)
			require.Equal(t, v, w)

			// Make before break: both ways in, the old way out.
			p.write(at, "to the old")
			_, _, got := old.data(answerTimeout)
			require.Equal(t, "to the old", got)
			old.channel(0x4000, "from the old")
			got, _ = p.read(answerTimeout)
			require.Equal(t, "from the old", got)

			moved.channel(0x4000, "from the new")
			got, from := p.read(answerTimeout)
			require.Equal(t, "from the new", got)
			require.Equal(t, at, from)
			p.write(at, "to the new")
			_, _, got = moved.data(answerTimeout)
			require.Equal(t, "to the new", got)
			eventually(t, func() bool { return code(old.refresh(600)) == 437 }, "the old path is gone")
			require.Equal(t, moved.local(), f.one().Info().Client)
			relayBothWays(t, moved, at, newPeer(t, loopback))

			third := f.client()
			third.login()
			require.Equal(t, 437, code(third.do(stunwire.Refresh, ticket)), "a used ticket")
			require.Equal(t, 0, code(third.do(stunwire.Refresh, fresh)))
			require.EqualValues(t, 0, lifetime(t, third.refresh(0)))
			require.Equal(t, 437, code(moved.refresh(600)))
			require.Zero(t, held(f.server, func() int { return len(f.server.tickets) }))
		})
	}
}

// An allocation for TCP moves to another connection: its address, permissions
// and peers' connections stay, and the old connection is heard until the new one
// is used.
func TestMobilityOfTCPAllocations(t *testing.T) {
	f := start(t, mobile)
	old := f.dialTCP()
	old.login()
	m := old.do(stunwire.Allocate, with(transportAttr(protocolTCP), attr(stunwire.AttrMobilityTicket)))
	require.Equal(t, 0, code(m))
	at, ticket := relayed(t, m)[0], ticketOf(t, m)
	data, peer := f.connectPeer(old)
	require.Equal(t, 0, old.permit(netip.AddrPortFrom(loopback, 1)))

	byUDP := f.client()
	byUDP.login()
	require.Equal(t, 405, code(byUDP.do(stunwire.Refresh, ticket)), "it needs a connection")
	require.NoError(t, old.conn.Close())
	eventually(t, func() bool { return f.one().Info().Transport == "" }, "the server knows")

	moved := f.dialTCP()
	moved.login()
	require.Equal(t, 0, code(moved.do(stunwire.Refresh, ticket)))
	in, err := net.Dial("tcp", at.String())
	require.NoError(t, err)
	defer in.Close()
	var attempt stunwire.Message
	require.NoError(t, attempt.Parse(moved.next(answerTimeout)))
	require.Equal(t, stunwire.NewType(stunwire.ConnectionAttempt, stunwire.Indication), attempt.Type)
	second, refused := f.bindTCP(moved, connectionID(t, &attempt))
	require.Zero(t, refused)
	exchangeBytes(t, second.conn, in)
	exchangeBytes(t, data.conn, peer)
	require.Equal(t, 0, code(moved.refresh(600)))
	require.Equal(t, moved.local(), f.one().Info().Client)
}

func TestMobilityForbidden(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.login()
	require.Equal(t, 405, code(c.do(stunwire.Allocate, with(transportAttr(protocolUDP), attr(stunwire.AttrMobilityTicket)))))
}

func TestMobilityAfterALostConnection(t *testing.T) {
	f := start(t, func(s *Server, p *Policy) { p.Mobility, p.UserQuota = true, 1 })
	c := f.dialTCP()
	m := c.allocate(attr(stunwire.AttrMobilityTicket))
	at := relayed(t, m)[0]
	p := newPeer(t, loopback)
	require.Equal(t, 0, c.permit(p.addr))
	require.NoError(t, c.conn.Close())
	eventually(t, func() bool { return f.one().Info().Transport == "" }, "the server knows")
	d := f.client()
	d.login()
	require.Equal(t, 0, code(d.do(stunwire.Refresh, ticketOf(t, m))))
	relayBothWays(t, d, at, p)
}
