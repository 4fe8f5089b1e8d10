package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/relay"
)

// placementOptions are the flags about who goes to which server of a cluster.
type placementOptions struct {
	redirect, edge bool
	public         config.List
	capacity       int
	drain          time.Duration
}

func (o *placementOptions) flags(fs *flag.FlagSet) {
	fs.BoolVar(&o.redirect, "redirect", false, "send clients over RTMP, HTTP and WebRTC to the server of the cluster that has the stream, or has room, instead of serving all that come")
	fs.Var(&o.public, "public", "where clients reach this server, such as https://edge1.example or rtmp://edge1.example; one for each scheme, repeatable; without one clients of that scheme are sent to this server by no other")
	fs.BoolVar(&o.edge, "edge", false, "be there for players: publishers are sent to other servers of the cluster, players here first")
	fs.IntVar(&o.capacity, "capacity", 5000, "publishers and players that make this server full, from when on new ones are sent to others of the cluster")
	fs.DurationVar(&o.drain, "drain-time", 20*time.Second, "how long a server of a cluster that is to end may take to hand over its streams and clients")
}

// check says what does not go together.
func (o *placementOptions) check(cluster bool) error {
	if !cluster && (o.redirect || o.edge || len(o.public) > 0) {
		return errors.New("-redirect, -edge and -public are for a -cluster")
	}
	_, err := o.urls()
	return err
}

// urls returns -public by scheme.
func (o *placementOptions) urls() (map[string]string, error) {
	public := make(map[string]string)
	for _, s := range o.public {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" {
			return nil, fmt.Errorf("-public: %q is no scheme://host", s)
		}
		switch u.Scheme {
		case "rtmp", "rtmps", "http", "https":
			public[u.Scheme] = u.Scheme + "://" + u.Host
		default:
			return nil, fmt.Errorf("-public: clients of %q follow no redirect", u.Scheme)
		}
	}
	return public, nil
}

// apply has a relay, that does not run yet, place clients.
func (o *placementOptions) apply(r *relay.Relay) {
	r.Redirect, r.Edge = o.redirect, o.edge
	r.Public, _ = o.urls() // check has seen them
	r.Load = relay.SessionLoad(r.Hub, o.capacity)
}

// empty hands over what a server of a cluster has, when it is to end.
func (o *placementOptions) empty(r *relay.Relay, log *slog.Logger) {
	if r.Registry == nil || len(r.Servers()) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.drain)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		log.Warn("some clients could not be handed over", "err", err)
	}
}
