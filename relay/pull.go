package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// A pull brings one stream into the hub, connection after connection.
type pull struct {
	relay    *Relay
	hub      *stream.Hub
	targets  func() []target
	forever  bool
	onBehalf bool // of those whom Guard has noted

	publisher atomic.Uint32 // counts the publishers in the hub

	// owned by run's goroutine
	job    *job
	cancel context.CancelCauseFunc
	pub    *stream.Publisher // nil until there is media
	line   line
	last   time.Time // when media came last
}

func (p *pull) run(ctx context.Context, j *job) (err error) {
	p.job = j
	ctx = j.open(ctx, p.hub, stream.RolePublish)
	defer func() {
		p.release()
		j.end(err)
	}()
	ctx, p.cancel = context.WithCancelCause(ctx)
	defer p.cancel(nil)
	log := p.relay.log().With("stream", j.stream)
	pause := p.relay.backoff()
	told := false
	for {
		media, err := p.round(ctx)
		if ended(ctx, err) {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		if media {
			log.Info("relay: the source has ended", "err", err)
			p.last, told = time.Now(), false
			pause.reset()
		} else if !told {
			told = true
			log.Warn("relay: no source", "err", err)
		}
		switch hold := or(p.relay.Hold, defaultHold); {
		case p.pub == nil && !p.forever && !p.orphaned():
			return err
		case p.pub != nil && time.Since(p.last) > hold:
			if !p.forever {
				return err
			}
			p.release()
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// orphaned reports whether there are readers here of what another server is to
// have, as soon as its publisher is there.
func (p *pull) orphaned() bool {
	if p.relay.Registry == nil {
		return false
	}
	s := p.hub.Stream(p.job.stream)
	return s != nil && !s.Publishing()
}

// release takes the stream out of the hub.
func (p *pull) release() {
	if p.pub != nil {
		_ = p.pub.Close()
		p.pub = nil
	}
}

// round tries the targets until one had media. The error is the last one's;
// one that says stream.ErrNotFound gives way to others.
func (p *pull) round(ctx context.Context) (media bool, err error) {
	err = stream.ErrNotFound
	for _, t := range p.targets() {
		media, failure := p.connect(ctx, t)
		if media || ended(ctx, failure) {
			return media, failure
		}
		if !errors.Is(failure, stream.ErrNotFound) {
			err = failure
		}
	}
	return false, err
}

// connect pulls from a target until that ends.
func (p *pull) connect(ctx context.Context, t target) (media bool, err error) {
	r, o, url := p.relay, Options{}, t.url
	var a asking
	if p.onBehalf {
		a = r.asked.of(p.job.stream)
		url = addQuery(url, a.credentials)
	}
	o.Hops = r.hopQuery(a.hops)
	if url, err = r.signed(ctx, p.job.stream, url); err != nil {
		return false, fmt.Errorf("relay: signing the URL: %w", err)
	}
	p.job.attempt(t.url, t.server != "")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &Writer{pull: p, ctx: ctx}
	// Nothing else notices a source that answers but says nothing.
	w.watch = time.AfterFunc(max(r.idleTimeout(), r.timeout()), func() { cancel(errSilent) })
	defer w.watch.Stop()
	err = follow(url, func(url string) error {
		transport, err := r.transport(url)
		if err != nil {
			return err
		}
		return transport.Pull(ctx, url, w, &o)
	})
	if cause := context.Cause(ctx); cause == errSilent {
		err = cause
	}
	switch {
	case w.media, err == nil, errors.Is(err, stream.ErrNotFound), errors.Is(err, auth.ErrDenied):
		r.origins.answered(t.server)
	case ctx.Err() == nil || errors.Is(err, errSilent):
		r.origins.failed(t.server)
	}
	if err == nil && !w.media {
		err = stream.ErrNotFound
	}
	p.job.running(false, err)
	return w.media, err
}

var errSilent = errors.New("relay: the source is silent")
