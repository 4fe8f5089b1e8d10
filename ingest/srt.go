package ingest

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/name"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/stream"
)

// SRT is what a Server's SRT ports are like. The zero value will do.
type SRT struct {
	// Latency is how long packets are held, at both ends, so that what is lost
	// can be sent again, at least: a peer may ask for more. Default 120 ms.
	Latency time.Duration
	// Passphrase, of 10 to 79 bytes, is that of every connection; those with
	// another one or none are refused. "": whoever has one is refused unless the
	// Authorizer finds it right by Request.Proof, which is nil for others.
	Passphrase string
	// PeerIdle is how long a peer may be silent. Default 5 s.
	PeerIdle time.Duration
	// PacketFilter is a packet filter that each connection is to have, such as
	// "fec,cols:10,rows:5". "": what the peer proposes.
	PacketFilter string
	// MaxBandwidth bounds each connection's sending, in bytes a second. 0: no
	// bound.
	MaxBandwidth int64
	// MaxConns bounds the connections of each port; 0: no bound.
	MaxConns int
}

// SRTStats are the figures of an SRT connection under libsrt's names.
type SRTStats = srt.Stats

// An SRTConn is an SRT connection that publishes or plays.
type SRTConn struct {
	Session string // the ID of its stream.Session
	Stream  string
	Remote  netip.AddrPort
	Publish bool
	Stats   SRTStats
}

// SRTConns returns the SRT connections that publish or play now.
func (s *Server) SRTConns() iter.Seq[SRTConn] {
	return func(yield func(SRTConn) bool) {
		s.mu.Lock()
		var peers []*srtPeer
		for p := range s.srts {
			peers = p.appendPeers(peers)
		}
		s.mu.Unlock()
		for _, p := range peers {
			c := SRTConn{Session: p.req.Session, Stream: p.req.Stream, Remote: p.req.Remote, Publish: p.publish, Stats: p.conn.Stats()}
			if !yield(c) {
				return
			}
		}
	}
}

// ServeSRT accepts SRT callers from pc: publishers whose stream id says
// m=publish, and players, who are handed to players; nil refuses them. The
// stream id is "#!::r=app/name,m=publish,u=user,s=token", or "app/name" to play.
// An empty one is refused. What is published must be an MPEG transport stream, and
// what is played is one, whatever it was published as.
//
// It closes pc in the end, and returns ErrServerClosed after Close, or after
// Shutdown when the last connection has ended. It may be called for several
// sockets.
func (s *Server) ServeSRT(pc net.PacketConn, players PlayServer) error {
	p := &srtPort{Server: s, players: players, peers: make(map[*srtPeer]struct{}), drained: make(chan struct{})}
	p.engine = &srt.Endpoint{
		Handler: p.decide, Log: s.Log,
		Latency: s.SRT.Latency, PeerIdle: s.SRT.PeerIdle, Filter: s.SRT.PacketFilter,
		MaxBW: s.SRT.MaxBandwidth, MaxConns: s.SRT.MaxConns,
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = pc.Close()
		return ErrServerClosed
	}
	if s.srts == nil {
		s.srts = make(map[*srtPort]struct{})
	}
	s.srts[p] = struct{}{}
	s.mu.Unlock()
	err := p.engine.Serve(pc)
	s.mu.Lock()
	delete(s.srts, p)
	s.mu.Unlock()
	if errors.Is(err, srt.ErrServerClosed) {
		return ErrServerClosed
	}
	return err
}

// An srtPort is one socket of ServeSRT.
type srtPort struct {
	*Server
	players PlayServer
	engine  *srt.Endpoint

	mu       sync.Mutex // taken after Server.mu
	draining bool
	peers    map[*srtPeer]struct{}
	drained  chan struct{} // closed when draining and no peer publishes
	done     bool
}

// An srtPeer is a connection that publishes or plays.
type srtPeer struct {
	req     *auth.Request
	publish bool
	conn    *srt.Conn
}

func (p *srtPort) appendPeers(dst []*srtPeer) []*srtPeer {
	p.mu.Lock()
	defer p.mu.Unlock()
	for q := range p.peers {
		dst = append(dst, q)
	}
	return dst
}

// enter counts a connection in until it ends.
func (p *srtPort) enter(q *srtPeer) {
	p.mu.Lock()
	p.peers[q] = struct{}{}
	p.mu.Unlock()
	p.Hub.Session(q.req.Session).Measure(func() any { return q.conn.Stats() })
	q.conn.OnEnd(func(error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.peers, q)
		p.drainLocked()
	})
}

