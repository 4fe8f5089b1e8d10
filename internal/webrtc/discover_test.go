package webrtc

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stun"
)

// The address that a STUN server sees is among those of an answer.
func TestDiscover(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	server := &stun.Server{}
	done := make(chan error, 1)
	go func() { done <- server.ServePacket(pc) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	other := (&net.TCPAddr{IP: net.IPv4(192, 0, 2, 9)}).AddrPort().Addr().Unmap()
	tr := &Transport{STUN: pc.LocalAddr().String()}
	tr.Addrs = append(tr.Addrs, other)
	start(t, tr)
	all, err := tr.candidates()
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, other, all[0].Addr())
	require.Equal(t, "127.0.0.1", all[1].Addr().String())
	require.Equal(t, all[0].Port(), all[1].Port())
}
