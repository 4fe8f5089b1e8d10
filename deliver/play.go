package deliver

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/admission"
	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
)

// playing is one player, from the answer that it may to its end.
type playing struct {
	server  *Server
	right   *admission.Right
	session stream.SessionInfo
	feed    *feed

	mu       sync.Mutex
	conn     playConn       // nil before play
	follower *fanout.Player // nil before follow
	cutOff   bool
	reason   error // why it was cut off

	hearing sync.Mutex // held while a goroutine reads what the peer of a follower says
	over    bool       // guarded by hearing; nothing is to be read any more
}

// playConn is what serve needs of a stream.PlayConn.
type playConn interface {
	fanout.Conn
	Accept() []byte
	ReadControl() (stream.Control, error)
	SetReadDeadline(time.Time) error // one in the past ends ReadControl
}

// quietConn is what a stream.QuietConn has beside.
type quietConn interface {
	playConn
	Pending() bool
}

// ServePlay serves a connection whose peer asked to play r.Stream, until the
// stream ends (the error is nil), the peer leaves (nil too), or something fails.
// With a nil error the last message on the connection is whole, and others may
// follow. Errors before c.Accept is called are refusals: auth.ErrDenied,
// *auth.Redirect, stream.ErrNotFound, stream.ErrUnsupported, ErrServerClosed.
// It does not close c; ctx bounds only the time until the play begins. Package
// ingest hands players over by StartPlay; hosts with protocols of their own can
// use either.
func (s *Server) ServePlay(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
	ended := make(chan error, 1)
	if err := s.StartPlay(ctx, c, r, func(err error) { ended <- err }); err != nil {
		return err
	}
	return <-ended
}

// StartPlay is ServePlay for connections that have no goroutine to spare, of
// which each costs 4 KB: if c is a stream.QuietConn over plain TCP it returns
// when the play has begun, else at its end. Unless it returns an error, which is
// a refusal, ended is called once with what ServePlay would return; it may take
// its time.
func (s *Server) StartPlay(ctx context.Context, c stream.PlayConn, r *auth.Request, ended func(error)) error {
	p, err := s.admit(ctx, r, playContainer(r), false)
	if err != nil {
		return err
	}
	p.play(c, func(whole bool, err error) {
		if err == nil && !whole {
			err = errCut
		}
		ended(err)
	})
	return nil
}

var errCut = errors.New("deliver: peer left in the middle of a message")

// find asks whether a player may play, and finds its stream, of which the
// caller must close the Subscriber.
func (s *Server) find(ctx context.Context, r *auth.Request, c container, websocket bool) (feedKey, *stream.Subscriber, *admission.Right, error) {
	sub, right, err := s.ask(ctx, r, &stream.SubscribeOptions{Wait: s.Wait})
	if err != nil {
		return feedKey{}, nil, nil, err
	}
	key := feedKey{stream: sub.Stream(), container: c, websocket: websocket, accept: accepted(r.Accept), sound: wantedSound(r, c)}
	if err := key.playable(); err != nil {
		sub.Close()
		return feedKey{}, nil, nil, err
	}
	return key, sub, right, nil
}

