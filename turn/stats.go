package turn

import (
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// A Traffic counts packets and their bytes of payload.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (t *Traffic) count(n int) {
	t.Packets++
	t.Bytes += uint64(n)
}

func (t *Traffic) add(o Traffic) {
	t.Packets += o.Packets
	t.Bytes += o.Bytes
}

// Usage is what has been relayed. Of TCP (RFC 6062) a packet is what one read
// gave.
type Usage struct {
	FromClient Traffic `json:"fromClient"` // data for peers
	ToPeer     Traffic `json:"toPeer"`     // of that, what was sent on
	FromPeer   Traffic `json:"fromPeer"`
	ToClient   Traffic `json:"toClient"`
	Dropped    uint64  `json:"dropped"` // packets, either way
}

func (u *Usage) add(o *Usage) {
	u.FromClient.add(o.FromClient)
	u.ToPeer.add(o.ToPeer)
	u.FromPeer.add(o.FromPeer)
	u.ToClient.add(o.ToClient)
	u.Dropped += o.Dropped
}

// LogValue makes a group of it.
func (u Usage) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Uint64("fromClientPackets", u.FromClient.Packets), slog.Uint64("fromClientBytes", u.FromClient.Bytes),
		slog.Uint64("toPeerPackets", u.ToPeer.Packets), slog.Uint64("toPeerBytes", u.ToPeer.Bytes),
		slog.Uint64("fromPeerPackets", u.FromPeer.Packets), slog.Uint64("fromPeerBytes", u.FromPeer.Bytes),
		slog.Uint64("toClientPackets", u.ToClient.Packets), slog.Uint64("toClientBytes", u.ToClient.Bytes),
		slog.Uint64("dropped", u.Dropped))
}

// A dropReason is why packets ended here.
type dropReason uint8

const (
	dropMalformed           dropReason = iota // neither STUN, ChannelData nor DTLS, or not well-formed
	dropNoAllocation                          // data of a client without an allocation
	dropNoChannel                             // a channel that is not bound
	dropNoPermission                          // a peer without permission, either way
	dropPeerDenied                            // a peer that the policy denies
	dropRateToPeer                            // over the bandwidth
	dropRateToClient                          //
	dropRateUnauthenticated                   // errors for one source
	dropRateBinding                           // Binding answers for one source
	dropAuthorizerBusy                        // Auth has MaxAuthorizing questions
	dropRepeated                              // a request that is being answered
	dropSlowClient                            // a stream that does not keep up
	dropNoClient                              // a moving client without a connection
	dropWaiting                               // a connection, not a packet: too many are without an allocation
	dropTTL                                   // the time to live is over
	dropSend                                  // the system did not take it
	dropReasons                               // how many
)

var dropNames = [dropReasons]string{
	"malformed", "no-allocation", "no-channel", "no-permission", "peer-denied", "rate-to-peer", "rate-to-client",
	"rate-unauthenticated", "rate-binding", "authorizer-busy", "repeated", "slow-client", "no-client", "waiting", "ttl", "send",
}

// authorizeBounds are the upper bounds of Stats.Authorize, but the last.
var authorizeBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// serverStats counts what belongs to no session. Nothing of it is touched by
// data that flows as it should.
type serverStats struct {
	drops         [dropReasons]atomic.Uint64
	codes         [700 - 300]atomic.Uint32 // error answers
	bindings      atomic.Uint64
	authorize     [len(authorizeBounds) + 1]atomic.Uint64
	authorizeTime atomic.Int64
}

func (s *serverStats) drop(why dropReason, n uint64) { s.drops[why].Add(n) }

func (s *serverStats) refused(code int) {
	if code >= 300 && code < 700 {
		s.codes[code-300].Add(1)
	}
}

func (s *serverStats) authorized(took time.Duration) {
	i := 0
	for i < len(authorizeBounds) && took > authorizeBounds[i] {
		i++
	}
	s.authorize[i].Add(1)
	s.authorizeTime.Add(int64(took))
}

// Stats is what a Server has done so far. Everything counts while sessions
// live, not when they end.
type Stats struct {
	Allocations map[string]int        `json:"allocations"` // live, by the transport of the client
	Realms      map[string]RealmStats `json:"realms"`
	Bindings    uint64                `json:"bindings"` // requests
	Errors      map[int]uint64        `json:"errors"`   // error answers by code
	Drops       map[string]uint64     `json:"drops"`    // packets by reason
	Authorize   Histogram             `json:"authorize"`
	Draining    bool                  `json:"draining"`
}

// RealmStats is what a realm's sessions have done, those that live included.
type RealmStats struct {
	Live  int    `json:"live"`  // allocations now
	Total uint64 `json:"total"` // allocations so far
	Usage Usage  `json:"usage"`
}

// A Histogram counts how long something took.
type Histogram struct {
	Bounds []time.Duration `json:"bounds"` // upper ones; the last of Counts has none
	Counts []uint64        `json:"counts"`
	Sum    time.Duration   `json:"sum"`
}

// Stats returns what the server has done so far. It looks at every allocation:
// ask every few seconds, not for every packet.
func (s *Server) Stats() Stats {
	st := Stats{
		Allocations: make(map[string]int),
		Realms:      make(map[string]RealmStats),
		Errors:      make(map[int]uint64),
		Drops:       make(map[string]uint64),
		Bindings:    s.stats.bindings.Load(),
		Authorize: Histogram{
			Bounds: slices.Clone(authorizeBounds[:]),
			Sum:    time.Duration(s.stats.authorizeTime.Load()),
		},
	}
	for i := range s.stats.codes {
		if n := s.stats.codes[i].Load(); n > 0 {
			st.Errors[300+i] = uint64(n)
		}
	}
	for i := range s.stats.drops {
		st.Drops[dropNames[i]] = s.stats.drops[i].Load()
	}
	for i := range s.stats.authorize {
		st.Authorize.Counts = append(st.Authorize.Counts, s.stats.authorize[i].Load())
	}
	s.mu.Lock()
	st.Draining = s.draining
	realms := slices.Collect(maps.Values(s.realms))
	s.mu.Unlock()
	for _, name := range transportNames {
		st.Allocations[name] = 0
	}
	live := make(map[*realm]*Usage)
	for a := range s.Allocations() {
		a.mu.Lock()
		u := live[a.realm]
		if u == nil {
			u = new(Usage)
			live[a.realm] = u
		}
		u.add(&a.usage)
		st.Allocations[a.transport().String()]++
		a.mu.Unlock()
	}
	for _, r := range realms {
		r.mu.Lock()
		rs := RealmStats{Live: r.live, Total: r.made, Usage: r.past}
		r.mu.Unlock()
		if u := live[r]; u != nil {
			rs.Usage.add(u)
		}
		st.Realms[r.name] = rs
	}
	return st
}
