package relay

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"sync"
	"time"
)

// A MemoryRegistry is a Registry for servers of one process, such as those of a
// test. Its zero value is ready. It must not be copied.
type MemoryRegistry struct {
	Lease time.Duration // what TTL returns; default 5 s

	mu       sync.Mutex
	servers  map[string]*member
	owners   map[string]string // server by stream
	watchers map[*watcher]struct{}
}

type member struct {
	server Server
	expiry *time.Timer
	claims map[string]struct{}
}

// A watcher is a Watch that goes on.
type watcher struct {
	changes chan Change
}

// maxBehind is how many changes a Watch may lag.
const maxBehind = 4096

var errBehind = errors.New("relay: too slow for the registry's changes")

// TTL implements Registry.
func (m *MemoryRegistry) TTL() time.Duration { return or(m.Lease, 5*time.Second) }

// Announce implements Registry.
func (m *MemoryRegistry) Announce(_ context.Context, s Server) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.servers[s.ID]
	if x == nil {
		x = &member{claims: make(map[string]struct{})}
		if m.servers == nil {
			m.servers, m.owners = make(map[string]*member), make(map[string]string)
		}
		m.servers[s.ID] = x
		x.expiry = time.AfterFunc(m.TTL(), func() { m.expire(s.ID, x) })
	}
	x.expiry.Reset(m.TTL())
	if !reflect.DeepEqual(x.server, s) {
		x.server = s
		m.tell(Change{Server: &s})
	}
	return nil
}

func (m *MemoryRegistry) expire(id string, x *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.servers[id] == x {
		m.forget(id)
	}
}

// Withdraw implements Registry.
func (m *MemoryRegistry) Withdraw(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(id)
	return nil
}

// forget is called with mu held.
func (m *MemoryRegistry) forget(id string) {
	x := m.servers[id]
	if x == nil {
		return
	}
	x.expiry.Stop()
	delete(m.servers, id)
	for name := range x.claims {
		delete(m.owners, name)
		m.tell(Change{Stream: name, Owner: id, Gone: true})
	}
	m.tell(Change{Server: &x.server, Gone: true})
}

// Claim implements Registry.
func (m *MemoryRegistry) Claim(_ context.Context, server, stream string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.servers[server]
	if x == nil {
		return ErrUnknown
	}
	switch owner, ok := m.owners[stream]; {
	case owner == server && ok:
		return nil
	case ok:
		return ErrClaimed
	}
	m.owners[stream] = server
	x.claims[stream] = struct{}{}
	m.tell(Change{Stream: stream, Owner: server})
	return nil
}

// Release implements Registry.
func (m *MemoryRegistry) Release(_ context.Context, server, stream string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.servers[server]
	if x == nil || m.owners[stream] != server {
		return nil
	}
	delete(m.owners, stream)
	delete(x.claims, stream)
	m.tell(Change{Stream: stream, Owner: server, Gone: true})
	return nil
}

// tell is called with mu held.
func (m *MemoryRegistry) tell(c Change) {
	for w := range m.watchers {
		select {
		case w.changes <- c:
		default:
			m.drop(w)
		}
	}
}

// drop is called with mu held.
func (m *MemoryRegistry) drop(w *watcher) {
	if _, ok := m.watchers[w]; ok {
		delete(m.watchers, w)
		close(w.changes)
	}
}

// Watch implements Registry.
func (m *MemoryRegistry) Watch(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		m.mu.Lock()
		known := make([]Change, 0, len(m.servers)+len(m.owners)+1)
		for _, x := range m.servers {
			s := x.server
			known = append(known, Change{Server: &s})
		}
		for name, owner := range m.owners {
			known = append(known, Change{Stream: name, Owner: owner})
		}
		w := &watcher{changes: make(chan Change, maxBehind)}
		if m.watchers == nil {
			m.watchers = make(map[*watcher]struct{})
		}
		m.watchers[w] = struct{}{}
		m.mu.Unlock()
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.drop(w)
		}()
		for _, c := range append(known, Change{}) {
			if !yield(c, nil) {
				return
			}
		}
		for {
			select {
			case c, ok := <-w.changes:
				if !ok {
					yield(Change{}, errBehind)
					return
				}
				if !yield(c, nil) {
					return
				}
			case <-ctx.Done():
				yield(Change{}, context.Cause(ctx))
				return
			}
		}
	}
}
