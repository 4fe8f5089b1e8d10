package srsapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth"
)

// Basic is an Authorizer for an access.Gate with Basic, as SRS's http_api.auth
// is: whoever sends the user's name and password may do everything. Colons in the
// password do no harm. Without a user or a password nobody may.
func Basic(user, password string) auth.Authorizer {
	wantUser, wantPassword := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	return auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		gotUser, gotPassword := sha256.Sum256([]byte(r.User)), sha256.Sum256([]byte(r.Password))
		same := subtle.ConstantTimeCompare(wantUser[:], gotUser[:]) & subtle.ConstantTimeCompare(wantPassword[:], gotPassword[:])
		if r.Action != auth.Admin || user == "" || password == "" || same != 1 {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{User: user, Labels: map[string]string{access.RoleLabel: access.Operator.String()}}, nil
	})
}
