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
			pc, err := net.ListenPacket("udp", c.at)
			if err != nil && c.at[0] == '[' {
				t.Skip("no IPv6 here:", err)
			}
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
