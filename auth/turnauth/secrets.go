package turnauth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
)

// maxSecrets is how many secrets of a realm are tried.
const maxSecrets = 64

// Secrets authorizes names that a web service gave out, known as the TURN REST
// API: "1767225600:alice" is alice until that Unix time, and the password is
// the base64 of an HMAC of the whole name under a secret that service and TURN
// server share. The name may also be the other way round, or the time alone.
// The session ends at that time, and counts to "alice".
type Secrets struct {
	// List returns the secrets of a realm. All of them are tried, at most 64,
	// so that a secret can be replaced while credentials of the old one are in
	// use. It is called once for each request.
	List func(ctx context.Context, realm string) ([]string, error)
	// Separator stands between time and name; "" is ":". Its first byte counts.
	Separator string
	// SHA256Only refuses passwords of HMAC-SHA1, which everybody uses.
	// Otherwise passwords of HMAC-SHA256 are allowed beside them.
	SHA256Only bool
}

// Static is a Secrets.List of the same secrets for every realm.
func Static(secrets ...string) func(context.Context, string) ([]string, error) {
	return func(context.Context, string) ([]string, error) { return secrets, nil }
}

// Credentials makes a name and a password that hold until the time, which is
// rounded down to a second. HMAC-SHA1 is what coturn and everything that works
// with it takes.
func Credentials(secret, user string, expires time.Time) (name, password string) {
	return credentials(sha1.New, secret, user, expires)
}

// CredentialsSHA256 is Credentials with HMAC-SHA256.
func CredentialsSHA256(secret, user string, expires time.Time) (name, password string) {
	return credentials(sha256.New, secret, user, expires)
}

func credentials(h func() hash.Hash, secret, user string, expires time.Time) (string, string) {
	name := strconv.FormatInt(expires.Unix(), 10)
	if user != "" {
		name += ":" + user
	}
	return name, derive(h, secret, name)
}

func derive(h func() hash.Hash, secret, name string) string {
	mac := hmac.New(h, []byte(secret))
	mac.Write([]byte(name))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Authorize allows a name whose time has not come and whose password one of
// the secrets gives.
func (s *Secrets) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action != auth.Relay || r.Proof == nil || r.Token != "" || r.Realm == "" || s.List == nil {
		return nil, auth.ErrDenied
	}
	expires, user, ok := s.parse(r.User)
	if !ok || !time.Now().Before(expires) {
		return nil, auth.ErrDenied
	}
	secrets, err := s.List(ctx, r.Realm)
	if err != nil {
		return nil, err
	}
	if len(secrets) > maxSecrets {
		return nil, fmt.Errorf("turnauth: %d secrets, more than %d", len(secrets), maxSecrets)
	}
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		if !s.SHA256Only && r.Proof(auth.Secret{Plain: derive(sha1.New, secret, r.User)}) ||
			r.Proof(auth.Secret{Plain: derive(sha256.New, secret, r.User)}) {
			return &auth.Grant{User: user, Expires: expires}, nil
		}
	}
	return nil, auth.ErrDenied
}

// parse splits a name into its time and who it is. A name that is but a time
// is its own user.
func (s *Secrets) parse(name string) (expires time.Time, user string, ok bool) {
	if len(name) > maxName {
		return time.Time{}, "", false
	}
	separator := cmp.Or(s.Separator, ":")[:1]
	before, after, both := strings.Cut(name, separator)
	if expires, ok = unixTime(before); ok {
		user = after
	} else if expires, ok = unixTime(after); ok && both {
		user = before
	}
	return expires, cmp.Or(user, name), ok
}

// unixTime reads seconds since 1970, digits only.
func unixTime(s string) (time.Time, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return time.Time{}, false
		}
	}
	const digits = 11 // a date of four digits needs no more
	if s == "" || len(s) > digits {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err == nil
}
