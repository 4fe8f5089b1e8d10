package turnauth

import (
	"context"
	"crypto/hmac"
	"errors"
	"time"

	"github.com/runnel-media/runnel/auth"
)

// Passwords lets the users of a Store publish, play and administer, with the
// passwords that they have for TURN: a database of coturn's is one of media
// users too. Its keys are quick hashes, so the passwords have to be long ones;
// package auth/passwords takes slow ones.
type Passwords struct {
	Store Store  // a *Cache, in general
	Realm string // of the users
	// Rights returns what a user may do; nil: nothing. In place of "" as
	// Rights.User the user's name is taken.
	Rights func(user string) *auth.Rights
}

// Authorize allows users who send their password. If the database can't be
// asked, the error is not auth.ErrDenied.
func (p *Passwords) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Password == "" || r.Proof != nil || p.Store == nil || p.Rights == nil || !storable(r.User, maxName) {
		return nil, auth.ErrDenied
	}
	secret, err := p.Store.UserKey(ctx, p.Realm, r.User)
	if errors.Is(err, ErrUnknown) {
		return nil, auth.ErrDenied
	} else if err != nil {
		return nil, err
	}
	if !proves(secret, r.User, p.Realm, r.Password) {
		return nil, auth.ErrDenied
	}
	rights := p.Rights(r.User)
	if rights == nil {
		return nil, auth.ErrDenied
	}
	g, err := rights.Grant(r, time.Time{})
	if err == nil && g.User == "" {
		g.User = r.User
	}
	return g, err
}

// proves reports whether a password is that of a stored secret.
func proves(s auth.Secret, user, realm, password string) bool {
	switch {
	case len(s.KeySHA256) > 0:
		return hmac.Equal(s.KeySHA256, KeySHA256(user, realm, password))
	case len(s.Key) > 0:
		return hmac.Equal(s.Key, Key(user, realm, password))
	case s.Plain != "":
		return hmac.Equal(KeySHA256(user, realm, s.Plain), KeySHA256(user, realm, password))
	}
	return false
}
