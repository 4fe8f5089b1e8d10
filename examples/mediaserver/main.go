// Mediaserver is a live media server in one command. Started without arguments
// it publishes a demo stream and serves a page that plays it:
//
//	go run ./examples/mediaserver
//
// Publish with ffmpeg or OBS to rtmp://localhost:1935/live/NAME, and watch
// NAME on the page, at rtmp://localhost:1935/live/NAME, or at
// http://localhost:8080/live/NAME.flv.
//
// Without -publish-token only this machine may publish; playing is open. Every
// flag can be set by the environment too: -write-interval by
// RUNNEL_WRITE_INTERVAL.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func main() {
	// What lives here is windows of media, which do not grow: collecting at an
	// eighth of the usual growth costs little and keeps a player's share small.
	debug.SetGCPercent(12)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "mediaserver:", err)
		}
		os.Exit(1)
	}
}

type options struct {
	rtmp, rtmps, http, https string
	certificates             tlsOptions
	pprof                    string
	publishToken             string
	writeInterval            time.Duration
	hls                      deliver.HLS
	hlsDir                   string
	record                   recordOptions
	transcode                transcodeOptions
	gopCache                 bool
	demo                     bool
	logLevel                 slog.LevelVar
	api                      apiOptions
	hooks                    hookOptions
	auth                     authOptions
	srt                      srtOptions
	webrtc                   webrtcOptions
	relay                    relayOptions
	cluster                  clusterOptions
	placement                placementOptions
}

func (o *options) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("mediaserver", flag.ContinueOnError)
	fs.StringVar(&o.rtmp, "rtmp", ":1935", "address for RTMP, publishers and players; empty: off")
	fs.StringVar(&o.rtmps, "rtmps", ":1936", "address for RTMPS; only with -cert or -autocert")
	fs.StringVar(&o.http, "http", ":8080", "address for HTTP; empty: off")
	fs.StringVar(&o.https, "https", "", "address for HTTPS; only with -cert or -autocert")
	o.certificates.flags(fs)
	fs.DurationVar(&o.writeInterval, "write-interval", 40*time.Millisecond, "longest time, and a sixteenth, that a player's data is held back for batching")
	fs.BoolVar(&o.gopCache, "gop-cache", true, "let players start at the last key frame instead of the next")
	fs.StringVar(&o.publishToken, "publish-token", "", "what publishers must send as token=…; empty: only this machine may publish")
	fs.BoolVar(&o.demo, "demo", true, "publish a demo stream as live/demo")
	fs.DurationVar(&o.hls.Segment, "hls-segment", 2*time.Second, "shortest HLS segment; they begin with key frames")
	fs.DurationVar(&o.hls.Part, "hls-part", 200*time.Millisecond, "HLS partial segment; negative: none, and no low latency")
	fs.DurationVar(&o.hls.Window, "hls-window", 30*time.Second, "how far back HLS players can seek")
	fs.StringVar(&o.hlsDir, "hls-dir", "", "directory to store HLS in, for good, for any file server; empty: in memory only")
	fs.DurationVar(&o.hls.Keep, "hls-keep", 0, "how long HLS is kept in -hls-dir after its stream has ended; 0: for good")
	fs.Func("hls-audio", "codec of the sound in HLS and DASH: empty for the one that is published, or aac, for Safari and old players of what comes by WebRTC", func(v string) error {
		if v == "" {
			o.hls.Audio = 0
			return nil
		}
		if err := o.hls.Audio.UnmarshalText([]byte(v)); err != nil || o.hls.Audio != stream.AAC && o.hls.Audio != stream.Opus {
			return errors.New("must be aac or opus")
		}
		return nil
	})
	fs.Func("hls-key", "encryption of HLS segments: empty for none, or aes-128, with a new key every ten segments", func(v string) error {
		if v != "" && v != "aes-128" {
			return errors.New("the only encryption is aes-128")
		}
		o.hls.Encrypt = v != ""
		return nil
	})
	o.record.flags(fs)
	o.transcode.flags(fs)
	fs.StringVar(&o.pprof, "pprof", "", "address for net/http/pprof, for those who measure; empty: off")
	o.api.flags(fs)
	o.hooks.flags(fs)
	o.auth.flags(fs)
	o.srt.flags(fs)
	o.webrtc.flags(fs)
	o.relay.flags(fs)
	o.cluster.flags(fs)
	o.placement.flags(fs)
	fs.TextVar(&o.logLevel, "log-level", &slog.LevelVar{}, "debug, info, warn or error")
	return fs
}