// ask asks whether a player may play, and attaches a reader for it.
func (s *Server) ask(ctx context.Context, r *auth.Request, o *stream.SubscribeOptions) (*stream.Subscriber, *admission.Right, error) {
	r.Action = auth.Play
	r.Session = rand.Text()
	right, err := s.door().Ask(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if err := s.room(); err != nil {
		return nil, nil, err
	}
	sub, err := s.Hub.Subscribe(ctx, r.Stream, o)
	return sub, right, err
}

// playSession describes the session of a player.
func playSession(r *auth.Request, right *admission.Right) stream.SessionInfo {
	return stream.SessionInfo{
		ID:       r.Session,
		Role:     stream.RolePlay,
		Protocol: r.Protocol,
		Stream:   r.Stream,
		User:     right.Grant.User,
		Remote:   r.Remote,
		Started:  time.Now(),
		Labels:   right.Grant.Labels,
		VHost:    r.VHost,
		App:      r.App,
		Name:     r.Name,
		RawQuery: r.RawQuery,
		TCURL:    r.TCURL,
		PageURL:  r.PageURL,
	}
}

// admit finds the bytes for a player, which must be served if it likes, and
// then leave.
func (s *Server) admit(ctx context.Context, r *auth.Request, c container, websocket bool) (*playing, error) {
	if err := s.door().Room(r, auth.Play); err != nil {
		return nil, err
	}
	key, sub, right, err := s.find(ctx, r, c, websocket)
	if err != nil {
		return nil, err
	}
	if err := right.Enter(); err != nil {
		sub.Close()
		return nil, err
	}
	p := &playing{server: s, right: right, session: playSession(r, right)}
	taken, err := s.enter(p, key, sub)
	if !taken {
		sub.Close()
	}
	if err != nil {
		right.Leave()
		return nil, err
	}
	return p, nil
}

// play plays, and calls ended when the player has left. whole tells that what it
// was sent ends with a message. Where it can it returns at once, and only
// otherwise when that is done.
func (p *playing) play(c playConn, ended func(whole bool, err error)) {
	if c, ok := c.(pushConn); ok {
		p.push(c, ended)
		return
	}
	if _, ok := c.(quietConn); ok && fanout.CanHear(c) {
		p.follow(c, ended)
		return
	}
	whole, err := p.serve(c)
	p.server.leave(p)
	ended(whole, err)
}

// serve plays, and returns when the player has ended.
//
// Its goroutine waits in ReadControl nearly all its life, one for each player, so
// what is on its stack then is kept small: the work before and after is in
// functions that are not inlined.
func (p *playing) serve(c playConn) (whole bool, err error) {
	a := p.attach(c)
	for err == nil {
		err = listen(a.player, c)
	}
	return p.finish(a)
}

// attached is a player while it is served.
type attached struct {
	player  *fanout.Player
	session *stream.Session
}

// open opens the player's session.
func (p *playing) open() *attached {
	a := &attached{session: p.server.Hub.OpenSession(p.session, p.interrupt)}
	p.right.Hold(a.session)
	return a
}

//go:noinline
func (p *playing) attach(c playConn) *attached {
	a := p.open()
	p.begin(c)
	a.player = p.feed.log.Attach(c, fanout.Options{
		First: c.Accept(),
		Meter: a.session,
		OnEnd: func(error) { c.SetReadDeadline(past) },
	})
	return a
}

// listen does what the peer says next.
//
//go:noinline
func listen(player *fanout.Player, c playConn) error {
	ctl, err := c.ReadControl()
	if err != nil {
		return err
	}
	player.Reply(ctl.Reply)
	if ctl.Pause || ctl.Resume {
		player.Pause(ctl.Pause)
	}
	return nil
}

// finish takes the connection back from the player.
//
//go:noinline
func (p *playing) finish(a *attached) (whole bool, err error) {
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

// follow plays without a goroutine: it returns at once. The peer is read from
// when there is something to be read.
func (p *playing) follow(c playConn, ended func(whole bool, err error)) {
	a := p.open()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
	p.follower = p.feed.log.Attach(c, fanout.Options{
		First: c.Accept(),
		Meter: a.session,
		Heard: func() { go p.hear() },
		OnEnd: func(error) { go p.unfollow(a, ended) },
	})
	if p.cutOff {
		p.follower.End(p.reason)
	}
}

// unfollow takes the connection back from a follower that has ended.
func (p *playing) unfollow(a *attached, ended func(whole bool, err error)) {
	p.conn.SetReadDeadline(past)
	p.hearing.Lock()
	p.over = true
	p.hearing.Unlock()
	a.player = p.player()
	whole, err := p.finish(a)
	p.server.leave(p)
	ended(whole, err)
}

// player returns the follower, when it is there.
func (p *playing) player() *fanout.Player {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follower
}

// hear does what the peer of a follower says, as long as it goes on.
func (p *playing) hear() {
	p.hearing.Lock()
	defer p.hearing.Unlock()
	if p.over {
		return
	}
	player := p.player()
	for again := true; again; again = p.conn.(quietConn).Pending() {
		if err := listen(player, p.conn); err != nil {
			player.End(nil) // the peer has left, or is better gone
			return
		}
	}
	player.Hear()
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
	case p.follower != nil: // it has conn, too
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
