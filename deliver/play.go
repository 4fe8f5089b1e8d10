package deliver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
)

// playing is one player, from the question whether it may to its end.
type playing struct {
	server  *Server
	request *auth.Request
	grant   *auth.Grant
	feed    *feed
	started time.Time

	mu     sync.Mutex
	conn   playConn // nil before serve
	reason error    // why it was interrupted
	cutOff bool
}

// playConn is what serve needs of a stream.PlayConn.
type playConn interface {
	fanout.Conn
	Accept() []byte
	ReadControl() (stream.Control, error)
	SetReadDeadline(time.Time) error // one in the past ends ReadControl
}

// ServePlay serves a connection whose peer asked to play r.Stream, until the
// stream ends (the error is nil), the peer leaves (nil too), or something fails.
// Errors before c.Accept is called are refusals: auth.ErrDenied, *auth.Redirect,
// stream.ErrNotFound, stream.ErrUnsupported, ErrServerClosed. It does not close
// c; ctx bounds only the time until the play begins. It is how package ingest
// hands players over; hosts with protocols of their own can too.
func (s *Server) ServePlay(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
	p, err := s.admit(ctx, r, containerRTMP, false)
	if err != nil {
		return err
	}
	return p.serve(c)
}

// admit asks whether a player may play, and finds the bytes for it. The player
// must be served, or be left to leave.
func (s *Server) admit(ctx context.Context, r *auth.Request, c container, websocket bool) (*playing, error) {
	r.Action = auth.Play
	grant, err := auth.Check(ctx, s.Auth, r)
	if err != nil {
		return nil, err
	}
	// The subscription asks a Source for the stream, waits for it, and holds
	// it until the feed has its own.
	sub, err := s.Hub.Subscribe(ctx, r.Stream, &stream.SubscribeOptions{Wait: s.Wait, Live: true})
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	key := feedKey{stream: sub.Stream(), container: c, websocket: websocket, accept: accepted(r.Accept)}
	if err := key.playable(); err != nil {
		return nil, err
	}
	p := &playing{server: s, request: r, grant: grant, started: time.Now()}
	if err := s.enter(p, key); err != nil {
		return nil, err
	}
	return p, nil
}

// accepted makes a feedKey's field of what a peer says it takes.
func accepted(fourCCs []string) string {
	if fourCCs == nil || slices.Contains(fourCCs, "*") {
		return ""
	}
	known := []string{"none"} // nothing but what every player takes
	for _, cc := range []string{"hvc1", "av01", "vp09", "vp08", "Opus", "ac-3"} {
		if slices.Contains(fourCCs, cc) {
			known = append(known, cc)
		}
	}
	return strings.Join(known, ",")
}

// serve plays. It returns when the player has ended, and leaves.
func (p *playing) serve(c playConn) error {
	s, r := p.server, p.request
	defer s.leave(p)
	session := s.Hub.OpenSession(stream.SessionInfo{
		Role:     stream.RolePlay,
		Protocol: r.Protocol,
		Stream:   r.Stream,
		User:     p.grant.User,
		Remote:   r.Remote,
		Started:  p.started,
		Labels:   p.grant.Labels,
	}, p.interrupt)
	if !p.grant.Expires.IsZero() {
		t := time.AfterFunc(time.Until(p.grant.Expires), func() { session.Kick(auth.ErrDenied) })
		defer t.Stop()
	}
	p.begin(c)
	player := p.feed.log.Attach(c, fanout.Options{
		First: c.Accept(),
		Meter: session,
		OnEnd: func(error) { c.SetReadDeadline(past) },
	})
	var left error
	for left == nil {
		var ctl stream.Control
		if ctl, left = c.ReadControl(); left != nil {
			break
		}
		player.Reply(ctl.Reply)
		if ctl.Pause || ctl.Resume {
			player.Pause(ctl.Pause)
		}
	}
	whole, err := player.Detach()
	p.mu.Lock()
	if err == nil {
		err = p.reason
	}
	p.mu.Unlock()
	if err == nil && !whole {
		err = errCut
	}
	if errors.Is(err, fanout.ErrSlow) {
		err = stream.ErrSlow
	}
	session.Close(err)
	return err
}

// errCut is the end of a player that left with half a frame on the wire: the
// connection cannot be used for anything else.
var errCut = errors.New("deliver: player left in the middle of a frame")

var past = time.Unix(1, 0)

// begin makes the player one that can be interrupted.
func (p *playing) begin(c playConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
	if p.cutOff {
		c.SetReadDeadline(past)
	}
}

// interrupt ends the player soon. It does not block.
func (p *playing) interrupt(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cutOff {
		return
	}
	p.cutOff, p.reason = true, err
	if p.conn != nil {
		p.conn.SetReadDeadline(past)
	}
}
