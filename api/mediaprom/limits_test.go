package mediaprom

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

func TestLimits(t *testing.T) {
	l := &limit.Limiter{}
	l.SetPolicy(&limit.Policy{ConnsPerAddr: 1})
	a := netip.MustParseAddr("192.0.2.1")
	release, err := l.Connect(a)
	require.NoError(t, err)
	defer release()
	_, err = l.Connect(a)
	require.Error(t, err)
	hub := &stream.Hub{}
	defer hub.Close()
	w := httptest.NewRecorder()
	(&Media{Hub: hub, Limits: l}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		"runnel_connections 1\n", "runnel_addresses 1\n", `runnel_limits_reached_total{limit="connections_per_address"} 1` + "\n",
		`runnel_limits_reached_total{limit="sessions"} 0` + "\n", `runnel_limit{limit="connections_per_address"} 1` + "\n",
	} {
		require.Contains(t, w.Body.String(), line)
	}
}
