package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A URLKey signs URLs and verifies them.
type URLKey struct {
	ID     string // stands in the URLs, so that keys can be changed; may be empty
	Secret []byte // 16 bytes or more, random
}

// SignedURLs allow whoever has a URL that a program of yours has signed: it
// says what for and until when, and the server asks nobody. What is signed is
// in the query: "expires=…&key=…&sig=…", with "ip=…" if the URL is good from
// these addresses only, and "uid=…" if it names a user.
//
// To change keys, put the new one first, and take the old one away when the
// last URL that it signed has expired. A URL is good as often as it is used.
type SignedURLs struct {
	Keys []URLKey // the first signs, all verify; none refuses everybody
	// StartOnly has a URL's time bound the beginning of a session. Otherwise
	// the session is ended then too.
	StartOnly bool
	// MaxLife refuses URLs that are good for longer than that from now on,
	// whoever signed them. 0: no bound.
	MaxLife time.Duration
	Limits  Limits // for the Grants
}

// A URLGrant is what a signed URL allows.
type URLGrant struct {
	Action  Action // Publish or Play
	Stream  string // hub key
	Expires time.Time
	From    netip.Prefix // where it may be used from; zero: anywhere
	User    string       // for Grant.User; may be empty
}

const (
	minURLSecret = 16
	maxURLValue  = 256 // bytes of each parameter
)

// Sign returns the query of a URL that allows g.
func (s *SignedURLs) Sign(g URLGrant) (string, error) {
	switch {
	case len(s.Keys) == 0 || len(s.Keys[0].Secret) < minURLSecret:
		return "", fmt.Errorf("auth: a key for URLs has at least %d bytes", minURLSecret)
	case g.Action == "" || g.Stream == "" || g.Expires.IsZero():
		return "", errors.New("auth: a signed URL has an action, a stream and an end")
	case len(g.User) > maxURLValue || len(s.Keys[0].ID) > maxURLValue:
		return "", errors.New("auth: name too long for a signed URL")
	}
	expires := strconv.FormatInt(g.Expires.Unix(), 10)
	q := url.Values{"expires": {expires}}
	if s.Keys[0].ID != "" {
		q.Set("key", s.Keys[0].ID)
	}
	from := ""
	if g.From.IsValid() {
		from = canonical(g.From).String()
		q.Set("ip", from)
	}
	if g.User != "" {
		q.Set("uid", g.User)
	}
	q.Set("sig", base64.RawURLEncoding.EncodeToString(urlMAC(&s.Keys[0], g.Action, g.Stream, expires, from, g.User)))
	return q.Encode(), nil
}

// urlMAC is HMAC-SHA256 over the fields, each with its length before it, so
// that nothing can be moved from one to the next.
func urlMAC(k *URLKey, action Action, stream, expires, from, user string) []byte {
	mac := hmac.New(sha256.New, k.Secret)
	for _, f := range []string{"runnel-url-1", k.ID, string(action), stream, expires, from, user} {
		mac.Write([]byte(strconv.Itoa(len(f)) + ":" + f + ","))
	}
	return mac.Sum(nil)
}

// Authorize allows what the query of the request says, if it was signed.
func (s *SignedURLs) Authorize(_ context.Context, r *Request) (*Grant, error) {
	if r.Stream == "" || !signedQuery(r.RawQuery) {
		return nil, ErrDenied
	}
	values, _ := url.ParseQuery(r.RawQuery) // what of it is well-formed
	var sig, expires, id, from, user string
	for name, to := range map[string]*string{"sig": &sig, "expires": &expires, "key": &id, "ip": &from, "uid": &user} {
		list := values[name]
		if len(list) > 1 || len(list) == 1 && len(list[0]) > maxURLValue {
			return nil, fmt.Errorf("%w: the signed URL has a parameter twice, or a long one", ErrDenied)
		}
		*to = values.Get(name)
	}
	sum, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || !s.signed(sum, r, id, expires, from, user) {
		return nil, fmt.Errorf("%w: the URL is not signed for this", ErrDenied)
	}
	// From here on it is what our signer wrote.
	seconds, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return nil, ErrDenied
	}
	end, now := time.Unix(seconds, 0), time.Now()
	if !now.Before(end) || s.MaxLife > 0 && end.Sub(now) > s.MaxLife {
		return nil, fmt.Errorf("%w: the signed URL has expired, or would too late", ErrDenied)
	}
	if from != "" {
		p, err := netip.ParsePrefix(from)
		if err != nil || !p.Contains(r.Remote.Addr().Unmap().WithZone("")) {
			return nil, fmt.Errorf("%w: the signed URL is not for this address", ErrPolicy)
		}
	}
	g := &Grant{User: user, Expires: end, Limits: s.Limits}
	if s.StartOnly {
		g.Expires = time.Time{}
	}
	return g, nil
}

// signed reports whether one of the keys made sum. All with the id are tried.
func (s *SignedURLs) signed(sum []byte, r *Request, id, expires, from, user string) bool {
	ok := false
	for i := range s.Keys {
		k := &s.Keys[i]
		if k.ID == id && len(k.Secret) >= minURLSecret {
			ok = hmac.Equal(sum, urlMAC(k, r.Action, r.Stream, expires, from, user)) || ok
		}
	}
	return ok
}

// canonical makes a prefix of IPv4-mapped addresses one of IPv4 addresses.
func canonical(p netip.Prefix) netip.Prefix {
	if bits := p.Bits() - 96; p.Addr().Is4In6() && bits >= 0 {
		p = netip.PrefixFrom(p.Addr().Unmap(), bits)
	}
	return p.Masked()
}

func signedQuery(q string) bool { return strings.HasPrefix(q, "sig=") || strings.Contains(q, "&sig=") }
