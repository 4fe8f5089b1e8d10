// Package relay copies streams between servers: it pulls them from an origin
// for good or while somebody watches, pushes them to other servers, and
// answers the servers that pull from this one and push to it.
//
//	r := &relay.Relay{Hub: hub, Origins: []string{"rtmp://origin.example"}}
//	hub.Source = r        // before the hub's first use: an edge
//	err := r.Run(ctx)     // forwards what is published here, see Forward
//
// An edge has its streams in its own hub like any other, so that one pull
// feeds the players of every protocol.
//
// # URLs
//
// rtmp and rtmps URLs are those of any RTMP server; http and https ones are
// HTTP-FLV, read by GET and written by POST; runnel and runnels ones are this
// package's own protocol (docs/relay-protocol.md) over HTTP and HTTPS, which
// keeps timestamps and capture times as they are. Programs add others by
// Relay.Transports.
//
// In the URLs of Origins and Forward {stream} stands for the hub key, {name} for
// what follows its last slash and {app} for what is before it; a URL without a
// path gets the key for one.
//
// # Loops
//
// A relay tells the server that it asks which servers the question went
// through, itself included, and Guard refuses what has been here before.
//
// # Clusters
//
// Servers that share a Registry know of each other's streams and loads. Any of
// them serves any stream, by fetching it from the one that has its publisher;
// Relay.Redirect sends clients there instead, and Relay.Drain empties a server.
package relay

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

// Errors that callers branch on.
var (
	ErrLoop   = fmt.Errorf("relay: the stream has been here before: %w", auth.ErrDenied)
	ErrScheme = errors.New("relay: no transport for the scheme of the URL")
)

// A Relay copies streams between servers. Set its fields before first use; all
// methods may be called from many goroutines at once.
type Relay struct {
	Hub *stream.Hub
	Log *slog.Logger // nil: slog.Default()

	// ID is this server's in hop lists: unique among those that relay to each
	// other, of letters, digits, "-", "." and "_". "": a random one.
	ID string

	// Origins are where Fetch looks for streams, and where Run sends those
	// that are published here if PublishToOrigin is set. A stream's first
	// choice is always the same while all of them answer.
	Origins         []string
	PublishToOrigin bool

	Forward []Rule // what Run sends where

	// Ask says where a stream is to go beside that, as hooks.Callbacks.Forward
	// does. The session is its publisher's; it may be zero but for Stream.
	Ask func(ctx context.Context, publisher stream.SessionInfo) ([]string, error)

	// Registry makes this server one of a cluster while Run runs: what is
	// published here is claimed there, publishers of streams that another server
	// has are refused, and so are all new ones while the registry is away; Fetch
	// asks the server that has a stream before Origins. nil: there is no cluster.
	Registry Registry
	// Advertise is where others fetch from this server, in the form of Origins:
	// "runnels://host" in general.
	Advertise string
	// Load says how busy this server is, see Server. It may be called at any
	// time, for each client that comes, and must not block. nil: idle.
	Load func() (load float64, draining bool)
	// Public and TURN are what Server has of this one. Clients of a protocol that
	// it does not have there are not sent here.
	Public map[string]string
	TURN   []netip.AddrPort
	// Edge leaves publishers to other servers, and takes players before servers
	// that are no edges.
	Edge bool
	// Redirect sends clients over RTMP, HTTP and WebRTC (WHIP, WHEP) to the server
	// of the cluster that is best for what they want: the one that has the stream,
	// one that has room, the same for a stream as long as that holds. Otherwise
	// all are served here, but for those that come while this server is full
	// (Load of 1) or drains.
	Redirect bool

	// Traverse passes the credentials of the peer on whose behalf a stream is
	// fetched from an origin, or sent there, in the query. Guard asks the
	// origin about players then.
	Traverse bool

	// Sign adds this server's own credentials to a URL that it is about to
	// use. nil: URLs have them, or need none.
	Sign func(ctx context.Context, name, url string) (string, error)

	Transports map[string]Transport // by URL scheme, in place of the built-in ones

	// Of the built-in transports. The TLS configuration is the client's; with a
	// certificate in it the other server can tell who we are.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS         *tls.Config

	Timeout     time.Duration // for connecting and for each answer; default 5 s
	IdleTimeout time.Duration // without media from a source, which is given up then; default 10 s
	MinBackoff  time.Duration // between attempts; it doubles, and half of it is random; default 200 ms
	MaxBackoff  time.Duration // default 1.5 s
	// Hold is how long a stream that was pulled is kept without its source,
	// for that may return; default 30 s.
	Hold time.Duration

	// Of ServeHTTP.
	Auth   auth.Authorizer // asked for auth.Play and auth.Publish; nil refuses everybody
	Limits *limit.Limiter  // nil: only Grants' own limits hold
	Wait   time.Duration   // how long a server that asks waits for a stream that is not live; 0: not at all

	own limit.Limiter // in place of Limits

	once       sync.Once
	id         string
	builtin    map[string]Transport
	httpClient *http.Client

	origins  health
	asked    memory
	cluster  directory
	draining atomic.Bool
	changed  chan struct{} // has room for one: what is announced is not up to date

	mu       sync.Mutex
	jobs     map[*job]struct{}
	handed   map[string]struct{}  // streams that were given up for another server to have
	promises map[string]time.Time // when a publisher was let in, by stream
}

