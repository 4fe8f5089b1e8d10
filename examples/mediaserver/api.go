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
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/console"
	"github.com/runnel-media/runnel/api/declared"
	"github.com/runnel-media/runnel/api/mediaapi"
	"github.com/runnel-media/runnel/api/mediaprom"
	"github.com/runnel-media/runnel/api/prom"
	"github.com/runnel-media/runnel/api/recordapi"
	"github.com/runnel-media/runnel/api/relayapi"
	"github.com/runnel-media/runnel/api/srsapi"
	"github.com/runnel-media/runnel/api/tokens"
	"github.com/runnel-media/runnel/api/turnapi"
	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
)

// apiOptions are the flags that begin with -api, and -metrics.
type apiOptions struct {
	tokens   config.List
	insecure bool
	srs      bool
	metrics  string
	series   int    // streams that have some
	state    string // directory; "": nothing is kept
	only     bool   // what is declared may be published

	tokenStore tokens.Store
	users      users.Store
	authorizer declared.Authorizer
}

func (o *apiOptions) flags(fs *flag.FlagSet) {
	fs.Var(&o.tokens, "api-token", `what callers of the API must send as "Authorization: Bearer …": SECRET or ROLE:SECRET or ROLE:sha256:HEX, ROLE one of viewer, operator, admin; may be repeated; none: only this machine may call`)
	fs.BoolVar(&o.insecure, "api-insecure", false, "take -api-token over plain HTTP from other machines too")
	fs.BoolVar(&o.srs, "api-srs", false, "answer SRS's /api/v1 as well")
	fs.StringVar(&o.state, "api-state", "", "directory that keeps what the API changes: users and tokens, of which it has hashes, and declared streams; empty: streams are forgotten, and there are no tokens but -api-token, and no users but those of -auth")
	fs.BoolVar(&o.only, "declared-only", false, "let nobody publish a stream that was not declared by the API")
	fs.IntVar(&o.series, "metrics-streams", 1000, "streams that have metrics of their own, the oldest; negative: none")
	fs.StringVar(&o.metrics, "metrics", "", "address for Prometheus metrics, open to whoever reaches it; empty: only /metrics beside the API, for its callers")
}

// gate makes the flags' gate, and refuses those that would send tokens in the
// clear.
func (o *apiOptions) gate(at *options, log *slog.Logger) (*access.Gate, error) {
	who := &callers{store: &o.tokenStore, users: &o.users, auth: &at.auth}
	for _, s := range o.tokens {
		t, err := access.ParseToken(s)
		if err != nil {
			return nil, fmt.Errorf("-api-token: %w", err)
		}
		who.fixed = append(who.fixed, t)
	}
	if !who.Empty() && at.http != "" && at.https == "" && !o.insecure && !loopback(at.http) {
		return nil, errors.New("tokens of the API would be sent in the clear: take -https, or -http on a loopback address, or -api-insecure")
	}
	return &access.Gate{Auth: who, Insecure: o.insecure, Basic: o.srs || at.auth.file != "" || o.state != "", Log: log, Trail: at.auth.trail}, nil
}

// callers are all who may call the API.
type callers struct {
	fixed access.Tokens // -api-token
	store *tokens.Store
	users *users.Store
	auth  *authOptions
}

// Empty reports whether there are none, now; see access.Gate.
func (c *callers) Empty() bool {
	return len(c.fixed) == 0 && c.store.Empty() && !c.users.Callers() && !c.auth.hasRole()
}

func (c *callers) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	return auth.Any(c.fixed, c.store, auth.Func(c.auth.caller)).Authorize(ctx, r)
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

// declared reads what the API has changed before, and lets be published what was
// declared as it says; next decides about the rest.
func (o *apiOptions) declared(hub *stream.Hub, next auth.Authorizer) (auth.Authorizer, error) {
	o.authorizer.Hub, o.authorizer.Next = hub, next
	o.authorizer.Only.Store(o.only)
	if o.state == "" {
		return &o.authorizer, nil
	}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return nil, err
	}
	o.tokenStore.Path = filepath.Join(o.state, "tokens.json")
	o.users.Path = filepath.Join(o.state, "users.json")
	return &o.authorizer, errors.Join(o.declarations().Load(hub), o.tokenStore.Load(), o.users.Load())
}

