package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/api/srsapi"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
)

// A server is everything that runs.
type server struct {
	set    *settings
	log    *slog.Logger
	hub    *stream.Hub
	in     *ingest.Server
	out    *deliver.Server
	failed chan error

	webrtc    *whip.Transport // nil: off
	listeners []net.Listener
	webs      []*http.Server
	dirs      []*record.Dir
	conns     atomic.Int64 // of HTTP

	following sync.WaitGroup // recorders, and who writes HLS
	unfollow  context.CancelFunc
}

// grace is how long players, and files, wait for a publisher to come back.
const grace = 3 * time.Second

// wait is how long a player of RTMP or SRT waits for a publisher. With SRS it does
// so for ever.
const wait = 30 * time.Second

// serve runs until ctx ends, and then ends all without much ado, as SRS does.
func serve(ctx context.Context, set *settings, stdout io.Writer) error {
	if set.workDir != "" {
		if err := os.Chdir(set.workDir); err != nil {
			return err
		}
	}
	log, file, err := openLog(set.log, stdout)
	if err != nil {
		return err
	}
	defer file.close()
	reopen := make(chan os.Signal, 1)
	if len(reopenSignals) > 0 {
		signal.Notify(reopen, reopenSignals...)
		defer signal.Stop(reopen)
	}
	for _, w := range set.warnings {
		log.Warn(w)
	}
	if set.pid != "" {
		if err := os.MkdirAll(filepath.Dir(set.pid), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(set.pid, fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
			return err
		}
		defer os.Remove(set.pid)
	}
	ids := strings.ToLower(rand.Text())
	if set.serverID == "" {
		set.serverID = "vid-" + ids[:7]
	}
	s := newServer(set, log)
	calls := s.callbacks(ids[7:15])
	s.in.Auth, s.out.Auth = calls, calls
	told := make(chan struct{})
	go func() {
		defer close(told)
		_ = calls.Run(context.Background()) // ends with the hub
	}()
	err = s.start(ids[7:15])
	for err == nil {
		select {
		case <-reopen:
			if err := file.reopen(); err != nil {
				log.Error("log", "err", err)
			}
			continue
		case err = <-s.failed:
		case <-ctx.Done():
			log.Info("ending")
		}
		break
	}
	s.stop()
	<-told
	return err
}

func newServer(set *settings, log *slog.Logger) *server {
	first := set.vhosts[0]
	hub := &stream.Hub{Log: log, Grace: grace, Cache: stream.Cache{
		Off: !first.play.gopCache, Frames: first.play.cacheFrames, Time: max(30*time.Second, first.play.queue),
	}}
	hls, fragment, window := false, first.hls.fragment, first.hls.window
	for _, v := range set.vhosts {
		hls = hls || v.hls.enabled || v.dash
	}
	return &server{
		set: set, log: log, hub: hub, failed: make(chan error, 16),
		in: &ingest.Server{
			Hub: hub, Log: log, VHost: set.choose, Jitter: first.play.jitter, MixCorrect: first.play.mixCorrect,
			FirstPacketTimeout: first.play.firstPacket, IdleTimeout: first.play.normal, MaxConns: set.maxConnections,
			SRT: ingest.SRT{Latency: set.srt.latency, PeerIdle: set.srt.idle, Passphrase: set.srt.passphrase, MaxConns: set.maxConnections},
		},
		out: &deliver.Server{
			Hub: hub, Log: log, WriteInterval: first.play.interval, MaxLag: first.play.queue, MaxPlayers: set.maxConnections,
			Wait: wait,
			HLS:  deliver.HLS{Disabled: !hls, Segment: fragment, Part: -1, Window: window},
		},
	}
}

// callbacks makes what decides, and what is told of it.
func (s *server) callbacks(serviceID string) *hooks.Callbacks {
	c := &hooks.Callbacks{
		Hub: s.hub, Auth: gatekeeper{s.set}, Log: s.log, ServerID: s.set.serverID, ServiceID: serviceID,
		URLs: s.set.vhosts[0].hooks, NotifyBytes: s.set.vhosts[0].notify, VHosts: make(map[string]hooks.URLs),
		File: func(key, name string) string {
			v, _, _ := s.set.place(key)
			if ext := path.Ext(name); v.dvr.enabled && (ext == ".flv" || ext == ".mp4") {
				return v.dvr.dir(v.name) + name
			}
			return strings.TrimSuffix(v.hls.path, "/") + "/" + name
		},
	}
	for _, v := range s.set.vhosts[1:] {
		c.VHosts[v.name] = v.hooks
	}
	return c
}

// start opens the ports and begins to follow the hub.
func (s *server) start(serviceID string) error {
	ctx, cancel := context.WithCancel(context.Background())
	s.unfollow = cancel
	go func() { _ = s.out.Run(ctx) }()
	files := &hlsFiles{hub: s.hub, set: s.set, log: s.log}
	s.following.Go(func() { files.run(ctx) })
	if err := s.record(ctx); err != nil {
		return err
	}
	rtmp := func(l net.Listener) error { return s.in.ServeRTMP(l, s.out) }
	for _, addr := range s.set.listen {
		if err := s.listen("RTMP", listener{enabled: true, addr: addr}, rtmp); err != nil {
			return err
		}
	}
	if err := s.listen("RTMPS", s.set.rtmps, rtmp); err != nil {
		return err
	}
	if err := s.listenSRT(); err != nil {
		return err
	}
	var web http.Handler = newWebsite(s.set, s.hub, s.out)
	offers, err := s.rtc(ctx, serviceID)
	if err != nil {
		return err
	}
	api := s.api(serviceID)
	if offers != nil {
		mux := http.NewServeMux()
		mux.Handle("/", api)
		mux.Handle("/rtc/v1/", offers) // http_api.auth is not for them
		api = mux
	}
	if s.set.api.enabled && s.set.web.enabled && s.set.api.addr == s.set.web.addr {
		web = joined{api, web}
		s.set.api.enabled = false
	}
	for _, at := range []struct {
		what string
		listener
		handler http.Handler
	}{
		{"HTTP", s.set.web.listener, web}, {"HTTPS", s.set.web.https, web},
		{"HTTP API", s.set.api.listener, api}, {"HTTPS API", s.set.api.https, api},
	} {
		server := s.web(at.handler)
		if err := s.listen(at.what, at.listener, server.Serve); err != nil {
			return err
		}
	}
	return nil
}

// joined is the API, WebRTC's with it, and the website on one port.
type joined struct{ api, web http.Handler }

func (j joined) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/rtc/") {
		j.api.ServeHTTP(w, r)
		return
	}
	j.web.ServeHTTP(w, r)
}

