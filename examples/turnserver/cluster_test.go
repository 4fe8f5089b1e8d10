package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/config"
)

func TestClusterFlags(t *testing.T) {
	good := clusterOptions{nats: "nats://a", advertise: config.List{"192.0.2.1:3478", "[2001:db8::1]:3478"}, capacity: 1}
	require.NoError(t, good.check(&options{}))
	at, err := good.addresses()
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddrPort("192.0.2.1:3478"), at[0])
	require.NoError(t, (&clusterOptions{}).check(&options{}))
	for _, bad := range []clusterOptions{
		{advertise: good.advertise},
		{nats: "nats://a", capacity: 1},
		{nats: "nats://a", advertise: good.advertise},
		{nats: "nats://a", advertise: config.List{"a.example:3478"}, capacity: 1},
	} {
		require.Error(t, bad.check(&options{}), "%+v", bad)
	}
	require.Error(t, good.check(&options{alternates: config.List{"192.0.2.2"}}))
}
