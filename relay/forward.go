package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// A Rule says where streams are sent while they are live.
type Rule struct {
	Match string   // pattern of hub keys, see auth.Match; "": all
	URLs  []string // a copy goes to each; see the package comment on what they may hold
}

// maxForwards bounds where one stream goes to.
const maxForwards = 64

// Run takes part in the cluster of Registry, and sends streams to where Forward and Ask say, and to the origin with
// PublishToOrigin what is published here, until ctx ends or the hub is closed;
// it returns nil then, when all of it has ended. Streams that Fetch brings are
// left alone.
func (r *Relay) Run(ctx context.Context) error {
	r.prepare()
	ctx, cancel := context.WithCancel(ctx)
	f := forwarding{relay: r, ctx: ctx, live: make(map[string]context.CancelFunc)}
	defer f.wait.Wait()
	defer cancel()
	events := r.Hub.Events(ctx)
	if r.Registry != nil {
		f.wait.Go(func() { r.cluster.follow(ctx, r.Registry, r.backoff(), r.goAlong) })
		f.wait.Go(func() { r.announce(ctx) })
	}
	f.all()
	for e := range events {
		switch e := e.(type) {
		case stream.StreamStarted:
			f.end(e.Stream) // of the one before, if it was not heard of
			f.start(e.Stream)
			f.registered(func() { r.claim(ctx, e.Stream) })
		case stream.PublisherChanged:
			if r.source(e.Stream) == Fetching {
				f.end(e.Stream) // another server has it now, and sends it on
			} else {
				f.start(e.Stream)
			}
			f.registered(func() { r.claim(ctx, e.Stream) })
		case stream.SessionClosed:
			// The stream may stay for a while, for its publisher to come back: to
			// another server perhaps.
			if e.Session.Role == stream.RolePublish {
				f.registered(func() {
					r.release(ctx, e.Session.Stream)
					if owner, ok := r.Find(e.Session.Stream); ok {
						r.goAlong(e.Session.Stream, owner.ID)
					}
				})
			}
		case stream.StreamEnded:
			f.registered(func() { r.release(ctx, e.Stream) })
			if r.Hub.Stream(e.Stream) == nil {
				f.end(e.Stream)
			}
		case stream.EventsLost:
			f.all()
		}
	}
	return nil
}

// forwarding is what Run keeps; it is owned by Run's goroutine.
type forwarding struct {
	relay *Relay
	ctx   context.Context
	live  map[string]context.CancelFunc // by stream
	wait  sync.WaitGroup
}

// registered does something about the registry, which may take its time.
func (f *forwarding) registered(do func()) {
	if f.relay.Registry != nil {
		f.wait.Go(do)
	}
}

// all makes live what the hub has.
func (f *forwarding) all() {
	there := make(map[string]bool)
	for s := range f.relay.Hub.Streams() {
		there[s.Name()] = true
		f.start(s.Name())
	}
	for name := range f.live {
		if !there[name] {
			f.end(name)
		}
	}
}

func (f *forwarding) end(name string) {
	if cancel := f.live[name]; cancel != nil {
		cancel()
		delete(f.live, name)
	}
}

func (f *forwarding) start(name string) {
	if f.live[name] != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	f.live[name] = cancel
	r := f.relay
	publisher := r.publisher(name)
	source := r.source(name)
	if source == Fetching {
		return // it would never be without a reader
	}
	var urls []string
	for _, rule := range r.Forward {
		if rule.Match != "" && !auth.Match(rule.Match, name) {
			continue
		}
		for _, u := range rule.URLs {
			urls = append(urls, expand(u, name))
		}
	}
	for _, u := range urls {
		f.push(ctx, name, &push{relay: r, targets: only(u)})
	}
	if r.PublishToOrigin && source == "" && len(r.Origins) > 0 {
		p := &push{relay: r, targets: func() []target { return r.originsOf(name) }, toOrigin: true}
		if r.Traverse {
			p.credentials = credentials(publisher.RawQuery, "")
		}
		f.push(ctx, name, p)
	}
	if r.Ask != nil {
		f.wait.Add(1)
		go func() {
			defer f.wait.Done()
			f.ask(ctx, publisher, urls)
		}()
	}
}

// ask sends a stream to where Ask says. Failing that it asks again.
func (f *forwarding) ask(ctx context.Context, publisher stream.SessionInfo, have []string) {
	r := f.relay
	pause := r.backoff()
	pause.max = max(pause.max, 10*time.Second)
	for {
		urls, err := r.Ask(ctx, publisher)
		if err == nil {
			for _, u := range urls[:min(len(urls), maxForwards)] {
				if u = expand(u, publisher.Stream); !slices.Contains(have, u) {
					have = append(have, u)
					f.push(ctx, publisher.Stream, &push{relay: r, targets: only(u)})
				}
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.log().Warn("relay: nobody says where to forward", "stream", publisher.Stream, "err", err)
		if pause.wait(ctx) != nil {
			return
		}
	}
}

func (f *forwarding) push(ctx context.Context, name string, p *push) {
	f.wait.Add(1)
	go func() {
		defer f.wait.Done()
		err := p.run(ctx, f.relay.begin(Pushing, name))
		if err != nil && ctx.Err() == nil && !errors.Is(err, stream.ErrNotFound) {
			f.relay.log().Warn("relay: forwarding ended", "stream", name, "err", err)
		}
	}()
}
