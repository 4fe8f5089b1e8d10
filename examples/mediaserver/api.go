package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/mediaapi"
	"github.com/runnel-media/runnel/api/mediaprom"
	"github.com/runnel-media/runnel/api/srsapi"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/stream"
)

// apiOptions are the flags that begin with -api, and -metrics.
type apiOptions struct {
	tokens   config.List
	insecure bool
	srs      bool
	metrics  string
}

func (o *apiOptions) flags(fs *flag.FlagSet) {
	fs.Var(&o.tokens, "api-token", `what callers of the API must send as "Authorization: Bearer …": SECRET or ROLE:SECRET or ROLE:sha256:HEX, ROLE one of viewer, operator, admin; may be repeated; none: only this machine may call`)
	fs.BoolVar(&o.insecure, "api-insecure", false, "take -api-token over plain HTTP from other machines too")
	fs.BoolVar(&o.srs, "api-srs", false, "answer SRS's /api/v1 as well")
	fs.StringVar(&o.metrics, "metrics", "", "address for Prometheus metrics, open to whoever reaches it; empty: only /metrics beside the API, for its callers")
}

// gate makes the flags' gate, and refuses those that would send tokens in the
// clear.
func (o *apiOptions) gate(at *options, log *slog.Logger) (*access.Gate, error) {
	g := &access.Gate{Insecure: o.insecure, Basic: o.srs, Log: log}
	if len(o.tokens) == 0 {
		return g, nil
	}
	var tokens access.Tokens
	for _, s := range o.tokens {
		t, err := access.ParseToken(s)
		if err != nil {
			return nil, fmt.Errorf("-api-token: %w", err)
		}
		tokens = append(tokens, t)
	}
	g.Auth = tokens
	if at.http != "" && at.https == "" && !o.insecure && !loopback(at.http) {
		return nil, errors.New("-api-token would be sent in the clear: take -https, or -http on a loopback address, or -api-insecure")
	}
	return g, nil
}

// loopback reports whether nobody but this machine can reach an address.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// start puts the API before what web serves, and serves -metrics. It ends with
// ctx, its connections with web's.
func (o *apiOptions) start(ctx context.Context, at *options, hub *stream.Hub, s *servers, web *http.Server, log *slog.Logger) error {
	gate, err := o.gate(at, log)
	if err != nil {
		return err
	}
	figures := &mediaprom.Media{Hub: hub}
	go func() { _ = figures.Run(ctx) }() // ends with ctx
	metrics := figures.Handler()
	started := time.Now()
	media := &mediaapi.Handler{Hub: hub, Gate: gate, Name: "mediaserver", Started: started, LogLevel: &at.logLevel}
	web.RegisterOnShutdown(func() { _ = media.Close() })
	h := &api.Handler{
		Media:   media,
		Metrics: gate.Guard(access.Viewer, metrics),
		Ready:   func(context.Context) error { return ctx.Err() }, // it drains
	}
	if o.srs {
		h.SRS = &srsapi.Handler{Hub: hub, Gate: gate, Started: started}
	}
	others := web.Handler
	web.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if api.Serves(r.URL.Path) {
			h.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
	open := &http.Server{
		Handler: &api.Handler{Metrics: metrics, Ready: h.Ready}, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s.listen("metrics", o.metrics, nil, open.Serve)
}