// api is http_api. Without a user and a password it answers this machine only.
func (s *server) api(serviceID string) http.Handler {
	gate := &access.Gate{Log: s.log}
	if a := s.set.api; a.auth {
		gate.Auth, gate.Basic, gate.Insecure = srsapi.Basic(a.user, a.password), true, true
		if a.enabled {
			s.log.Warn("http_api.auth: without https the password is sent in the clear")
		}
	} else if a.enabled {
		s.log.Info("http_api answers this machine only: http_api.auth lets others in")
	}
	h := &srsapi.Handler{
		Hub: s.hub, Gate: gate, ServerID: s.set.serverID, ServiceID: serviceID, Started: time.Now(), Features: map[string]bool{
			"hls": !s.out.HLS.Disabled, "callback": true, "dvr": true,
		},
	}
	if v := s.set.vhosts[0]; v.hls.enabled {
		h.Fragment = v.hls.fragment
	}
	for _, v := range s.set.vhosts[1:] {
		h.VHosts = append(h.VHosts, v.name)
	}
	return h
}

// web makes an HTTP server that has no more connections than max_connections.
func (s *server) web(h http.Handler) *http.Server {
	w := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if s.conns.Add(1) > int64(s.set.maxConnections) {
					_ = c.Close()
				}
			case http.StateHijacked, http.StateClosed:
				s.conns.Add(-1)
			}
		},
	}
	s.webs = append(s.webs, w)
	return w
}

// listen opens a port, if it is enabled, and serves it in the background.
func (s *server) listen(what string, at listener, serve func(net.Listener) error) error {
	if !at.enabled {
		return nil
	}
	l, err := net.Listen("tcp", at.addr)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if at.cert != "" {
		cert, err := tls.LoadX509KeyPair(at.cert, at.key)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", what, err), l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	s.listeners = append(s.listeners, l)
	s.log.Info("listening", "what", what, "at", l.Addr())
	go func() {
		if err := serve(l); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", what, err)
		}
	}()
	return nil
}

// listenSRT opens the port of srt_server, and serves it in the background.
func (s *server) listenSRT() error {
	if !s.set.srt.enabled {
		return nil
	}
	pc, err := net.ListenPacket("udp", s.set.srt.addr)
	if err != nil {
		return fmt.Errorf("SRT: %w", err)
	}
	s.log.Info("listening", "what", "SRT", "at", pc.LocalAddr())
	go func() {
		if err := s.in.ServeSRT(pc, s.out); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("SRT: %w", err)
		}
	}()
	return nil
}

// record starts a recorder for each virtual host with a DVR.
func (s *server) record(ctx context.Context) error {
	dirs := make(map[string]*record.Dir) // virtual hosts may have the same
	for _, v := range s.set.vhosts {
		if !v.dvr.enabled || !v.enabled {
			continue
		}
		r, err := v.dvr.recorder(v.name, s.set.location)
		if err != nil {
			return err
		}
		dir := dirs[v.dvr.dir(v.name)]
		if dir == nil {
			dir = &record.Dir{Path: v.dvr.dir(v.name), FileMode: 0o644, DirMode: 0o755}
			dirs[dir.Path] = dir
			s.dirs = append(s.dirs, dir)
			if _, err := record.Repair(ctx, dir, s.log); err != nil {
				s.log.Warn("dvr: not every file could be repaired", "err", err)
			}
		}
		r.Hub, r.Storage, r.Log = s.hub, dir, s.log
		r.Match = func(key string) bool {
			of, app, name := s.set.place(key)
			return of == v && v.dvr.applies(app+"/"+name)
		}
		s.following.Go(func() {
			if err := r.Run(ctx); !errors.Is(err, context.Canceled) && err != nil {
				s.failed <- fmt.Errorf("dvr: %w", err)
			}
		})
	}
	return nil
}

func (d *dvrSettings) applies(name string) bool {
	for _, pattern := range d.apply {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return len(d.apply) == 0
}

// stop ends everything, in the order in which one makes work for the next.
func (s *server) stop() {
	drain, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.webrtc != nil {
		_ = s.webrtc.Close()
	}
	_ = s.in.Close()
	_ = s.out.Shutdown(drain)
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for _, w := range s.webs {
		_ = w.Close()
	}
	s.unfollow()
	s.following.Wait()
	for _, d := range s.dirs {
		_ = d.Close()
	}
	_ = s.hub.Close()
}
