package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A directory is what this server knows of the cluster, kept current by a
// Watch, so that looking a stream up asks nobody.
type directory struct {
	mu      sync.RWMutex
	servers map[string]Server
	owners  map[string]string
}

// find returns the server that has a stream.
func (d *directory) find(name string) (Server, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s, ok := d.servers[d.owners[name]]
	return s, ok
}

// of returns the streams that a server has.
func (d *directory) of(id string) (names []string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for name, owner := range d.owners {
		if owner == id {
			names = append(names, name)
		}
	}
	return names
}

// all returns the servers, in no order.
func (d *directory) all() []Server {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]Server, 0, len(d.servers))
	for _, s := range d.servers {
		list = append(list, s)
	}
	return list
}

func apply(servers map[string]Server, owners map[string]string, c Change) {
	switch {
	case c.Server != nil && c.Gone:
		delete(servers, c.Server.ID)
	case c.Server != nil:
		servers[c.Server.ID] = *c.Server
	case c.Gone:
		if owners[c.Stream] == c.Owner {
			delete(owners, c.Stream)
		}
	case c.Stream != "":
		owners[c.Stream] = c.Owner
	}
}

// follow keeps the directory current until ctx ends. While the registry is
// away it has what was known last.
func (d *directory) follow(ctx context.Context, r Registry, pause backoff) {
	for {
		servers, owners := make(map[string]Server), make(map[string]string)
		warm := false
		for c, err := range r.Watch(ctx) {
			switch {
			case err != nil: // the last
			case warm:
				d.mu.Lock()
				apply(d.servers, d.owners, c)
				d.mu.Unlock()
			case c == Change{}:
				warm = true
				pause.reset()
				d.mu.Lock()
				d.servers, d.owners = servers, owners
				d.mu.Unlock()
			default:
				apply(servers, owners, c)
			}
		}
		if pause.wait(ctx) != nil {
			return
		}
	}
}

// Servers returns the servers of the cluster that are known to be alive, this
// one included, in no order. It knows them while Run runs.
func (r *Relay) Servers() []Server { return r.cluster.all() }

// Find returns the server of the cluster that has the stream's publisher. It
// looks into what this server knows and asks nobody.
func (r *Relay) Find(name string) (Server, bool) { return r.cluster.find(name) }

// announce keeps this server known to the registry until ctx ends, and
// withdraws it then. Where it was forgotten, its streams are claimed anew.
func (r *Relay) announce(ctx context.Context) {
	every := time.NewTicker(r.Registry.TTL() / 3)
	defer every.Stop()
	for failed := false; ; {
		s := Server{ID: r.id, URL: r.Advertise}
		if r.Load != nil {
			s.Load, s.Draining = r.Load()
		}
		bounded, cancel := context.WithTimeout(ctx, r.Registry.TTL()/3)
		err := r.Registry.Announce(bounded, s)
		cancel()
		if err != nil && !failed && ctx.Err() == nil {
			r.log().Warn("relay: the registry is not to be had; streams that are here go on", "err", err)
		}
		if failed = err != nil; !failed {
			r.claimAll(ctx)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout())
			defer cancel()
			if err := r.Registry.Withdraw(bounded, r.id); err != nil {
				r.log().Warn("relay: cannot leave the registry; it will forget", "err", err)
			}
			return
		}
	}
}

// claimAll claims what is published here and not known to be claimed, and
// releases what was claimed and not published.
func (r *Relay) claimAll(ctx context.Context) {
	for _, name := range r.cluster.of(r.id) {
		if r.Hub.Stream(name) == nil {
			r.release(ctx, name)
		}
	}
	for s := range r.Hub.Streams() {
		if owner, ok := r.cluster.find(s.Name()); !ok || owner.ID != r.id {
			r.claim(ctx, s.Name())
		}
	}
}

// claim makes this server the one that has a stream which is published here.
// The publisher of a stream that another has is ended. While the registry is
// away it stays.
func (r *Relay) claim(ctx context.Context, name string) {
	publisher := r.publisher(name)
	if hops, err := parseHops(publisher.RawQuery); err != nil || len(hops) > 0 || !r.publishedHere(name) {
		return // a copy: its server claims it
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	err := r.Registry.Claim(ctx, r.id, name)
	switch {
	case errors.Is(err, ErrClaimed):
		r.log().Warn("relay: another server has the stream: its publisher here is ended", "stream", name)
		if s := r.Hub.Session(publisher.ID); s != nil {
			s.Kick(ErrClaimed)
		} else if s := r.Hub.Stream(name); s != nil {
			s.End(ErrClaimed)
		}
	case err != nil && !errors.Is(err, ErrUnknown): // that is made up for by announce
		r.log().Warn("relay: a stream cannot be claimed", "stream", name, "err", err)
	}
}

func (r *Relay) release(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	if s := r.Hub.Stream(name); s != nil && s.Publishing() {
		return // it is back
	}
	_ = r.Registry.Release(ctx, r.id, name)
}

// mayPublish refuses a publisher of a stream that another server has, or of
// which nobody can tell since the registry does not answer.
func (r *Relay) mayPublish(ctx context.Context, name string) error {
	if r.Registry == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	err := r.Registry.Claim(ctx, r.id, name)
	if errors.Is(err, ErrClaimed) {
		return ErrClaimed
	}
	if err != nil {
		return errors.Join(stream.ErrBusy, err)
	}
	return nil
}
