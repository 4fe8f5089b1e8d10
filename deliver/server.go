package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/admission"
	"github.com/runnel-media/runnel/stream"
)

// A Server delivers the streams of a Hub. Set its fields before first use; all
// methods may be called from many goroutines at once.
type Server struct {
	Hub  *stream.Hub
	Auth auth.Authorizer // asked for auth.Play; nil refuses everybody
	Log  *slog.Logger    // nil: slog.Default()

	// Limits bound players, and say how often Auth is asked again. Take the
	// Limiter of the host's other servers. nil: only Grants' own limits hold,
	// among the players of this Server.
	Limits *limit.Limiter

	// WriteInterval is the longest time, and a sixteenth, that a player's data
	// is held back so that one write covers several frames. It trades delay for
	// CPU; see docs/performance.md. 0: every frame is sent at once. It must be
	// less than MaxLag, and what Hub.Cache keeps.
	WriteInterval time.Duration

	// Wait is how long a player waits for a stream that nobody publishes yet
	// before it is refused. 0: not at all.
	Wait time.Duration

	// A player further behind than MaxLag (default 5 s) or MaxLagBytes (16
	// MiB) skips to the newest key frame, one that takes no byte for
	// StallTimeout (10 s) is dropped.
	MaxLag       time.Duration
	MaxLagBytes  int
	StallTimeout time.Duration

	// AllowOrigin is sent as Access-Control-Allow-Origin. "" is "*", which
	// lets pages of any site play (never with their visitor's cookies); "-"
	// sends no such header.
	AllowOrigin string

	// MaxPlayers bounds the players that are served at once; 0: no bound.
	MaxPlayers int

	HLS HLS // HLS and DASH

	hls hlsTable
	own limit.Limiter // in place of Limits

	mu      sync.Mutex
	closed  bool
	feeds   map[feedKey]*feed
	players map[*playing]struct{}
	empty   chan struct{} // closed when players is empty; made by Shutdown
}

// ErrServerClosed is returned to players that come after Shutdown or Close. It
// is a net.ErrClosed.
var ErrServerClosed = fmt.Errorf("deliver: server closed: %w", stream.ErrClosed)

var errFull = errors.New("deliver: too many players")

// Shutdown refuses new players, lets those that play have what is due to them,
// and ends them. It returns when all are gone and what was packaged is stored;
// what is left when ctx ends is cut off, and the error is ctx's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if s.empty == nil {
		s.empty = make(chan struct{})
		if len(s.players) == 0 {
			close(s.empty)
		}
	}
	empty := s.empty
	for _, f := range s.feeds {
		f.cancel()
	}
	s.mu.Unlock()
	s.closeHLS()
	select {
	case <-empty:
		return s.waitHLS(ctx)
	case <-ctx.Done():
		s.cut()
		s.cutStored()
		return ctx.Err()
	}
}

// Close refuses new players and cuts off those that play.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.closeHLS()
	s.cut()
	s.cutStored()
	return nil
}

func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.players {
		p.interrupt(ErrServerClosed)
	}
}

// room says why another player cannot be taken now.
func (s *Server) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomLocked()
}

func (s *Server) roomLocked() error {
	switch {
	case s.closed:
		return ErrServerClosed
	case s.MaxPlayers > 0 && len(s.players)+int(s.hls.started.Load()) >= s.MaxPlayers:
		return errFull
	}
	return nil
}

// enter counts a player in; the first of its kind starts the feed, which takes
// sub over. The player must leave.
func (s *Server) enter(p *playing, key feedKey, sub *stream.Subscriber) (taken bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.roomLocked(); err != nil {
		return false, err
	}
	f := s.feeds[key]
	if f == nil {
		f = s.newFeed(key)
		if s.feeds == nil {
			s.feeds = make(map[feedKey]*feed)
		}
		s.feeds[key] = f
		taken = true
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel = cancel
		go f.run(ctx, sub)
	}
	f.viewers++
	p.feed = f
	if s.players == nil {
		s.players = make(map[*playing]struct{})
	}
	s.players[p] = struct{}{}
	return taken, nil
}

// leave counts a player out; the last of its kind ends the feed.
func (s *Server) leave(p *playing) {
	p.right.Leave() // it has, unless it never began to play
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.players, p)
	f := p.feed
	if f.viewers--; f.viewers == 0 {
		f.cancel()
		delete(s.feeds, f.key)
	}
	if s.empty != nil && len(s.players) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// door is what admits players.
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

func (s *Server) allowOrigin(h http.Header) {
	switch s.AllowOrigin {
	case "":
		h.Set("Access-Control-Allow-Origin", "*")
	case "-":
	default:
		h.Set("Access-Control-Allow-Origin", s.AllowOrigin)
		h.Add("Vary", "Origin")
	}
}
