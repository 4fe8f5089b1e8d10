package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// ErrClaimed says that another server has the stream's publisher. It is a
// stream.ErrBusy.
var ErrClaimed = fmt.Errorf("relay: another server has the stream: %w", stream.ErrBusy)

// ErrUnknown says that a Registry does not know the server that claims, or no
// more: it has to be announced first.
var ErrUnknown = errors.New("relay: the registry does not know the server")

// A Registry says which servers there are and which of them has a stream's
// publisher. All methods may be called from many goroutines at once; their
// contexts bound how long they may take.
type Registry interface {
	// Announce makes a server known, or changes what is known of it, for TTL
	// from now.
	Announce(ctx context.Context, s Server) error
	// TTL is how long an announcement holds.
	TTL() time.Duration
	// Withdraw forgets a server and its claims.
	Withdraw(ctx context.Context, id string) error

	// Claim makes the server the one that has the stream. Of several at once
	// exactly one wins; the others get ErrClaimed for as long as the server
	// that has it is known, or until the registry can tell that it is not
	// there. A claim that is the server's already holds on. The error is
	// ErrUnknown for a server that is not announced.
	Claim(ctx context.Context, server, stream string) error
	// Release gives a claim back, if it is the server's.
	Release(ctx context.Context, server, stream string) error

	// Watch yields what is known as changes, then a Change with nothing in it,
	// then each change, until ctx ends or the registry fails, with an error
	// then. Who watches too slowly is one of those who get an error.
	Watch(ctx context.Context) iter.Seq2[Change, error]
}

// A Server is one of a cluster.
type Server struct {
	ID       string  `json:"id"`                 // as Relay.ID
	URL      string  `json:"url"`                // where others fetch from, as in Relay.Origins
	Load     float64 `json:"load"`               // 0 is idle, 1 is full
	Draining bool    `json:"draining,omitempty"` // takes nothing new
	Edge     bool    `json:"edge,omitempty"`     // is for players: publishers are sent to others

	// Public is where clients reach it, by URL scheme: "https" has
	// "https://edge1.example", without a path. Clients are sent nowhere else.
	Public map[string]string `json:"public,omitempty"`
	// TURN is where its TURN server is, in the address families that it has.
	TURN []netip.AddrPort `json:"turn,omitempty"`
}

// A Change is one fact about a cluster: about a server, or about a stream.
type Change struct {
	Server *Server // not to be modified; nil: see Stream
	Stream string  // hub key; "": see Server
	Owner  string  // of Stream: ID of the server that has it
	Gone   bool    // the server or the claim is no more
}
