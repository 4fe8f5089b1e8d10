// Package registrytest tests implementations of relay.Registry.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// patience is for what a loaded machine does late.
const patience = 30 * time.Second

// Run tests what every relay.Registry keeps to. open returns ways into a new,
// empty registry whose TTL is lease, three or more as three servers would have
// them; they may be the same value.
func Run(t *testing.T, open func(t *testing.T, lease time.Duration) []relay.Registry) {
	for _, tt := range []struct {
		name  string
		lease time.Duration
		test  func(*testing.T, []relay.Registry)
	}{
		{"claims", time.Hour, claims},
		{"contention", time.Hour, contention},
		{"names", time.Hour, names},
		{"watch", time.Hour, watch},
		{"lease", 6 * time.Second, leaseEnds},
		{"withdraw", time.Hour, withdraw},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := open(t, tt.lease)
			if len(list) < 3 {
				t.Fatal("three are needed")
			}
			if ttl := list[0].TTL(); ttl != tt.lease {
				t.Fatalf("the TTL is %v, not %v", ttl, tt.lease)
			}
			tt.test(t, list)
		})
	}
}

func server(id string) relay.Server { return relay.Server{ID: id, URL: "runnel://" + id} }

// want fails the test unless err is target, nil for none.
func want(t *testing.T, target, err error, about ...any) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("the error is %q, not %q %v", fmt.Sprint(err), fmt.Sprint(target), about)
	}
}

// announce makes the servers a, b and c known, and keeps them so until the end
// of the test or the returned function is called with the one to let go.
func announce(t *testing.T, list []relay.Registry) (forget func(i int)) {
	t.Helper()
	stops := make([]func(), 3)
	for i := range stops {
		stops[i] = keep(t, list[i], server(string(rune('a'+i))))
	}
	return func(i int) { stops[i]() }
}

// keep makes a server known until the end of the test, or stop.
func keep(t *testing.T, r relay.Registry, s relay.Server) (stop func()) {
	t.Helper()
	want(t, nil, r.Announce(t.Context(), s))
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		every := time.NewTicker(r.TTL() / 5)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				_ = r.Announce(ctx, s)
			case <-ctx.Done():
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wait.Wait() })
	t.Cleanup(stop)
	return stop
}

func claims(t *testing.T, list []relay.Registry) {
	ctx := t.Context()
	want(t, relay.ErrUnknown, list[0].Claim(ctx, "a", "live/cam"))
	want(t, nil, list[0].Release(ctx, "a", "live/cam"))
	announce(t, list)
	want(t, nil, list[0].Claim(ctx, "a", "live/cam"))
	want(t, nil, list[0].Claim(ctx, "a", "live/cam"), "its own")
	err := list[1].Claim(ctx, "b", "live/cam")
	want(t, relay.ErrClaimed, err)
	want(t, stream.ErrBusy, err)
	want(t, nil, list[1].Release(ctx, "b", "live/cam"), "not its own")
	want(t, relay.ErrClaimed, list[1].Claim(ctx, "b", "live/cam"))
	want(t, nil, list[0].Release(ctx, "a", "live/cam"))
	want(t, nil, list[0].Release(ctx, "a", "live/cam"), "again")
	want(t, nil, list[1].Claim(ctx, "b", "live/cam"))
	want(t, relay.ErrClaimed, list[0].Claim(ctx, "a", "live/cam"))
}

func contention(t *testing.T, list []relay.Registry) {
	announce(t, list)
	const streams, rounds = 20, 3
	for round := range rounds {
		var owners [streams]atomic.Pointer[string]
		var wins atomic.Int32
		var wait sync.WaitGroup
		for i := range 3 {
			for s := range streams {
				wait.Go(func() {
					id := string(rune('a' + i))
					err := list[i].Claim(t.Context(), id, fmt.Sprint("live/", s))
					switch {
					case err == nil:
						wins.Add(1)
						owners[s].Store(&id)
					case !errors.Is(err, relay.ErrClaimed):
						t.Error(err)
					}
				})
			}
		}
		wait.Wait()
		if n := wins.Load(); n != streams {
			t.Fatalf("round %d: %d claims of %d streams", round, n, streams)
		}
		for s := range streams {
			id := *owners[s].Load()
			want(t, nil, list[id[0]-'a'].Release(t.Context(), id, fmt.Sprint("live/", s)))
		}
	}
}

func names(t *testing.T, list []relay.Registry) {
	announce(t, list)
	keys := []string{"a", "live/cam", "live/Cam", "live/a.b", "live/a*b", "live/>", "live/a b", "live/a=20b", "live/ä", "live/\u65e5\u672c", "v.example/live/$x", string(make([]byte, 255))}
	for _, key := range keys {
		want(t, nil, list[0].Claim(t.Context(), "a", key), "%q", key)
		want(t, relay.ErrClaimed, list[1].Claim(t.Context(), "b", key), "%q", key)
	}
	w := follow(t, list[2])
	w.until("all names", func(servers map[string]relay.Server, owners map[string]string) bool {
		return slices.Equal(slices.Sorted(slices.Values(keys)), slices.Sorted(maps.Keys(owners)))
	})
}

// A follower does with a Watch what relay.Relay does.
type follower struct {
	t *testing.T

	mu      sync.Mutex
	servers map[string]relay.Server
	owners  map[string]string
	warm    bool
}

func follow(t *testing.T, r relay.Registry) *follower {
	f := &follower{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil { // a Watch may end with an error at any time
			f.mu.Lock()
			f.servers, f.owners, f.warm = map[string]relay.Server{}, map[string]string{}, false
			f.mu.Unlock()
			for c, err := range r.Watch(ctx) {
				if err != nil {
					break
				}
				f.take(c)
			}
		}
	})
	t.Cleanup(func() { cancel(); wait.Wait() })
	return f
}

