package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
)

// A Role is what a caller may do. Each may do what those before it may.
type Role uint8

// The roles. The zero Role may do nothing.
const (
	Viewer   Role = iota + 1 // looks
	Operator                 // ends streams and sessions
	Admin                    // changes the server
)

// RoleLabel is the label of an auth.Grant that names the caller's role.
const RoleLabel = "role"

var roleNames = [...]string{Viewer: "viewer", Operator: "operator", Admin: "admin"}

// String returns "viewer", "operator" or "admin", and "none" for others.
func (r Role) String() string {
	if r >= Viewer && r <= Admin {
		return roleNames[r]
	}
	return "none"
}

// MarshalText returns what String returns.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText returns of the three roles.
func (r *Role) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRole(string(b))
	return err
}

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	for r := Viewer; r <= Admin; r++ {
		if roleNames[r] == s {
			return r, nil
		}
	}
	return 0, fmt.Errorf("access: role %q is none of viewer, operator, admin", s)
}

// A Token is a secret that makes its bearer a caller. The secret itself is not
// in it.
type Token struct {
	User    string // who holds it, for the audit log; "": the role's name
	Role    Role
	Hash    [sha256.Size]byte // SHA-256 of the secret: it has no need of a slow hash if it is random
	Expires time.Time         // zero: never
}

// MinSecret is how long a secret is at least that ParseToken takes, in bytes.
const MinSecret = 16

// ParseToken reads "SECRET", "ROLE:SECRET" or "ROLE:sha256:HEX", where HEX is
// the SHA-256 of the secret. Without a role it is an admin's. Errors never hold
// the secret.
func ParseToken(s string) (Token, error) {
	t := Token{Role: Admin}
	if before, after, ok := strings.Cut(s, ":"); ok {
		if role, err := ParseRole(before); err == nil {
			t.Role, s = role, after
		}
	}
	if digits, ok := strings.CutPrefix(s, "sha256:"); ok {
		hash, err := hex.DecodeString(digits)
		if err != nil || len(hash) != len(t.Hash) {
			return Token{}, errors.New("access: a hash is 64 hexadecimal digits")
		}
		copy(t.Hash[:], hash)
		return t, nil
	}
	if len(s) < MinSecret {
		return Token{}, fmt.Errorf("access: a token has at least %d characters; take random ones", MinSecret)
	}
	t.Hash = sha256.Sum256([]byte(s))
	return t, nil
}

// Tokens are an Authorizer for auth.Admin: whoever sends one of them as
// auth.Request.Token. They are compared in constant time, and all of them each
// time.
type Tokens []Token

// Authorize implements auth.Authorizer.
func (list Tokens) Authorize(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action != auth.Admin || r.Token == "" {
		return nil, auth.ErrDenied
	}
	got := sha256.Sum256([]byte(r.Token))
	found := -1
	for i := range list {
		if subtle.ConstantTimeCompare(list[i].Hash[:], got[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return nil, auth.ErrDenied
	}
	t := &list[found]
	if !t.Expires.IsZero() && !time.Now().Before(t.Expires) {
		return nil, auth.ErrDenied
	}
	user := t.User
	if user == "" {
		user = t.Role.String()
	}
	return &auth.Grant{User: user, Expires: t.Expires, Labels: map[string]string{RoleLabel: t.Role.String()}}, nil
}
