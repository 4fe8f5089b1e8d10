package turnauth

import (
	"context"
	"errors"
	"iter"

	"github.com/runnel-media/runnel/auth"
)

// A Store is a database of TURN credentials, with the options of realms. Its
// methods are called from many goroutines, block until the database has
// answered or ctx ends, and return ErrUnknown for what is not there. Put a
// Cache before it.
type Store interface {
	auth.Realms
	// UserKey returns what proves a user of a realm.
	UserKey(ctx context.Context, realm, user string) (auth.Secret, error)
	// Secrets returns the secrets of a realm, see the type of that name. None
	// is no error.
	Secrets(ctx context.Context, realm string) ([]string, error)
	// OAuthKey returns the key of an id.
	OAuthKey(ctx context.Context, id string) (*OAuthKey, error)
}

// Names is what a Store also has if its users may be looked for by USERHASH,
// which takes to know all their names.
type Names interface {
	// Names yields the names of a realm's users.
	Names(ctx context.Context, realm string) iter.Seq2[string, error]
}

// Stored authorizes by what a database holds: access tokens by its OAuth keys,
// other requests by its users, then by its secrets. If the database can't be
// asked, the error is not auth.ErrDenied; sessions that are there stay.
type Stored struct {
	Store Store // a *Cache, in general
	// ServerName is that of OAuth.
	ServerName string
	// Separator is that of Secrets.
	Separator string
}

// Authorize asks the store.
func (s *Stored) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action != auth.Relay || r.Proof == nil || s.Store == nil || !storable(r.Realm, maxRealm) {
		return nil, auth.ErrDenied
	}
	if r.Token != "" {
		tokens := OAuth{Key: s.Store.OAuthKey, ServerName: s.ServerName}
		return tokens.Authorize(ctx, r)
	}
	user := r.User
	if len(r.UserHash) > 0 {
		named, ok := s.Store.(hashed)
		if !ok {
			return nil, auth.ErrDenied
		}
		var err error
		if user, err = named.userOf(ctx, r.Realm, r.UserHash); errors.Is(err, ErrUnknown) {
			return nil, auth.ErrDenied
		} else if err != nil {
			return nil, err
		}
	}
	if !storable(user, maxName) {
		return nil, auth.ErrDenied
	}
	secret, err := s.Store.UserKey(ctx, r.Realm, user)
	switch {
	case err == nil:
		if (len(secret.Key) > 0 || len(secret.KeySHA256) > 0 || secret.Plain != "") && r.Proof(secret) {
			return &auth.Grant{User: user}, nil
		}
	case !errors.Is(err, ErrUnknown):
		return nil, err
	}
	if len(r.UserHash) > 0 {
		return nil, auth.ErrDenied // a name with a time in it can't be known from its hash
	}
	secrets := Secrets{List: s.Store.Secrets, Separator: s.Separator}
	return secrets.Authorize(ctx, r)
}

// hashed is a Store that knows its users by USERHASH.
type hashed interface {
	userOf(ctx context.Context, realm string, hash []byte) (string, error)
}
