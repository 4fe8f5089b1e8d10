package whep

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Client plays from a server that is a full agent, and over IPv6.
func TestClient(t *testing.T) {
	for name, c := range map[string]struct {
		at   string
		full bool
	}{"lite": {"127.0.0.1:0", false}, "full": {"127.0.0.1:0", true}, "IPv6": {"[::1]:0", false}, "IPv6, full": {"[::1]:0", true}} {
		t.Run(name, func(t *testing.T) {
			if c.at[0] == '[' && !hasIPv6(t) {
				t.Skip("no IPv6 here but for the loopback, at which pion's agents have no candidate")
			}
			pc, err := net.ListenPacket("udp", c.at)
			require.NoError(t, err)
			f := serve(t, pc, &Transport{Full: c.full})
			p := f.live(t, "live/a")
			saw, _ := f.play(t, "/live/a")
			saw(0)
			_, sent, _ := p.Stream().Latency.Snapshot()
			require.NotZero(t, sent, "how long frames were here is known")
		})
	}
}

func hasIPv6(t *testing.T) bool {
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && n.IP.IsGlobalUnicast() {
			return true
		}
	}
	return false
}