func (p *srtPort) drainLocked() {
	if !p.draining {
		return
	}
	publishers := 0
	for q := range p.peers {
		if q.publish {
			publishers++
		}
	}
	if publishers == 0 && !p.done {
		p.done = true
		close(p.drained)
	}
	if len(p.peers) == 0 {
		go p.engine.Close()
	}
}

// shutdown refuses callers, and waits for the publishers to leave.
func (p *srtPort) shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.draining = true
	p.drainLocked()
	p.mu.Unlock()
	select {
	case <-p.drained:
		return nil
	case <-ctx.Done():
	}
	for _, q := range p.appendPeers(nil) {
		if q.publish {
			q.conn.Abort()
		}
	}
	return ctx.Err()
}

// decide is the engine's handler.
func (p *srtPort) decide(c *srt.Call) {
	p.mu.Lock()
	draining := p.draining
	p.mu.Unlock()
	if draining {
		c.Reject(srt.Closing)
		return
	}
	// A connection is a session here, and counts as that; how fast they come is
	// looked at as everywhere.
	release, err := p.door().Limits.Connect(c.Remote.Addr())
	if err != nil {
		c.Reject(srt.Overload)
		return
	}
	defer release()
	id := srt.ParseStreamID(c.StreamID)
	req, err := srtRequest(c, id, p.SRT.Passphrase == "")
	if err == nil && id.Publish { // players are placed by Play
		err = p.place(req)
	}
	if id.Bad || err != nil {
		c.Reject(srt.BadRequest)
		return
	}
	if secret := p.SRT.Passphrase; secret != "" {
		c.Secret(secret)
		if why, ok := c.Secrecy(); !ok {
			p.log().Info("ingest: refused over SRT", "stream", req.Stream, "remote", c.Remote, "err", &srt.Rejection{Reason: why})
			c.Reject(why)
			return
		}
	}
	if id.Publish {
		p.publish(c, req)
	} else {
		p.play(c, req)
	}
}

// srtApp is the app of a stream id without one, as SRS has it.
const srtApp = "live"

// srtRequest makes the Authorizer's question of a stream id. own says that a
// passphrase is the Authorizer's to know; who has none is asked for nothing
// that was not sent.
func srtRequest(c *srt.Call, id srt.StreamID, own bool) (*auth.Request, error) {
	q, err := url.ParseQuery(id.Query)
	if err != nil {
		return nil, err
	}
	r := &auth.Request{
		Action: auth.Play, Protocol: "srt", Remote: c.Remote,
		VHost: q.Get("vhost"), App: srtApp, Name: id.Resource, RawQuery: id.Query,
		User: id.User, Password: q.Get("password"), Token: id.Session,
	}
	if own && c.Encrypted() {
		r.Proof = func(s auth.Secret) bool { return c.Secret(s.Plain) }
	}
	if i := strings.LastIndexByte(id.Resource, '/'); i >= 0 {
		r.App, r.Name = id.Resource[:i], id.Resource[i+1:]
	}
	if r.User == "" {
		r.User = q.Get("user")
	}
	if r.Token == "" {
		r.Token = q.Get("token")
	}
	if r.VHost == name.DefaultVHost {
		r.VHost = ""
	}
	if strings.Contains(r.VHost, "/") {
		return nil, name.ErrName
	}
	if id.Host != "" {
		r.TCURL = (&url.URL{Scheme: "srt", Host: id.Host, Path: "/" + r.App}).String()
	}
	r.Stream, err = name.Join(r.VHost, r.App, r.Name)
	return r, err
}

// srtReason returns what a caller is told. It is the table from errors to
// reasons.
func srtReason(c *srt.Call, r *auth.Request, err error) srt.Reason {
	var redirect *auth.Redirect
	var rejection *srt.Rejection
	switch {
	case errors.As(err, &rejection):
		return rejection.Reason
	case errors.Is(err, auth.ErrDenied), errors.As(err, &redirect):
		if why, ok := c.Secrecy(); !ok {
			return why
		}
		if r.Token == "" && r.User == "" {
			return srt.Unauthorized
		}
		return srt.Forbidden
	case errors.Is(err, stream.ErrName):
		return srt.BadRequest
	case errors.Is(err, stream.ErrNotFound):
		return srt.NotFound
	case errors.Is(err, stream.ErrBusy), errors.Is(err, stream.ErrReplaced):
		return srt.Conflict
	case errors.Is(err, stream.ErrUnsupported):
		return srt.Unsupported
	case errors.Is(err, stream.ErrKicked):
		return srt.Forbidden
	case errors.Is(err, stream.ErrClosed):
		return srt.Closing
	case errors.Is(err, limit.ErrReached):
		return srt.Overload
	}
	return srt.InternalError
}