func (o *apiOptions) declarations() *declared.File {
	return &declared.File{Path: filepath.Join(o.state, "streams.json")}
}

// start puts the API before what web serves, and serves -metrics. It ends with
// ctx, its connections with web's.
func (o *apiOptions) start(ctx context.Context, at *options, hub *stream.Hub, rec *recording, made *transcoding, s *servers, web *http.Server, log *slog.Logger) error {
	gate, err := o.gate(at, log)
	if err != nil {
		return err
	}
	figures := &mediaprom.Media{Hub: hub, Limits: &at.auth.limits, MaxStreams: o.series}
	if at.srt.server != nil {
		figures.Also = append(figures.Also, mediaprom.SRT{Server: at.srt.server, MaxStreams: o.series})
	}
	if t := at.webrtc.relay; t != nil {
		figures.Also = append(figures.Also, &prom.TURN{Server: t})
	}
	go func() { _ = figures.Run(ctx) }() // ends with ctx
	metrics := figures.Handler()
	started := time.Now()
	media := &mediaapi.Handler{
		Hub: hub, Gate: gate, Name: "mediaserver", Started: started, LogLevel: &at.logLevel, Limits: &at.auth.limits, FixedUsers: at.auth.users,
		Settings: map[string]mediaapi.Setting{
			"declared_only": mediaapi.Live(o.authorizer.Only.Load, func(only bool) error { o.authorizer.Only.Store(only); return nil }),
			"log_level":     mediaapi.Live(at.logLevel.Level, func(l slog.Level) error { at.logLevel.Set(l); return nil }),
		},
	}
	if o.state != "" {
		media.Tokens, media.Users, media.Declarations = &o.tokenStore, &o.users, o.declarations()
	}
	web.RegisterOnShutdown(func() { _ = media.Close() })
	h := &api.Handler{
		Gate:    gate,
		Media:   media,
		Metrics: gate.Guard(access.Viewer, metrics),
		Console: console.Handler(),
		Ready:   func(context.Context) error { return ctx.Err() }, // it drains
	}
	if made != nil && made.pictures != nil {
		media.Snapshot = func(ctx context.Context, name string) ([]byte, error) {
			p, err := made.pictures.Picture(ctx, name, transcode.JPEG)
			if err != nil {
				return nil, err
			}
			return p.Data, nil
		}
	}
	if rec != nil {
		h.Record = &recordapi.Handler{Gate: gate, Library: rec.files.Library, Recorder: rec.recorder, PlayURL: rec.playURL}
	}
	if r := at.relay.relaying; r != nil {
		h.Relay = &relayapi.Handler{Gate: gate, Relay: r.Relay}
	}
	if t := at.webrtc.relay; t != nil {
		turns := &turnapi.Handler{Server: t, Gate: gate}
		h.TURN = turns
		media.Events = append(media.Events, mediaapi.EventSource{Kinds: turnapi.EventKinds(), Listen: turns.Events})
	}
	if o.srs {
		srs := &srsapi.Handler{Hub: hub, Gate: gate, Started: started}
		if c := at.hooks.calls; c != nil { // the same in both, as SRS has it
			srs.ServerID, srs.ServiceID = c.ServerID, c.ServiceID
		}
		h.SRS = srs
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

// playURL is where a recording can be played for an hour or two: it changes once
// an hour, so that what has it can be kept meanwhile.
func (r *recording) playURL(i *record.Info) string {
	name := (&url.URL{Path: "/recordings/" + i.Name}).EscapedPath()
	return name + "?" + r.files.Sign(i.Name, time.Now().Truncate(time.Hour).Add(2*time.Hour))
}
