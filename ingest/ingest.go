// Package ingest accepts publishers: RTMP and RTMPS (FLV messages, Enhanced
// RTMP included), SRT, and FLV and MPEG-TS in the body of an HTTP request. It asks the
// Authorizer, and writes what publishers send to a stream.Hub as frames.
//
//	in := &ingest.Server{Hub: hub, Auth: auth.AllowAll}
//	ln, err := net.Listen("tcp", ":1935")
//	…
//	err = in.ServeRTMP(ln, players) // players: a *deliver.Server, or nil
//
// RTMPS is a listener of crypto/tls. On RTMP ports players come too: they are
// handed to a PlayServer, whose they are from then on.
//
// Programs with a protocol of their own, or with media that they make
// themselves, call Server.Publish, or write to the hub without asking anybody.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/admission"
	"github.com/runnel-media/runnel/internal/name"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
)

// ErrServerClosed is returned by ServeRTMP and ServeSRT, and to publishers that come late,
// after Shutdown or Close. It is a net.ErrClosed.
var ErrServerClosed = fmt.Errorf("ingest: server closed: %w", stream.ErrClosed)

// A PlayServer plays to the players that connect to an RTMP port.
// *deliver.Server is one. ServePlay authorizes the player, plays, and returns
// when the stream or the player has ended; see stream.PlayConn. If there is a
// StartPlay too, as *deliver.Server has it, that is called instead.
type PlayServer interface {
	ServePlay(ctx context.Context, c stream.PlayConn, r *auth.Request) error
}

// A Server accepts publishers. Set its fields before first use; all methods
// may be called from many goroutines at once.
type Server struct {
	Hub  *stream.Hub
	Auth auth.Authorizer // asked for auth.Publish; nil refuses everybody
	Log  *slog.Logger    // nil: slog.Default()

	// Limits bound publishers, and say how often Auth is asked again. Take the
	// Limiter of the host's other servers. nil: only Grants' own limits hold,
	// among the publishers of this Server. Connections are bounded by
	// Limits.Listen, which is the host's to call.
	Limits *limit.Limiter

	// VHost chooses the virtual host of RTMP publishers and players by the host of
	// their tcUrl, which peers choose freely, and what they said with vhost=, ""
	// each for none. nil: the latter.
	VHost func(host, named string) string

	// What publishers over RTMP and HTTP may do; see stream.PublishOptions.
	Replace    bool
	Jitter     stream.Jitter
	MixCorrect bool

	HandshakeTimeout   time.Duration // of RTMP, TLS's included; default 10 s
	FirstPacketTimeout time.Duration // from the handshake to the wish to publish or play, from there to the first media; default 20 s
	IdleTimeout        time.Duration // between two media messages of a publisher; default 15 s

	MaxConns        int // of each RTMP listener, players included; 0: no bound
	MaxConnsPerAddr int // of each RTMP listener, by IPv4 address or IPv6 /64 network; 0: no bound

	SRT SRT // what ServeSRT's ports are like

	own limit.Limiter // in place of Limits

	mu      sync.Mutex
	closing bool
	engines map[*rtmp.Server]struct{}
	srts    map[*srtPort]struct{}
	uploads map[*upload]struct{}
	drained chan struct{} // closed when uploads is empty; made by Shutdown
}

const (
	defaultFirstPacketTimeout = 20 * time.Second
	defaultIdleTimeout        = 15 * time.Second
)

// door is what admits publishers.
func (s *Server) door() admission.Door {
	d := admission.Door{Auth: s.Auth, Limits: s.Limits, Log: s.log()}
	if d.Limits == nil {
		d.Limits = &s.own
	}
	return d
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// options returns those of a publisher that this package serves itself.
func (s *Server) options() stream.PublishOptions {
	return stream.PublishOptions{Replace: s.Replace, Jitter: s.Jitter, MixCorrect: s.MixCorrect}
}

// ServeRTMP accepts RTMP connections from l, or RTMPS if l is a TLS listener.
// It closes l in the end, and returns ErrServerClosed after Shutdown or Close,
// otherwise the error of Accept. Players are handed to players; nil refuses
// them. It may be called for several listeners.
func (s *Server) ServeRTMP(l net.Listener, players PlayServer) error {
	engine := &rtmp.Server{
		Handler:            &rtmpHandler{s, players},
		Log:                s.Log,
		HandshakeTimeout:   s.HandshakeTimeout,
		FirstPacketTimeout: s.FirstPacketTimeout,
		IdleTimeout:        s.IdleTimeout,
		MaxConns:           s.MaxConns,
		MaxConnsPerAddr:    s.MaxConnsPerAddr,
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	if s.engines == nil {
		s.engines = make(map[*rtmp.Server]struct{})
	}
	s.engines[engine] = struct{}{}
	s.mu.Unlock()
	if err := engine.Serve(l); !errors.Is(err, rtmp.ErrServerClosed) {
		return err
	}
	return ErrServerClosed
}

// An rtmpHandler is what the RTMP engine asks.
type rtmpHandler struct {
	*Server
	players PlayServer
}

func (h *rtmpHandler) Publish(ctx context.Context, r *auth.Request, opts stream.PublishOptions) (*stream.Publisher, error) {
	if err := h.place(r); err != nil {
		return nil, err
	}
	o := h.options()
	o.OnEvict = opts.OnEvict
	return h.Server.Publish(ctx, r, &o)
}

func (h *rtmpHandler) Play(ctx context.Context, c stream.PlayConn, r *auth.Request, ended func(error)) {
	if err := h.place(r); err != nil {
		ended(err)
		return
	}
	switch players := h.players.(type) {
	case nil:
		ended(auth.ErrDenied)
	case playStarter:
		if err := players.StartPlay(ctx, c, r, ended); err != nil {
			ended(err)
		}
	default:
		ended(players.ServePlay(ctx, c, r))
	}
}

// place puts a request into the virtual host that VHost chooses.
func (s *Server) place(r *auth.Request) (err error) {
	if s.VHost == nil {
		return nil
	}
	host := ""
	if u, err := url.Parse(r.TCURL); err == nil {
		host = u.Hostname()
	}
	r.VHost = s.VHost(host, r.VHost)
	r.Stream, err = name.Join(r.VHost, r.App, r.Name)
	return err
}

// playStarter is a PlayServer that needs no goroutine for each player.
type playStarter interface {
	StartPlay(ctx context.Context, c stream.PlayConn, r *auth.Request, ended func(error)) error
}

// Shutdown stops accepting publishers: it closes the listeners and the
// connections that neither publish nor play, and waits for the publishers to
// leave. Those that are there when ctx ends are closed, and Shutdown returns
// ctx's error. Players are not touched: they are their PlayServer's to end.
// Publishers that came by Publish are the caller's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	if s.drained == nil {
		s.drained = make(chan struct{})
		if len(s.uploads) == 0 {
			close(s.drained)
		}
	}
	drained := s.drained
	n := len(s.engines) + len(s.srts)
	errs := make(chan error, n)
	for p := range s.srts {
		go func() { errs <- p.shutdown(ctx) }()
	}
	for e := range s.engines {
		go func() { errs <- e.Shutdown(ctx) }()
	}
	s.mu.Unlock()

	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
		s.closeUploads()
		<-drained
	}
	for range n {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return ctx.Err()
	}
	return nil
}

// Close closes the listeners and every connection that came from them, players
// included, and waits for nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing = true
	for e := range s.engines {
		_ = e.Close()
	}
	for p := range s.srts {
		go p.engine.Close()
	}
	s.mu.Unlock()
	s.closeUploads()
	return nil
}