func parse(args []string) (*options, error) {
	var o options
	if err := config.Parse(o.flags(), args); err != nil {
		return nil, err
	}
	if err := o.hooks.parse(); err != nil {
		return nil, fmt.Errorf("-hook-url: %w", err)
	}
	if err := o.srt.check(); err != nil {
		return nil, err
	}
	if err := o.certificates.check(o.https); err != nil {
		return nil, err
	}
	if err := o.cluster.check(&o); err != nil {
		return nil, err
	}
	if err := o.placement.check(o.cluster.on()); err != nil {
		return nil, err
	}
	return &o, nil
}

// grace is how long players stay when a publisher goes, for it may come back.
const grace = 5 * time.Second

// run serves until ctx ends, then drains and returns nil.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &o.logLevel}))
	hub := &stream.Hub{Log: log, Cache: stream.Cache{Off: !o.gopCache}, Grace: grace, Segment: o.hls.Segment}
	defer hub.Close()
	relaying, err := o.relay.open(hub, o, log)
	if err != nil {
		return err
	}
	leave, err := o.cluster.open(relaying.Relay, hub, o, log)
	if err != nil {
		return err
	}
	defer leave()
	o.placement.apply(relaying.Relay)
	if err := o.auth.open(ctx, log); err != nil {
		return err
	}
	own, err := o.api.declared(hub, o.auth.authorizer(allow{publishToken: o.publishToken, hooks: o.hooks.decidesPublish()}, &o.api.users))
	if err != nil {
		return err
	}
	authorizer, stopHooks := o.hooks.start(o, hub, o.auth.everybody(own), log)
	defer stopHooks()
	authorizer = relaying.start(ctx, o.auth.trail.Authorizer(authorizer), o.hooks.asker())
	defer relaying.stop()
	in := &ingest.Server{Hub: hub, Auth: authorizer, Log: log, Limits: &o.auth.limits}
	o.srt.configure(in)
	out := &deliver.Server{Hub: hub, Auth: authorizer, Log: log, Limits: &o.auth.limits, WriteInterval: o.writeInterval, Wait: time.Second, HLS: o.hls}
	if hub.Source != nil {
		out.Wait = fetchWait
	}
	if o.hlsDir != "" {
		// A file server of the same group may read it.
		dir := &record.Dir{Path: o.hlsDir, FileMode: 0o640, DirMode: 0o750}
		defer dir.Close()
		out.HLS.Storage = dir
	}
	go func() { _ = out.Run(ctx) }() // ends with ctx
	recording, err := o.record.start(ctx, hub, o.auth.trail, log)
	if err != nil {
		return err
	}
	defer recording.stop()
	transcoding, err := o.transcode.start(ctx, hub, authorizer, log)
	if err != nil {
		return err
	}
	defer transcoding.stop()
	defer startAudio(ctx, hub, log)()

	s := &servers{failed: make(chan error, 8), wrap: o.auth.listener}
	defer s.close()
	tlsConfig, err := o.tls(log)
	if err != nil {
		return err
	}
	if err := s.listen("RTMP", o.rtmp, nil, func(l net.Listener) error { return in.ServeRTMP(l, out) }); err != nil {
		return err
	}
	if err := o.srt.start(s, in, out); err != nil {
		return err
	}
	offers, stopWebRTC, err := o.webrtc.start(s, in, out, log)
	if err != nil {
		return err
	}
	defer stopWebRTC()
	web := &http.Server{Handler: relaying.routes(offers(transcoding.routes(recording.routes(routes(hub, in, out, o))))), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	if err := o.api.start(ctx, o, hub, recording, transcoding, s, web, log); err != nil {
		return err
	}
	web.Handler = o.certificates.routes(o.auth.handler(web.Handler))
	if err := s.listen("HTTP", o.http, nil, web.Serve); err != nil {
		return err
	}
	if tlsConfig != nil {
		if err := s.listen("RTMPS", o.rtmps, tlsConfig, func(l net.Listener) error { return in.ServeRTMP(l, out) }); err != nil {
			return err
		}
		h2 := tlsConfig.Clone()
		h2.NextProtos = o.certificates.protocols()
		if err := s.listen("HTTPS", o.https, h2, web.Serve); err != nil {
			return err
		}
	}
	if err := s.listen("pprof", o.pprof, nil, servePprof); err != nil {
		return err
	}
	if o.demo && hub.Source == nil { // an edge has its origin's, and a cluster would have one too many
		go demo(ctx, hub, log)
	}
	o.greet(stdout)

	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
	}
	log.Info("draining")
	o.placement.empty(relaying.Relay, log)
	drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	in.Shutdown(drain)
	out.Shutdown(drain)
	web.Shutdown(drain)
	return nil
}