func (f *follower) take(c relay.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.Server != nil && c.Gone:
		delete(f.servers, c.Server.ID)
	case c.Server != nil:
		f.servers[c.Server.ID] = *c.Server
	case c.Stream == "":
		f.warm = true
	case c.Gone:
		if f.owners[c.Stream] == c.Owner {
			delete(f.owners, c.Stream)
		}
	default:
		f.owners[c.Stream] = c.Owner
	}
}

// until waits until a warm view fits.
func (f *follower) until(what string, fits func(servers map[string]relay.Server, owners map[string]string) bool) {
	f.t.Helper()
	if !assertEventually(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.warm && fits(f.servers, f.owners)
	}) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.t.Fatalf("not within %v: %s; warm: %v, servers: %v, owners: %v", patience, what, f.warm, f.servers, f.owners)
	}
}

func assertEventually(condition func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if condition() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func watch(t *testing.T, list []relay.Registry) {
	ctx := t.Context()
	empty := follow(t, list[0])
	empty.until("nothing", func(servers map[string]relay.Server, owners map[string]string) bool {
		return len(servers) == 0 && len(owners) == 0
	})
	announce(t, list)
	for i := range 10 {
		want(t, nil, list[i%3].Claim(ctx, string(rune('a'+i%3)), fmt.Sprint(i)))
	}
	want(t, nil, list[0].Release(ctx, "a", "0"))
	late := follow(t, list[1])
	for _, f := range []*follower{empty, late} {
		f.until("3 servers and 9 streams", func(servers map[string]relay.Server, owners map[string]string) bool {
			return len(servers) == 3 && len(owners) == 9 && owners["4"] == "b" && servers["b"].URL == "runnel://b"
		})
	}
	want(t, nil, list[1].Claim(ctx, "b", "0"))
	want(t, nil, list[2].Release(ctx, "c", "2"))
	for _, f := range []*follower{empty, late} {
		f.until("changes", func(_ map[string]relay.Server, owners map[string]string) bool {
			return owners["0"] == "b" && owners["2"] == ""
		})
	}
	d := server("d")
	want(t, nil, list[0].Announce(ctx, d))
	d.Load, d.Draining = 0.5, true
	keep(t, list[0], d)
	late.until("load", func(servers map[string]relay.Server, _ map[string]string) bool {
		return servers["d"].Load == 0.5 && servers["d"].Draining
	})

	// The end of the context is an error, once.
	done, cancel := context.WithCancelCause(ctx)
	cause := errors.New("enough")
	var last error
	for c, err := range list[0].Watch(done) {
		if last != nil {
			t.Fatal("a change after an error")
		}
		if last = err; err == nil && c == (relay.Change{}) {
			cancel(cause)
		}
	}
	want(t, cause, last)
	cancel(nil)
	// Who wants no more gets no more.
	for range list[0].Watch(ctx) {
		break
	}
}

func leaseEnds(t *testing.T, list []relay.Registry) {
	ctx := t.Context()
	forget := announce(t, list)
	want(t, nil, list[0].Claim(ctx, "a", "live/cam"))
	want(t, nil, list[0].Claim(ctx, "a", "live/other"))
	f := follow(t, list[2])
	f.until("both", func(servers map[string]relay.Server, owners map[string]string) bool {
		return len(servers) == 3 && len(owners) == 2
	})
	forget(0)
	f.until("the others", func(servers map[string]relay.Server, owners map[string]string) bool {
		return len(servers) == 2 && len(owners) == 0
	})
	want(t, nil, list[1].Claim(ctx, "b", "live/cam"))
	want(t, relay.ErrUnknown, list[0].Claim(ctx, "a", "live/cam"))
	want(t, nil, list[0].Announce(ctx, server("a")), "it returns")
	want(t, relay.ErrClaimed, list[0].Claim(ctx, "a", "live/cam"))
	want(t, nil, list[0].Claim(ctx, "a", "live/other"))
	f.until("another owner", func(_ map[string]relay.Server, owners map[string]string) bool { return owners["live/cam"] == "b" })
}

func withdraw(t *testing.T, list []relay.Registry) {
	ctx := t.Context()
	forget := announce(t, list)
	for i := range 20 {
		want(t, nil, list[0].Claim(ctx, "a", fmt.Sprint(i)))
	}
	f := follow(t, list[1])
	f.until("20 streams", func(_ map[string]relay.Server, owners map[string]string) bool { return len(owners) == 20 })
	forget(0)
	want(t, nil, list[0].Withdraw(ctx, "a"))
	want(t, nil, list[0].Withdraw(ctx, "a"), "again")
	want(t, nil, list[0].Withdraw(ctx, "nobody"))
	want(t, relay.ErrUnknown, list[0].Claim(ctx, "a", "1"))
	f.until("no streams", func(servers map[string]relay.Server, owners map[string]string) bool {
		return len(servers) == 2 && len(owners) == 0
	})
	want(t, nil, list[1].Claim(ctx, "b", "1"))
	want(t, nil, list[0].Announce(ctx, server("a")))
	want(t, relay.ErrClaimed, list[0].Claim(ctx, "a", "1"))
	want(t, nil, list[0].Claim(ctx, "a", "2"))
	f.until("two streams", func(_ map[string]relay.Server, owners map[string]string) bool {
		return len(owners) == 2 && owners["1"] == "b" && owners["2"] == "a"
	})
}
