package turnauth_test

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// fake is a Store in memory.
type fake struct {
	users   map[[2]string]auth.Secret
	secrets map[string][]string
	keys    map[string]*turnauth.OAuthKey
	realms  map[string]string
	options map[string]auth.RealmOptions
	peers   map[string]auth.PeerRules
	err     error         // of everything, if not nil
	delay   time.Duration // of everything
	asked   atomic.Int64
}

func newFake() *fake {
	return &fake{
		users: map[[2]string]auth.Secret{}, secrets: map[string][]string{}, keys: map[string]*turnauth.OAuthKey{},
		realms: map[string]string{}, options: map[string]auth.RealmOptions{}, peers: map[string]auth.PeerRules{},
	}
}

func ask[K comparable, V any](ctx context.Context, f *fake, m map[K]V, key K, must bool) (v V, err error) {
	f.asked.Add(1)
	if f.delay > 0 {
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(f.delay):
		}
	}
	if f.err != nil {
		return v, f.err
	}
	v, ok := m[key]
	if !ok && must {
		return v, turnauth.ErrUnknown
	}
	return v, nil
}

func (f *fake) UserKey(ctx context.Context, realm, user string) (auth.Secret, error) {
	return ask(ctx, f, f.users, [2]string{realm, user}, true)
}

func (f *fake) Secrets(ctx context.Context, realm string) ([]string, error) {
	return ask(ctx, f, f.secrets, realm, false)
}

func (f *fake) OAuthKey(ctx context.Context, id string) (*turnauth.OAuthKey, error) {
	return ask(ctx, f, f.keys, id, true)
}

func (f *fake) RealmOf(ctx context.Context, origin string) (string, error) {
	return ask(ctx, f, f.realms, origin, false)
}

func (f *fake) RealmOptions(ctx context.Context, realm string) (auth.RealmOptions, error) {
	return ask(ctx, f, f.options, realm, false)
}

func (f *fake) PeerRules(ctx context.Context, realm string) (auth.PeerRules, error) {
	return ask(ctx, f, f.peers, realm, false)
}

func (f *fake) Names(ctx context.Context, realm string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if _, err := ask(ctx, f, f.secrets, "", false); err != nil {
			yield("", err)
			return
		}
		for id := range f.users {
			if id[0] == realm && !yield(id[1], nil) {
				return
			}
		}
	}
}