const (
	defaultTimeout     = 5 * time.Second
	defaultIdleTimeout = 10 * time.Second
	defaultMinBackoff  = 200 * time.Millisecond
	defaultMaxBackoff  = 1500 * time.Millisecond
	defaultHold        = 30 * time.Second
)

// prepare makes what the methods share.
func (r *Relay) prepare() {
	r.once.Do(func() {
		r.id = cmp.Or(r.ID, rand.Text())
		r.changed = make(chan struct{}, 1)
		transport := &http.Transport{
			DialContext:         r.dialer(),
			TLSClientConfig:     r.TLS.Clone(),
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: r.timeout(),
			MaxIdleConnsPerHost: 2,
			IdleConnTimeout:     30 * time.Second,
		}
		r.httpClient = &http.Client{Transport: transport}
		rtmp, flv := rtmpTransport{r}, httpTransport{relay: r}
		own := httpTransport{relay: r, exact: true}
		r.builtin = map[string]Transport{
			"rtmp": rtmp, "rtmps": rtmp, "http": flv, "https": flv, "runnel": own, "runnels": own,
		}
	})
}

func (r *Relay) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	if r.DialContext != nil {
		return r.DialContext
	}
	return (&net.Dialer{Timeout: r.timeout()}).DialContext
}

// Close gives up idle connections to other servers. It ends nothing that goes
// on: that is for the contexts of the calls.
func (r *Relay) Close() error {
	r.prepare()
	r.httpClient.CloseIdleConnections()
	return nil
}

func (r *Relay) log() *slog.Logger {
	if r.Log != nil {
		return r.Log
	}
	return slog.Default()
}

func (r *Relay) timeout() time.Duration     { return or(r.Timeout, defaultTimeout) }
func (r *Relay) idleTimeout() time.Duration { return or(r.IdleTimeout, defaultIdleTimeout) }

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// Pull publishes the stream at url as name in the hub until ctx ends, and
// returns its error then. While the source is away it is tried again and
// again. Other ends: stream.ErrBusy if the name has a publisher, ErrReplaced
// and ErrKicked if somebody takes it away, ErrScheme.
func (r *Relay) Pull(ctx context.Context, name, url string) error {
	if _, err := r.transport(url); err != nil {
		return err
	}
	p := &pull{relay: r, hub: r.Hub, targets: only(url), forever: true}
	return p.run(ctx, r.begin(Pulling, name))
}

// Fetch implements stream.Source: it pulls the stream from the server of the
// cluster that has it or the first of Origins that does, and goes over to another when that fails. It returns
// when ctx ends, when none of them has had it for Hold, at once if none has it
// in the beginning.
func (r *Relay) Fetch(ctx context.Context, h *stream.Hub, name string) error {
	targets := func() []target {
		var list []target
		if owner, ok := r.Find(name); ok && owner.ID != r.id {
			list = append(list, target{url: expand(owner.URL, name)})
		}
		return append(list, r.originsOf(name)...)
	}
	if len(targets()) == 0 {
		return stream.ErrNotFound
	}
	p := &pull{relay: r, hub: h, targets: targets, onBehalf: true}
	return p.run(ctx, r.begin(Fetching, name))
}

// Push sends the stream to url until it ends, and returns nil then; or until
// ctx does. A server that fails or refuses is tried again and again. A stream
// that is not live is stream.ErrNotFound.
func (r *Relay) Push(ctx context.Context, name, url string) error {
	if _, err := r.transport(url); err != nil {
		return err
	}
	p := &push{relay: r, targets: only(url)}
	return p.run(ctx, r.begin(Pushing, name))
}
