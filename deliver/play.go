package deliver

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
)

// playing is one player, from the answer that it may to its end.
type playing struct {
	server  *Server
	grant   *auth.Grant
	session stream.SessionInfo
	feed    *feed

	mu       sync.Mutex
	conn     playConn       // nil before serve
	follower *fanout.Player // nil before follow
	cutOff   bool
	reason   error // why it was cut off
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
// With a nil error the last message on the connection is whole, and others may
// follow. Errors before c.Accept is called are refusals: auth.ErrDenied,
// *auth.Redirect, stream.ErrNotFound, stream.ErrUnsupported, ErrServerClosed.
// It does not close c; ctx bounds only the time until the play begins. It is how
// package ingest hands players over; hosts with protocols of their own can too.
func (s *Server) ServePlay(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
	p, err := s.admit(ctx, r, containerRTMP, false)
	if err != nil {
		return err
	}
	defer s.leave(p)
	whole, err := p.serve(c)
	if err == nil && !whole {
		err = errCut
	}
	return err
}

var errCut = errors.New("deliver: peer left in the middle of a message")

// find asks whether a player may play, and finds its stream, of which the
// caller must close the Subscriber.
func (s *Server) find(ctx context.Context, r *auth.Request, c container, websocket bool) (feedKey, *stream.Subscriber, *auth.Grant, error) {
	r.Action = auth.Play
	grant, err := auth.Check(ctx, s.Auth, r)
	if err != nil {
		return feedKey{}, nil, nil, err
	}
	if err := s.room(); err != nil {
		return feedKey{}, nil, nil, err
	}
	sub, err := s.Hub.Subscribe(ctx, r.Stream, &stream.SubscribeOptions{Wait: s.Wait})
	if err != nil {
		return feedKey{}, nil, nil, err
	}
	key := feedKey{stream: sub.Stream(), container: c, websocket: websocket, accept: accepted(r.Accept)}
	if err := key.playable(); err != nil {
		sub.Close()
		return feedKey{}, nil, nil, err
	}
	return key, sub, grant, nil
}

// admit finds the bytes for a player, which must be served if it likes, and
// then leave.
func (s *Server) admit(ctx context.Context, r *auth.Request, c container, websocket bool) (*playing, error) {
	key, sub, grant, err := s.find(ctx, r, c, websocket)
	if err != nil {
		return nil, err
	}
	p := &playing{server: s, grant: grant, session: stream.SessionInfo{
		Role:     stream.RolePlay,
		Protocol: r.Protocol,
		Stream:   r.Stream,
		User:     grant.User,
		Remote:   r.Remote,
		Started:  time.Now(),
		Labels:   grant.Labels,
	}}
	taken, err := s.enter(p, key, sub)
	if !taken {
		sub.Close()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// serve plays, and returns when the player has ended. whole tells that what it
// was sent ends with a message.
//
// Its goroutine waits in ReadControl nearly all its life, one for each player, so
// what is on its stack then is kept small: the work before and after is in
// functions that are not inlined.
func (p *playing) serve(c playConn) (whole bool, err error) {
	a := p.attach(c)
	for err == nil {
		err = a.listen(c)
	}
	return p.finish(a)
}

// attached is a player while it is served.
type attached struct {
	player  *fanout.Player
	session *stream.Session
	expiry  *time.Timer // nil: the grant does not expire
}

//go:noinline
func (p *playing) attach(c playConn) *attached {
	a := &attached{session: p.server.Hub.OpenSession(p.session, p.interrupt)}
	if !p.grant.Expires.IsZero() {
		a.expiry = time.AfterFunc(time.Until(p.grant.Expires), func() { a.session.Kick(auth.ErrDenied) })
	}
	p.begin(c)
	a.player = p.feed.log.Attach(c, fanout.Options{
		First: c.Accept(),
		Meter: a.session,
		OnEnd: func(error) { c.SetReadDeadline(past) },
	})
	return a
}

//go:noinline
func (a *attached) listen(c playConn) error {
	ctl, err := c.ReadControl()
	if err != nil {
		return err
	}
	a.player.Reply(ctl.Reply)
	if ctl.Pause || ctl.Resume {
		a.player.Pause(ctl.Pause)
	}
	return nil
}

//go:noinline
func (p *playing) finish(a *attached) (whole bool, err error) {
	if a.expiry != nil {
		a.expiry.Stop()
	}
	whole, err = a.player.Detach()
	if err == nil {
		err = p.interrupted()
	}
	if errors.Is(err, fanout.ErrSlow) {
		err = stream.ErrSlow
	}
	a.session.Close(err)
	return whole, err
}

// follow plays on a connection on which the peer has nothing to say, without a
// goroutine: it returns at once, and closes c and leaves when the player ends.
// c must be one that fanout can hear.
func (p *playing) follow(c playConn, heard func(int) error, closeConn func() error) {
	session := p.server.Hub.OpenSession(p.session, p.interrupt)
	var expiry *time.Timer
	if !p.grant.Expires.IsZero() {
		expiry = time.AfterFunc(time.Until(p.grant.Expires), func() { session.Kick(auth.ErrDenied) })
	}
	end := func(err error) {
		if expiry != nil {
			expiry.Stop()
		}
		switch {
		case errors.Is(err, io.EOF):
			err = nil
		case errors.Is(err, fanout.ErrSlow):
			err = stream.ErrSlow
		}
		closeConn()
		session.Close(err)
		p.server.leave(p)
	}
	player := p.feed.log.Attach(c, fanout.Options{
		First: c.Accept(),
		Meter: session,
		Heard: heard,
		OnEnd: func(err error) { go end(err) },
	})
	p.mu.Lock()
	p.follower = player
	cutOff, reason := p.cutOff, p.reason
	p.mu.Unlock()
	if cutOff {
		player.End(reason)
	}
}

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
	switch {
	case p.follower != nil:
		p.follower.End(err)
	case p.conn != nil:
		p.conn.SetReadDeadline(past)
	}
}

// interrupted returns why the player was interrupted, nil if it was not.
func (p *playing) interrupted() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reason
}
