package turnauth

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
)

// keysOnly is a Store of keys.
type keysOnly struct {
	Store
	keys map[string]auth.Secret
	err  error
}

func (k keysOnly) UserKey(_ context.Context, realm, user string) (auth.Secret, error) {
	if k.err != nil {
		return auth.Secret{}, k.err
	}
	if s, ok := k.keys[realm+"/"+user]; ok {
		return s, nil
	}
	return auth.Secret{}, ErrUnknown
}

func TestPasswords(t *testing.T) {
	store := keysOnly{keys: map[string]auth.Secret{
		"r/md5":    {Key: Key("md5", "r", "secret")},
		"r/sha256": {KeySHA256: KeySHA256("sha256", "r", "secret"), Key: Key("sha256", "r", "other")},
		"r/plain":  {Plain: "secret"},
		"r/empty":  {},
		"s/md5":    {Key: Key("md5", "s", "of another realm")},
	}}
	p := &Passwords{Store: store, Realm: "r", Rights: func(user string) *auth.Rights {
		if user == "plain" {
			return nil
		}
		return &auth.Rights{Patterns: map[auth.Action][]string{auth.Publish: {"live/" + user}}}
	}}
	for _, c := range []struct {
		user, password, stream string
		ok                     bool
	}{
		{"md5", "secret", "live/md5", true}, {"sha256", "secret", "live/sha256", true}, {"md5", "secret", "live/x", false},
		{"md5", "of another realm", "live/md5", false}, {"md5", "", "live/md5", false}, {"sha256", "other", "live/sha256", false},
		{"plain", "secret", "live/plain", false}, {"empty", "", "live/empty", false}, {"empty", "x", "live/empty", false},
		{"nobody", "secret", "live/nobody", false}, {"", "secret", "live/", false}, {"a\x00", "secret", "live/a", false},
	} {
		g, err := p.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: c.stream, User: c.user, Password: c.password})
		require.Equal(t, c.ok, err == nil, c)
		if c.ok {
			require.Equal(t, c.user, g.User)
		} else {
			require.ErrorIs(t, err, auth.ErrDenied)
		}
	}
	down := errors.New("down")
	p.Store = keysOnly{err: down}
	_, err := p.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: "x", User: "a", Password: "b"})
	require.ErrorIs(t, err, down)
	_, err = p.Authorize(t.Context(), &auth.Request{User: "a", Password: "b", Proof: func(auth.Secret) bool { return true }})
	require.ErrorIs(t, err, auth.ErrDenied)
}
