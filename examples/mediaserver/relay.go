package main

import (
	"context"
	"crypto/tls"
	"flag"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// relayOptions are the flags about other servers.
type relayOptions struct {
	forward  config.List
	origins  config.List
	traverse bool
	id       string

	relaying *relaying // since open
}

func (o *relayOptions) flags(fs *flag.FlagSet) {
	fs.Var(&o.forward, "forward", "server to send every stream to, such as rtmp://host or https://host/app/{name}.flv; may be repeated, see docs/cluster.md")
	fs.Var(&o.origins, "origin", "server to fetch streams from that somebody wants to watch and nobody publishes here, and to send those to that are published here, such as rtmp://host or runnels://host; may be repeated")
	fs.BoolVar(&o.traverse, "origin-auth", false, "ask the -origin whether a player may play, with the player's token; publishers' tokens are passed on too")
	fs.StringVar(&o.id, "relay-id", "", "name of this server among those that relay to each other; empty: a random one")
}

// fetchWait is how long a player waits for a stream that comes from an origin.
const fetchWait = 6 * time.Second

// A relaying is what has to do with other servers.
type relaying struct {
	*relay.Relay
	cancel context.CancelFunc
	done   chan struct{}
}

// open puts a relay behind a hub that nobody uses yet.
func (o *relayOptions) open(hub *stream.Hub, at *options, log *slog.Logger) (*relaying, error) {
	r := &relay.Relay{Hub: hub, Log: log, ID: o.id, Origins: o.origins, PublishToOrigin: true, Traverse: o.traverse}
	if len(o.forward) > 0 {
		r.Forward = []relay.Rule{{URLs: o.forward}}
	}
	if len(o.origins) > 0 {
		hub.Source = r
	}
	if c := &at.certificates; c.cert != "" {
		// Origins that ask for a certificate get the one that players get.
		cert, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, err
		}
		r.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	r.Transports = transports(r.TLS, log)
	o.relaying = &relaying{Relay: r}
	return o.relaying, nil
}

// start begins to forward. The authorizer that it returns is for all servers.
func (r *relaying) start(ctx context.Context, inner auth.Authorizer, calls asker) auth.Authorizer {
	r.Auth = inner // which it guards by itself
	if calls != nil {
		r.Ask = calls.Forward
	}
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx)) // until stop: a server that drains goes on
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		_ = r.Run(ctx) // nil
	}()
	return r.Guard(inner)
}

// An asker says where a stream is to go: hooks.Callbacks.
type asker interface {
	Forward(ctx context.Context, publisher stream.SessionInfo) ([]string, error)
}

// stop waits until nothing is forwarded any more.
func (r *relaying) stop() {
	r.cancel()
	<-r.done
	_ = r.Close()
}

// routes puts the relay protocol before next.
func (r *relaying) routes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, relay.PathPrefix) {
			r.ServeHTTP(w, q)
			return
		}
		next.ServeHTTP(w, q)
	})
}
