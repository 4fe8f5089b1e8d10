package turncluster

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/turn"
)

func TestAlternates(t *testing.T) {
	at := func(s string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(s)} }
	one, two, three := at("192.0.2.1:3478"), at("192.0.2.2:3478"), at("192.0.2.3:3478")
	member := func(turn []netip.AddrPort, load float64, draining bool) relay.Member {
		return relay.Member{Server: relay.Server{Load: load, Draining: draining, TURN: turn}}
	}
	self := func(load float64, draining bool) relay.Member {
		m := member(one, load, draining)
		m.Self = true
		return m
	}
	to := func(addrs []netip.AddrPort, weight int) []turn.Alternate {
		return []turn.Alternate{{Server: addrs[0], Weight: weight, Transport: "udp"}, {Server: addrs[0], Weight: weight, Transport: "tcp"}}
	}
	for _, tt := range []struct {
		name    string
		members []relay.Member
		want    []turn.Alternate
	}{
		{"nobody", nil, nil},
		{"alone", []relay.Member{self(0.9, true)}, nil},
		{"not known here", []relay.Member{member(two, 0, false)}, nil},
		{"as busy as others", []relay.Member{self(0.55, false), member(two, 0.5, false)}, nil},
		{"busier", []relay.Member{self(0.7, false), member(two, 0.5, false), member(three, 0.64, false)}, to(two, 5)},
		{"two that are alike", []relay.Member{self(0.7, false), member(two, 0, false), member(three, 0.04, false)}, append(to(two, 9), to(three, 8)...)},
		{"draining", []relay.Member{self(0, true), member(two, 0.9, false)}, to(two, 1)},
		{"others drain, are full, have no TURN", []relay.Member{self(3, false), member(two, 0, true), member(three, 1, false), member(nil, 0, false)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, alternates(tt.members, 0.1)) })
	}
}

// startServer runs a TURN server that is one of a cluster, until ctx ends.
func startServer(t *testing.T, ctx context.Context, id string, registry relay.Registry, load func() (float64, bool)) (s *turn.Server, addr string) {
	users := &turnauth.Users{}
	require.NoError(t, users.Put(turnauth.User{Name: "alice", Password: "wonder"}))
	s = &turn.Server{Realm: "example.org", Auth: users, NonceSecret: []byte("the same everywhere")}
	s.SetPolicy(&turn.Policy{Peers: turn.PeerPolicy{AllowLoopback: true}, UserQuota: 100})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.ServePacket(pc) }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
	addr = pc.LocalAddr().String()
	if load == nil {
		load = Load(s, 10)
	}
	hub := &stream.Hub{}
	r := &relay.Relay{Hub: hub, ID: id, Registry: registry, TURN: []netip.AddrPort{netip.MustParseAddrPort(addr)}, Load: load}
	done := make(chan struct{}, 2)
	go func() { _ = r.Run(ctx); done <- struct{}{} }()
	go func() {
		_ = (&Spread{Server: s, Relay: r, Every: 20 * time.Millisecond}).Run(ctx)
		done <- struct{}{}
	}()
	t.Cleanup(func() { <-done; <-done; _ = hub.Close() })
	return s, addr
}

func allocations(s *turn.Server) (n int) {
	for range s.Allocations() {
		n++
	}
	return n
}

// Clients that come to a busy server have their allocations at the other one.
func TestSpread(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	registry := &relay.MemoryRegistry{}
	busy, addr := startServer(t, ctx, "a", registry, func() (float64, bool) { return 0.9, false })
	idle, other := startServer(t, ctx, "b", registry, nil)
	want := turn.Alternate{Server: netip.MustParseAddrPort(other), Weight: 9, Transport: "udp"}
	require.Eventually(t, func() bool {
		return slices.Contains(busy.CurrentPolicy().Alternates, want)
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, 100, busy.CurrentPolicy().UserQuota, "the rest is as it was")
	require.Empty(t, idle.CurrentPolicy().Alternates)
	relay, err := (&turn.Client{Server: addr, Username: "alice", Password: "wonder"}).Allocate(ctx, nil)
	require.NoError(t, err)
	defer relay.Close()
	require.Equal(t, 1, allocations(idle))
	require.Zero(t, allocations(busy))
	load, draining := Load(idle, 10)()
	require.InDelta(t, 0.1, load, 0.001)
	require.False(t, draining)
}
