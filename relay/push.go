package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// maxLag is how far a slow server may fall behind, in media, before frames are
// left out.
const maxLag = 10 * time.Second

// A push sends one stream of the hub to another server, connection after
// connection.
type push struct {
	relay       *Relay
	targets     func() []target
	credentials string // a query
	toOrigin    bool   // a refusal ends the publisher, on whose behalf it is
}

func (p *push) run(ctx context.Context, j *job) (err error) {
	r := p.relay
	ctx = j.open(ctx, r.Hub, stream.RolePlay)
	defer func() { j.end(err) }()
	log := r.log().With("stream", j.stream)
	pause := r.backoff()
	told := false
	for {
		began := time.Now()
		failure := stream.ErrNotFound
		for _, t := range p.targets() {
			if r.Hub.Stream(j.stream) == nil {
				return stream.ErrNotFound // Subscribe might fetch it
			}
			sub, err := r.Hub.Subscribe(ctx, j.stream, &stream.SubscribeOptions{MaxLag: maxLag})
			if err != nil {
				if cause := context.Cause(ctx); cause != nil {
					err = cause
				}
				return err
			}
			failure = p.connect(ctx, j, t, sub)
			_ = sub.Close()
			if failure == nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if p.toOrigin && errors.Is(failure, auth.ErrDenied) {
				p.denied(j.stream)
				return failure
			}
			if !told {
				told = true
				log.Warn("relay: cannot push", "to", redact(t.url, j.stream), "err", failure)
			}
		}
		if time.Since(began) > pause.max {
			pause.reset() // it worked for a while
			told = false
		}
		if errors.Is(failure, ErrScheme) {
			return failure
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

func (p *push) connect(ctx context.Context, j *job, t target, sub *stream.Subscriber) error {
	r := p.relay
	url, err := r.signed(ctx, j.stream, addQuery(t.url, p.credentials))
	if err != nil {
		return fmt.Errorf("relay: signing the URL: %w", err)
	}
	path := r.pathOf(j.stream)
	j.attempt(t.url, t.server != "")
	o := &Options{Hops: r.hopQuery(path), Sent: func(n int) {
		j.session.AddOut(n)
		j.running(true, nil)
	}}
	err = follow(url, func(url string) error {
		transport, err := r.transport(url)
		if err != nil {
			return err
		}
		return transport.Push(ctx, url, sub, o)
	})
	j.running(false, err)
	switch {
	case ctx.Err() != nil:
	case err == nil, errors.Is(err, auth.ErrDenied):
		r.origins.answered(t.server)
	default:
		r.origins.failed(t.server)
	}
	return err
}

// denied ends the publisher of a stream that the origin does not take.
func (p *push) denied(name string) {
	for s := range p.relay.Hub.Sessions() {
		if info := s.Info(); info.Stream == name && info.Role == stream.RolePublish {
			s.Kick(auth.ErrDenied)
		}
	}
}

// pathOf returns the servers that a stream has come through, as far as they
// are known.
func (r *Relay) pathOf(name string) []string {
	r.mu.Lock()
	for j := range r.jobs {
		if j.stream == name && j.kind != Pushing {
			r.mu.Unlock()
			j.mu.Lock()
			defer j.mu.Unlock()
			return j.path
		}
	}
	r.mu.Unlock()
	hops, _ := parseHops(r.publisher(name).RawQuery) // Guard let it pass
	return hops
}

// publisher returns the session of a stream's publisher, one with nothing but
// the stream if it has none.
func (r *Relay) publisher(name string) stream.SessionInfo {
	for s := range r.Hub.Sessions() {
		if info := s.Info(); info.Stream == name && info.Role == stream.RolePublish {
			return info
		}
	}
	return stream.SessionInfo{Stream: name, Role: stream.RolePublish}
}
