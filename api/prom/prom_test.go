package prom

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/turn"
)

// scrape returns the samples of a collector as "name{labels}" to value.
func scrape(t *testing.T, c *TURN) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body)
	samples := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			samples[name] = value
		}
	}
	return samples
}

// TestLive: the metrics move while a session lives, per realm, with errors,
// drops and the time that the authorizer takes.
func TestLive(t *testing.T) {
	const realm = "odd\"realm\n\xff" // as a database may have it
	const shown = `odd\"realm\n` + "\uFFFD"
	srv := &turn.Server{Realm: "example.org", Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		time.Sleep(3 * time.Millisecond)
		if !r.Proof(auth.Secret{Plain: "pass"}) {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{User: r.User, Realm: realm}, nil
	})}
	srv.SetPolicy(&turn.Policy{Peers: turn.PeerPolicy{AllowLoopback: true}})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = srv.ServePacket(pc) }()
	defer srv.Close()
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer peer.Close()

	c := &turn.Client{Server: pc.LocalAddr().String(), Username: "alice", Password: "wrong"}
	_, err = c.Allocate(t.Context(), nil)
	require.ErrorIs(t, err, turn.ErrUnauthorized)
	c.Password = "pass"
	p, err := c.Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer p.Close()
	_, err = p.WriteTo(make([]byte, 70), peer.LocalAddr())
	require.NoError(t, err)
	b := make([]byte, 100)
	_, from, err := peer.ReadFrom(b)
	require.NoError(t, err)
	_, err = peer.WriteTo(b[:30], from)
	require.NoError(t, err)
	_, _, err = p.ReadFrom(b)
	require.NoError(t, err)

	got := scrape(t, &TURN{Server: srv, Coturn: true})
	for name, want := range map[string]string{
		`runnel_turn_allocations{transport="udp"}`:                               "1",
		`runnel_turn_allocations{transport="dtls"}`:                              "0",
		`runnel_turn_realm_allocations{realm="` + shown + `"}`:                   "1",
		`runnel_turn_allocations_total{realm="` + shown + `"}`:                   "1",
		`runnel_turn_bytes_total{direction="from_client",realm="` + shown + `"}`: "70",
		`runnel_turn_bytes_total{direction="to_peer",realm="` + shown + `"}`:     "70",
		`runnel_turn_bytes_total{direction="from_peer",realm="` + shown + `"}`:   "30",
		`runnel_turn_packets_total{direction="to_client",realm="` + shown + `"}`: "1",
		`runnel_turn_error_responses_total{code="401"}`:                          "3",
		`runnel_turn_dropped_packets_total{reason="malformed"}`:                  "0",
		`runnel_turn_draining`:                             "0",
		`runnel_turn_authorize_seconds_count`:              "2",
		`runnel_turn_authorize_seconds_bucket{le="0.002"}`: "0",
		`runnel_turn_authorize_seconds_bucket{le="10"}`:    "2",
		`runnel_turn_authorize_seconds_bucket{le="+Inf"}`:  "2",
		`turn_traffic_rcvb{realm="` + shown + `"}`:         "70",
		`turn_traffic_sentb{realm="` + shown + `"}`:        "30",
		`turn_traffic_peer_rcvb{realm="` + shown + `"}`:    "30",
		`turn_total_traffic_peer_sentp`:                    "1",
		`turn_total_allocations{type="UDP"}`:               "1",
		`turn_packet_processed`:                            "2",
		`turn_unauthenticated_401_responses`:               "3",
	} {
		require.Equal(t, want, got[name], name)
	}
	require.NotContains(t, scrape(t, &TURN{Server: srv}), "turn_packet_processed")
}

// TestDescribed: what is collected was announced, with both sets of names.
func TestDescribed(t *testing.T) {
	for _, coturn := range []bool{false, true} {
		r := prometheus.NewPedanticRegistry()
		require.NoError(t, r.Register(&TURN{Server: &turn.Server{Realm: "x"}, Coturn: coturn}))
		_, err := r.Gather()
		require.NoError(t, err)
	}
}

func ExampleTURN() {
	srv := &turn.Server{Realm: "example.org"}
	r := prometheus.NewRegistry()
	r.MustRegister(&TURN{Server: srv})
	families, err := r.Gather()
	fmt.Println(families[0].GetName(), err)
	// Output: runnel_turn_allocations <nil>
}
