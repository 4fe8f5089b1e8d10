package turn

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Whoever asks one of a machine's addresses is answered by that one.
func TestListenPacketsOfAllAddresses(t *testing.T) {
	for _, address := range []string{":0", "[::]:0", "0.0.0.0:0"} {
		t.Run(address, func(t *testing.T) {
			pcs, err := ListenPackets(context.Background(), "udp", address, 2)
			require.NoError(t, err)
			s := &Server{Realm: "test.example"}
			s.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true}})
			done := make(chan error, len(pcs))
			seen := map[string]bool{}
			port := addrPortOf(pcs[0].LocalAddr()).Port()
			for _, pc := range pcs {
				at := addrPortOf(pc.LocalAddr())
				require.False(t, at.Addr().IsUnspecified())
				require.Equal(t, port, at.Port())
				seen[at.String()] = true
				go func() { done <- s.ServePacket(pc) }()
			}
			require.Len(t, pcs, socketCount(2)*len(seen))
			for at := range seen {
				conn, err := net.Dial("udp", at) // takes packets of that address only
				require.NoError(t, err)
				defer conn.Close()
				c := &rawClient{t: t, conn: conn}
				require.Equal(t, 0, code(c.do(stunwire.Binding, nil)), at)
			}
			require.NoError(t, s.Close())
			for range pcs {
				require.ErrorIs(t, <-done, ErrServerClosed)
			}
		})
	}
	pcs, err := ListenPackets(context.Background(), "udp4", ":0", 1)
	require.NoError(t, err)
	for _, pc := range pcs {
		require.True(t, addrPortOf(pc.LocalAddr()).Addr().Is4())
		require.NoError(t, pc.Close())
	}
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:x", "192.0.2.1:0", ":x"} {
		_, err := ListenPackets(context.Background(), "udp", bad, 1)
		require.Error(t, err, bad)
	}
}
