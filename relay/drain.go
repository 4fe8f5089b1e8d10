package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// ErrDrained is what sessions are ended with by Drain whose clients can't be
// sent to another server. It is a stream.ErrClosed.
var ErrDrained = fmt.Errorf("relay: the server is drained: %w", stream.ErrClosed)

const (
	drainStep  = 100 * time.Millisecond
	drainSteps = 40 // at most, for as many peers as there are
	drainBatch = 8  // peers a step, at least
)

// Drain empties this server for good: it takes nothing new, hands its streams
// over to the servers that its publishers are sent to, and sends away players
// when another server has what they play, all within some seconds if publishers
// come back as soon. It needs Run to run, and waits while no other server is
// alive that has room.
//
// Clients that can be told where to go are (RTMP publishers by a reconnect
// request if they understand it, HLS players by a redirect of their next
// request); others are ended with ErrDrained, and find another server by their
// own means. Drain returns nil when no peer is left, or the cause of ctx's end.
func (r *Relay) Drain(ctx context.Context) error {
	r.prepare()
	if r.Registry == nil {
		return errors.New("relay: to drain takes a Registry")
	}
	r.draining.Store(true)
	select {
	case r.changed <- struct{}{}:
	default: // it is to be announced already
	}
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	asked := make(map[string]bool) // sessions that were ended; it takes them a moment
	batch := drainBatch
	for {
		publishers, players := r.peers()
		if len(publishers)+len(players) == 0 {
			return nil
		}
		batch = max(batch, (len(publishers)+len(players))/drainSteps)
		published := make(map[string]bool)
		for _, s := range publishers {
			published[s.Info().Stream] = true
		}
		n := 0
		for _, s := range append(publishers, players...) {
			if n == batch || !r.elsewhere() {
				break
			}
			info := s.Info()
			if asked[info.ID] || info.Role == stream.RolePlay && (published[info.Stream] || r.awaited(info.Stream)) {
				continue
			}
			if info.Role == stream.RolePublish && !r.handOver(ctx, info.Stream) {
				continue
			}
			asked[info.ID] = true
			n++
			s.Kick(r.farewell(info))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// peers returns the sessions of others than the relay itself.
func (r *Relay) peers() (publishers, players []*stream.Session) {
	own := make(map[string]bool)
	r.mu.Lock()
	for j := range r.jobs {
		own[j.id] = true
	}
	r.mu.Unlock()
	for s := range r.Hub.Sessions() {
		switch info := s.Info(); {
		case own[info.ID]:
		case info.Role == stream.RolePublish:
			publishers = append(publishers, s)
		default:
			players = append(players, s)
		}
	}
	return publishers, players
}

// elsewhere reports whether another media server takes clients.
func (r *Relay) elsewhere() bool {
	for _, s := range r.Servers() {
		if s.ID != r.id && s.URL != "" && !s.Draining && s.Load < 1 {
			return true
		}
	}
	return false
}

// awaited reports whether a stream that is here has lost its publisher, and no
// other server has it yet.
func (r *Relay) awaited(name string) bool {
	live := r.Hub.Stream(name)
	if live == nil || live.Publishing() {
		return false
	}
	owner, ok := r.Find(name)
	return !ok || owner.ID == r.id
}

// farewell is what to end a session with: where its client goes, or ErrDrained.
func (r *Relay) farewell(info stream.SessionInfo) error {
	q := &auth.Request{
		Action: auth.Play, Protocol: info.Protocol, Remote: info.Remote, RawQuery: info.RawQuery,
		Stream: info.Stream, VHost: info.VHost, App: info.App, Name: info.Name,
	}
	if info.Role == stream.RolePublish {
		q.Action = auth.Publish
	}
	if to, base := r.choose(q); to.ID != r.id && to.public(q) != "" {
		return &auth.Redirect{Location: location(base, q, 1)}
	}
	return ErrDrained
}

// handOver gives up a stream that is published here, so that another server can
// claim it, and reports whether that is done.
func (r *Relay) handOver(ctx context.Context, name string) bool {
	r.mu.Lock()
	if r.handed == nil {
		r.handed = make(map[string]struct{})
	}
	r.handed[name] = struct{}{}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	if err := r.Registry.Release(ctx, r.id, name); err != nil {
		r.log().Warn("relay: a stream cannot be handed over yet", "stream", name, "err", err)
		return false
	}
	return true
}

func (r *Relay) handedOver(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.handed[name]
	return ok
}

// goAlong fetches a stream for the players who are here when another server gets
// the publisher that was here. Servers that fetch it from here are to find the
// other one.
func (r *Relay) goAlong(name, server string) {
	s := r.Hub.Stream(name)
	if server == r.id || s == nil || s.Publishing() {
		return
	}
	readers := s.Stats().Readers
	for x := range r.Hub.Sessions() {
		if info := x.Info(); info.Stream == name && info.Role == stream.RolePlay && info.Protocol == "relay" && info.Labels["relay"] == "" {
			readers--
			x.Kick(errMoved)
		}
	}
	if readers <= 0 || r.Hub.Source == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), r.timeout())
		defer cancel()
		if sub, err := r.Hub.Subscribe(ctx, name, nil); err == nil { // which has it fetched
			_ = sub.Close()
		}
	}()
}

var errMoved = errors.New("relay: another server has the stream now")
