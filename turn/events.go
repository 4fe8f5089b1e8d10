package turn

import (
	"context"
	"iter"
	"net/netip"
	"time"
)

// An Event is something that happened to a session. See the types that
// implement it.
type Event interface{ event() }

// A Session is whom an Event is about.
type Session struct {
	ID        uint64            `json:"id"`
	Realm     string            `json:"realm"`
	User      string            `json:"user"`
	Labels    map[string]string `json:"labels,omitempty"` // of the grant; not to be changed
	Transport string            `json:"transport"`        // of the client
	Client    netip.AddrPort    `json:"client"`
	Server    netip.AddrPort    `json:"server"`
	Network   string            `json:"network"` // of the relayed addresses: "udp" or "tcp"
	Relayed   []netip.AddrPort  `json:"relayed"`
}

// Session is the part that events carry.
func (i AllocationInfo) Session() Session {
	return Session{
		ID: i.ID, Realm: i.Realm, User: i.User, Labels: i.Labels, Transport: i.Transport,
		Client: i.Client, Server: i.Server, Network: i.Network, Relayed: i.Relayed,
	}
}

// AllocationCreated: a session began.
type AllocationCreated struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
	Expires time.Time `json:"expires"`
}

// AllocationFailed: a client that is known did not get an allocation.
type AllocationFailed struct {
	Time   time.Time      `json:"time"`
	Realm  string         `json:"realm"`
	User   string         `json:"user"`
	Client netip.AddrPort `json:"client"`
	Code   int            `json:"code"` // of the error answer
}

// AllocationRefreshed: a client asked for more time.
type AllocationRefreshed struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
	Expires time.Time `json:"expires"`
}

// AllocationMoved: a client came with a new address (RFC 8016), and used it.
type AllocationMoved struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
}

// AllocationEnded: a session is over.
type AllocationEnded struct {
	Time    time.Time `json:"time"`
	Session Session   `json:"session"`
	Reason  EndReason `json:"reason"`
	Usage   Usage     `json:"usage"`
}

// EventsLost: the listener was too slow for Count events.
type EventsLost struct {
	Time  time.Time `json:"time"`
	Count int       `json:"count"`
}

func (AllocationCreated) event()   {}
func (AllocationFailed) event()    {}
func (AllocationRefreshed) event() {}
func (AllocationMoved) event()     {}
func (AllocationEnded) event()     {}
func (EventsLost) event()          {}

// An EndReason is why a session ended.
type EndReason string

// The reasons.
const (
	EndRefreshed    EndReason = "refresh"      // the client said so: Refresh with a LIFETIME of 0
	EndExpired      EndReason = "expired"      // it was not refreshed
	EndCredential   EndReason = "credential"   // what Auth granted has run out
	EndDisconnected EndReason = "disconnected" // the client's connection ended
	EndClosed       EndReason = "closed"       // Allocation.Close
	EndServerClosed EndReason = "server"       // the server, or its socket, was closed
	EndFailed       EndReason = "failed"       // the relay socket could not be read
)

// Events returns the events from now on, in order, until ctx ends or the server
// is closed. The server never waits for a listener: one that is too slow gets
// EventsLost. The sequence can be ranged over once.
func (s *Server) Events(ctx context.Context) iter.Seq[Event] {
	return s.events.Listen(ctx, func(n int) Event { return EventsLost{Time: time.Now(), Count: n} })
}
