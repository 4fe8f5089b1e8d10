package relay

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
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
		s := *c.Server
		s.Public = checked(s.Public)
		servers[s.ID] = s
	case c.Gone:
		if owners[c.Stream] == c.Owner {
			delete(owners, c.Stream)
		}
	case c.Stream != "":
		owners[c.Stream] = c.Owner
	}
}

// follow keeps the directory current until ctx ends. While the registry is
// away it has what was known last. taken is called with the streams that a
// server has, as that becomes known.
func (d *directory) follow(ctx context.Context, r Registry, pause backoff, taken func(stream, server string)) {
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
				if c.Stream != "" && !c.Gone {
					taken(c.Stream, c.Owner)
				}
			case c == Change{}:
				warm = true
				pause.reset()
				d.mu.Lock()
				d.servers, d.owners = servers, owners
				d.mu.Unlock()
				for stream, owner := range maps.Clone(owners) {
					taken(stream, owner)
				}
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

// A Member is a server of the cluster as this one knows it.
type Member struct {
	Server
	Streams int  // that it has the publishers of
	Self    bool // it is this one
}

// Members returns the servers of the cluster that are known to be alive with how
// many streams they have, by ID. It knows them while Run runs.
func (r *Relay) Members() []Member {
	r.prepare()
	d := &r.cluster
	d.mu.RLock()
	counts := make(map[string]int, len(d.servers))
	for _, owner := range d.owners {
		counts[owner]++
	}
	list := make([]Member, 0, len(d.servers))
	for id, s := range d.servers {
		list = append(list, Member{Server: s, Streams: counts[id], Self: id == r.id})
	}
	d.mu.RUnlock()
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Owned returns the streams that a server of the cluster has the publishers of,
// in order.
func (r *Relay) Owned(server string) []string {
	names := r.cluster.of(server)
	slices.Sort(names)
	return names
}

// self is what is announced of this server.
func (r *Relay) self() Server {
	s := Server{ID: r.id, URL: r.Advertise, Edge: r.Edge, Public: r.Public, TURN: r.TURN}
	s.Load, s.Draining = r.load()
	return s
}

// loadStep is how much the load has to change for an announcement out of turn.
const loadStep = 0.1

// announce keeps this server known to the registry until ctx ends, and
// withdraws it then. Where it was forgotten, its streams are claimed anew.
func (r *Relay) announce(ctx context.Context) {
	turn := r.Registry.TTL() / 3
	look := time.NewTicker(max(turn/4, time.Millisecond))
	defer look.Stop()
	var said Server
	var due time.Time
	for failed := false; ; {
		s := r.self()
		began := time.Now()
		if full := !began.Before(due); full || !failed && (s.Draining != said.Draining || math.Abs(s.Load-said.Load) >= loadStep) {
			bounded, cancel := context.WithTimeout(ctx, turn)
			err := r.Registry.Announce(bounded, s)
			cancel()
			if err != nil && !failed && ctx.Err() == nil {
				r.log().Warn("relay: the registry is not to be had; streams that are here go on", "err", err)
			}
			if failed = err != nil; !failed {
				said = s
			}
			if full {
				due = began.Add(turn - turn/8) // not a look later for being a moment early
				if !failed {
					r.claimAll(ctx)
				}
			}
		}
		select {
		case <-look.C:
		case <-r.changed:
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
		if !r.publishedHere(name) && !r.promised(name) {
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
	if hops, err := parseHops(publisher.RawQuery); err != nil || r.isCopy(hops) || !r.publishedHere(name) {
		return // a copy: its server claims it
	}
	if r.handedOver(name) {
		return
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

// isCopy reports whether what came by way of some servers came through one of
// this cluster, which has claimed it.
func (r *Relay) isCopy(hops []string) bool {
	d := &r.cluster
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.ContainsFunc(hops, func(id string) bool {
		_, ok := d.servers[id]
		return ok
	})
}

// release gives back what was published here, and is no more.
func (r *Relay) release(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	if r.publishedHere(name) {
		return // it is back
	}
	if owner, ok := r.Find(name); ok && owner.ID != r.id {
		return
	}
	_ = r.Registry.Release(ctx, r.id, name)
}

// mayPublish refuses a publisher of a stream that another server has, or of
// which nobody can tell since the registry does not answer.
func (r *Relay) mayPublish(ctx context.Context, name string) error {
	if r.Registry == nil {
		return nil
	}
	if r.handedOver(name) {
		return ErrDrained
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
	r.mu.Lock()
	if r.promises == nil {
		r.promises = make(map[string]time.Time)
	}
	r.promises[name] = time.Now()
	r.mu.Unlock()
	r.yield(ctx, name)
	return nil
}

// promised reports whether a publisher was let in a moment ago, that may be about
// to begin.
func (r *Relay) promised(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.promises[name]
	if ok && time.Since(at) > r.timeout() {
		delete(r.promises, name)
		return false
	}
	return ok
}

// yield ends the fetch of a stream of the cluster that is to be published here:
// that it could be claimed says that no other server has it any more. The
// players stay, if the hub has a Grace.
func (r *Relay) yield(ctx context.Context, name string) {
	r.mu.Lock()
	var fetching *job
	for j := range r.jobs {
		if j.stream == name && j.kind == Fetching {
			fetching = j
		}
	}
	r.mu.Unlock()
	if fetching != nil && fetching.fruitless() {
		fetching.stop(errMoved)
		select {
		case <-fetching.done:
		case <-ctx.Done():
		}
	}
}
