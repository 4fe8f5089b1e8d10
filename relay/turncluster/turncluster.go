// Package turncluster makes the TURN servers of a cluster share their clients:
// one that is busier than others, or drains, sends new clients to those
// (ALTERNATE-SERVER, RFC 8489 Section 10), which it knows from the relay.Registry
// that media servers have too.
//
//	members := &relay.Relay{
//		Hub: &stream.Hub{}, Registry: registry, TURN: []netip.AddrPort{public},
//		Load: turncluster.Load(server, 20_000),
//	}
//	go members.Run(ctx)
//	err := (&turncluster.Spread{Server: server, Relay: members}).Run(ctx)
//
// Servers that send clients to each other should share what clients present:
// users or secrets (turn.Server.Auth), and turn.Server.NonceSecret, which saves a
// client a round trip.
package turncluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/turn"
)

// A Spread keeps the Alternates of a TURN server's Policy at what the cluster has.
// They are its own: what else is set there is replaced. Clients over TLS and DTLS
// stay where they are. Set its fields before Run.
type Spread struct {
	Server *turn.Server
	Relay  *relay.Relay // whose Run runs, with TURN and Load

	// Margin is by how much the load has to exceed the least in the cluster
	// before clients are sent away; default 0.1. Servers that are within it of
	// each other keep their clients, so that none are sent in circles.
	Margin float64
	// Every is how often the cluster is looked at; default 1 s.
	Every time.Duration
}

// Load returns a relay.Relay's Load: what share of capacity, a number of
// allocations, the server has, and whether it is shutting down.
func Load(s *turn.Server, capacity int) func() (load float64, draining bool) {
	return func() (float64, bool) {
		stats := s.Stats()
		n := 0
		for _, k := range stats.Allocations {
			n += k
		}
		return float64(n) / float64(max(capacity, 1)), stats.Draining
	}
}

// Run follows the cluster until ctx ends, and returns nil then.
func (s *Spread) Run(ctx context.Context) error {
	tick := time.NewTicker(cmp.Or(s.Every, time.Second))
	defer tick.Stop()
	for {
		want := alternates(s.Relay.Members(), cmp.Or(s.Margin, 0.1))
		if now := s.Server.CurrentPolicy(); !slices.Equal(now.Alternates, want) {
			next := *now
			next.Alternates = want
			s.Server.SetPolicy(&next)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// shares is how finely weights tell servers apart: one that fills slowly does not
// change everybody's policy all the time.
const shares = 8

// alternates returns where clients go instead of the member that is Self: to the
// least loaded and those near it, by the room that they have.
func alternates(members []relay.Member, margin float64) (list []turn.Alternate) {
	var self *relay.Member
	least := 1.0 // who is full takes nobody
	fits := func(m *relay.Member) bool { return !m.Self && !m.Draining && len(m.TURN) > 0 && m.Load < 1 }
	for i := range members {
		switch m := &members[i]; {
		case m.Self:
			self = m
		case fits(m):
			least = min(least, m.Load)
		}
	}
	if self == nil || !self.Draining && self.Load <= least+margin {
		return nil
	}
	for i := range members {
		m := &members[i]
		if !fits(m) || m.Load > least+margin/2 {
			continue
		}
		weight := 1 + int((1-max(m.Load, 0))*shares)
		for _, at := range m.TURN {
			// TLS and DTLS have a port of their own, which is not announced.
			for _, transport := range []string{"udp", "tcp"} {
				list = append(list, turn.Alternate{Server: at, Weight: weight, Transport: transport})
			}
		}
	}
	return list
}
