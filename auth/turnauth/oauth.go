package turnauth

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/runnel-media/runnel/auth"
)

// OAuth authorizes by access tokens (RFC 7635): what the client sends was
// sealed by an authorization server that shares a key with us, and holds the
// session's key. USERNAME names which of the keys it is. The session ends with
// the token.
type OAuth struct {
	// Key returns the key of an id, or ErrUnknown.
	Key func(ctx context.Context, id string) (*OAuthKey, error)
	// ServerName is this server as the authorization server knows it, the same
	// as in THIRD-PARTY-AUTHORIZATION; "": the realm.
	ServerName string
}

// Authorize allows a token that holds and whose key the client has.
func (o *OAuth) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action != auth.Relay || r.Proof == nil || r.Token == "" || len(r.Token) > maxToken || !storable(r.User, 128) || o.Key == nil {
		return nil, auth.ErrDenied
	}
	key, err := o.Key(ctx, r.User)
	if errors.Is(err, ErrUnknown) || err == nil && key == nil {
		return nil, auth.ErrDenied
	} else if err != nil {
		return nil, err
	}
	now := time.Now()
	if key.Lifetime > 0 && !now.Before(key.Issued.Add(key.Lifetime+skew)) {
		return nil, auth.ErrDenied
	}
	token, err := key.Open([]byte(r.Token), cmp.Or(o.ServerName, r.Realm))
	if errors.Is(err, errToken) {
		return nil, auth.ErrDenied
	} else if err != nil {
		return nil, err
	}
	if !token.Valid(now) || !proveToken(r.Proof, token.MACKey) {
		return nil, auth.ErrDenied
	}
	return &auth.Grant{User: r.User, Expires: token.Expires(), Realm: key.Realm}, nil
}

// proveToken: coturn's clients and servers use but 16 bytes of a key of 20,
// which is what RFC 7635 has for HMAC-SHA1.
func proveToken(proof func(auth.Secret) bool, key []byte) bool {
	const cut, whole = 16, 20
	return proof(auth.Secret{Key: key}) || len(key) == whole && proof(auth.Secret{Key: key[:cut]})
}
