package turnauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
)

// What the fields of a Cache mean when they are zero.
const (
	DefaultKeep        = 30 * time.Second
	DefaultKeepUnknown = 5 * time.Second
	DefaultTimeout     = 5 * time.Second
	DefaultEntries     = 10_000
)

// maxHashed is how many names of a realm are kept by their hashes.
const maxHashed = 100_000

// maxAsking is how many questions a Cache asks its Store at a time.
const maxAsking = 256

// A Cache is a Store that asks another and keeps the answers for a while, also
// that there is none. What many ask at a time is asked once. Failures are not
// kept, and an answer is not used beyond its time because the store is down:
// then the error is returned, which refuses.
//
// Flush, or the time, makes changes of the database known. Answers are shared
// and must not be changed.
type Cache struct {
	Store Store

	Keep        time.Duration // how long an answer is used; DefaultKeep if zero
	KeepUnknown time.Duration // how long, that there is none; DefaultKeepUnknown if zero
	Timeout     time.Duration // of one question; DefaultTimeout if zero
	// Entries bounds the answers of a kind (users, keys, …) that are kept, as
	// often again the unknown names; DefaultEntries if zero. Those used longest
	// ago go first, and a flood of unknown names makes none of the others go.
	Entries int

	users   answers[[2]string, auth.Secret]
	secrets answers[string, []string]
	keys    answers[string, *OAuthKey]
	origins answers[string, string]
	options answers[string, auth.RealmOptions]
	peers   answers[string, auth.PeerRules]
	hashes  answers[string, map[[sha256.Size]byte]string]
}

// UserKey is that of the store.
func (c *Cache) UserKey(ctx context.Context, realm, user string) (auth.Secret, error) {
	return c.users.get(ctx, c, [2]string{realm, user}, func(ctx context.Context) (auth.Secret, error) {
		return c.Store.UserKey(ctx, realm, user)
	})
}

// Secrets is that of the store.
func (c *Cache) Secrets(ctx context.Context, realm string) ([]string, error) {
	return c.secrets.get(ctx, c, realm, func(ctx context.Context) ([]string, error) { return c.Store.Secrets(ctx, realm) })
}

// OAuthKey is that of the store.
func (c *Cache) OAuthKey(ctx context.Context, id string) (*OAuthKey, error) {
	return c.keys.get(ctx, c, id, func(ctx context.Context) (*OAuthKey, error) {
		key, err := c.Store.OAuthKey(ctx, id)
		if err == nil && key == nil {
			err = ErrUnknown
		}
		return key, err
	})
}

// RealmOf is that of the store.
func (c *Cache) RealmOf(ctx context.Context, origin string) (string, error) {
	realm, err := c.origins.get(ctx, c, origin, func(ctx context.Context) (string, error) {
		realm, err := c.Store.RealmOf(ctx, origin)
		if err == nil && realm == "" {
			err = ErrUnknown
		}
		return realm, err
	})
	if errors.Is(err, ErrUnknown) {
		return "", nil
	}
	return realm, err
}

// RealmOptions is that of the store.
func (c *Cache) RealmOptions(ctx context.Context, realm string) (auth.RealmOptions, error) {
	return c.options.get(ctx, c, realm, func(ctx context.Context) (auth.RealmOptions, error) {
		return c.Store.RealmOptions(ctx, realm)
	})
}

// PeerRules is that of the store.
func (c *Cache) PeerRules(ctx context.Context, realm string) (auth.PeerRules, error) {
	return c.peers.get(ctx, c, realm, func(ctx context.Context) (auth.PeerRules, error) {
		return c.Store.PeerRules(ctx, realm)
	})
}

// userOf finds a user by USERHASH. The names of a realm are read at most once
// in the time that answers are kept, whatever hashes are asked for.
func (c *Cache) userOf(ctx context.Context, realm string, hash []byte) (string, error) {
	all, ok := c.Store.(Names)
	if !ok || len(hash) != sha256.Size {
		return "", ErrUnknown
	}
	names, err := c.hashes.get(ctx, c, realm, func(ctx context.Context) (map[[sha256.Size]byte]string, error) {
		names := make(map[[sha256.Size]byte]string)
		for name, err := range all.Names(ctx, realm) {
			if err != nil {
				return nil, err
			}
			if len(names) == maxHashed {
				return nil, fmt.Errorf("turnauth: a realm of more than %d users has none by USERHASH", maxHashed)
			}
			names[hashOf(name, realm)] = name
		}
		return names, nil
	})
	if err != nil {
		return "", err
	}
	name, ok := names[[sha256.Size]byte(hash)]
	if !ok {
		return "", ErrUnknown
	}
	return name, nil
}