func (o *options) tls(log *slog.Logger) (*tls.Config, error) {
	c, err := o.certificates.config(log)
	if c == nil || err != nil {
		return nil, err
	}
	roots, err := o.auth.roots()
	if err != nil {
		return nil, err
	}
	if roots != nil {
		c.ClientCAs, c.ClientAuth = roots, tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// servers are the listeners of this process.
type servers struct {
	listeners []net.Listener
	wrap      func(net.Listener) net.Listener // below TLS
	failed    chan error
}

// listen opens addr, unless it is empty, and serves it in the background.
func (s *servers) listen(what, addr string, config *tls.Config, serve func(net.Listener) error) error {
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if s.wrap != nil {
		l = s.wrap(l)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	s.listeners = append(s.listeners, l)
	go func() {
		if err := serve(l); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", what, err)
		}
	}()
	return nil
}

func (s *servers) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// demo publishes live/demo, a moving picture and a tone, until ctx ends.
func demo(ctx context.Context, hub *stream.Hub, log *slog.Logger) {
	if err := (&streamtest.Source{}).Run(ctx, hub, "live/demo"); err != nil && ctx.Err() == nil {
		log.Warn("demo stream", "err", err)
	}
}

// greet says where to go.
func (o *options) greet(w io.Writer) {
	if o.http != "" {
		fmt.Fprintf(w, "Watch    http://%s/\n", local(o.http))
		if o.demo && !o.cluster.on() {
			fmt.Fprintf(w, "         http://%s/live/demo.flv   (ffplay, VLC)\n", local(o.http))
			fmt.Fprintf(w, "         http://%s/live/demo.m3u8  (Safari, hls.js)\n", local(o.http))
		}
	}
	if o.rtmp != "" {
		token := ""
		if o.publishToken != "" {
			token = "?token=…"
		}
		fmt.Fprintf(w, "Publish  rtmp://%s/live/NAME%s\n", local(o.rtmp), token)
		fmt.Fprintf(w, "         ffmpeg -re -i FILE -c copy -f flv rtmp://%s/live/NAME%s\n", local(o.rtmp), token)
	}
	if o.srt.addr != "" {
		fmt.Fprintf(w, "         srt://%s?streamid=#!::r=live/NAME,m=publish\n", local(o.srt.addr))
	}
	if o.publishToken == "" && o.auth.file == "" && !o.hooks.decidesPublish() {
		fmt.Fprintln(w, "Without -publish-token only this machine may publish.")
	}
}

// local is how this machine reaches a listen address.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