// Flush forgets every answer.
func (c *Cache) Flush() {
	c.users.flush()
	c.secrets.flush()
	c.keys.flush()
	c.origins.flush()
	c.options.flush()
	c.peers.flush()
	c.hashes.flush()
}

// answers are those of one kind.
type answers[K comparable, V any] struct {
	mu      sync.Mutex
	known   generations[K, V]
	unknown generations[K, V]
	asking  map[K]*question[V]
	flushed int // how often
}

type question[V any] struct {
	done  chan struct{} // closed when the others are set
	value V
	err   error
}

// get returns what is kept, or asks. The question is asked in a goroutine of
// its own, which ends with the answer or the timeout: who waits for it may go.
func (a *answers[K, V]) get(ctx context.Context, c *Cache, key K, ask func(context.Context) (V, error)) (V, error) {
	now := time.Now()
	a.mu.Lock()
	if v, ok := a.known.get(key, now); ok {
		a.mu.Unlock()
		return v, nil
	}
	var none V
	if _, ok := a.unknown.get(key, now); ok {
		a.mu.Unlock()
		return none, ErrUnknown
	}
	q := a.asking[key]
	if q == nil {
		if len(a.asking) >= maxAsking {
			a.mu.Unlock()
			return none, errors.New("turnauth: the store has too many questions to answer")
		}
		q = &question[V]{done: make(chan struct{})}
		if a.asking == nil {
			a.asking = make(map[K]*question[V])
		}
		a.asking[key] = q
		go a.ask(context.WithoutCancel(ctx), c, key, q, a.flushed, ask)
	}
	a.mu.Unlock()
	select {
	case <-q.done:
		return q.value, q.err
	case <-ctx.Done():
		return none, fmt.Errorf("turnauth: the store did not answer: %w", context.Cause(ctx))
	}
}

func (a *answers[K, V]) ask(ctx context.Context, c *Cache, key K, q *question[V], flushed int, ask func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, DefaultTimeout))
	defer cancel()
	q.value, q.err = ask(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	entries := cmp.Or(c.Entries, DefaultEntries)
	switch {
	case a.flushed != flushed: // while it was asked: it may be of before
	case q.err == nil:
		a.known.put(key, q.value, time.Now().Add(cmp.Or(c.Keep, DefaultKeep)), entries)
	case errors.Is(q.err, ErrUnknown):
		a.unknown.put(key, q.value, time.Now().Add(cmp.Or(c.KeepUnknown, DefaultKeepUnknown)), entries)
	}
	if a.asking[key] == q {
		delete(a.asking, key)
	}
	close(q.done)
}

func (a *answers[K, V]) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known, a.unknown, a.asking = generations[K, V]{}, generations[K, V]{}, nil
	a.flushed++
}

// generations are two maps of at most half the entries each. The younger one,
// once full, becomes the older one, which is dropped; what is used moves to
// the younger one.
type generations[K comparable, V any] struct {
	young, old map[K]entry[V]
}

type entry[V any] struct {
	value   V
	expires time.Time
}

func (g *generations[K, V]) get(key K, now time.Time) (V, bool) {
	e, ok := g.young[key]
	if !ok {
		if e, ok = g.old[key]; ok && g.young != nil {
			delete(g.old, key)
			g.young[key] = e
		}
	}
	return e.value, ok && now.Before(e.expires)
}

func (g *generations[K, V]) put(key K, value V, expires time.Time, entries int) {
	if g.young == nil || len(g.young) >= max(1, entries/2) {
		g.old, g.young = g.young, make(map[K]entry[V])
	}
	delete(g.old, key)
	g.young[key] = entry[V]{value, expires}
}
