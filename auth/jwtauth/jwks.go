package jwtauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// What the fields of a JWKS mean when they are zero.
const (
	DefaultKeep    = 10 * time.Minute
	DefaultStale   = time.Hour
	DefaultTimeout = 5 * time.Second
)

// again is how soon after the last time the set is fetched again because a
// token names a key that it does not have.
const again = 10 * time.Second

const (
	maxSet  = 512 << 10 // bytes
	maxKeys = 100
)

// A JWKS is a set of keys at a URL. It is fetched when it is first needed,
// when it is older than Keep, and when a token names an unknown key, but then
// not more than once in ten seconds. Redirects are not followed. Its fields
// are set before it is used.
type JWKS struct {
	URL string
	// Issuer has the URL be found by OpenID Connect Discovery 1.0, each time that
	// the set is fetched; URL is to be empty then. It is the issuer's name as it
	// stands in its tokens: set Authorizer.Issuer to it too. Its keys must come
	// by HTTPS, unless the issuer itself is an http URL.
	Issuer  string
	Keep    time.Duration // how long a set is good; DefaultKeep if zero
	Stale   time.Duration // how long while it can't be fetched again; DefaultStale if zero
	Timeout time.Duration // of fetching; DefaultTimeout if zero
	Client  *http.Client  // nil: one of its own

	mu       sync.Mutex
	keys     []Key
	fetched  time.Time     // when keys came
	tried    time.Time     // when last asked for
	err      error         // of the last try
	fetching chan struct{} // not nil while it is fetched, closed at the end
}

// Keys returns the keys of the set with an id. A token without one gets those
// without one; if the set has but one key it gets that.
func (j *JWKS) Keys(ctx context.Context, id string) ([]Key, error) {
	for {
		j.mu.Lock()
		now := time.Now()
		age := now.Sub(j.fetched)
		found := j.find(id)
		fresh := !j.fetched.IsZero() && age < cmp.Or(j.Keep, DefaultKeep)
		usable := !j.fetched.IsZero() && age < cmp.Or(j.Keep, DefaultKeep)+cmp.Or(j.Stale, DefaultStale)
		tried := !j.tried.IsZero() && now.Sub(j.tried) < again
		if len(found) > 0 && (fresh || usable && tried) || usable && tried && j.fetching == nil {
			j.mu.Unlock()
			return found, nil
		}
		if tried && j.fetching == nil {
			err := j.err
			j.mu.Unlock()
			return nil, cmp.Or(err, errors.New("jwtauth: the keys are too old"))
		}
		if j.fetching == nil {
			j.fetching, j.tried = make(chan struct{}), now
			go j.fetch(context.WithoutCancel(ctx), j.fetching)
		}
		fetching := j.fetching
		j.mu.Unlock()
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, fmt.Errorf("jwtauth: the keys were not fetched: %w", context.Cause(ctx))
		}
	}
}

func (j *JWKS) find(id string) (found []Key) {
	for _, k := range j.keys {
		if k.ID == id || id == "" && len(j.keys) == 1 {
			found = append(found, k)
		}
	}
	return found
}

func (j *JWKS) fetch(ctx context.Context, done chan struct{}) {
	keys, err := j.get(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err, j.tried = err, time.Now()
	if err == nil {
		j.keys, j.fetched = keys, j.tried
	}
	j.fetching = nil
	close(done)
}

func (j *JWKS) get(ctx context.Context) ([]Key, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(j.Timeout, DefaultTimeout))
	defer cancel()
	at := j.URL
	if j.Issuer != "" {
		var err error
		if at, err = j.discover(ctx); err != nil {
			return nil, err
		}
	}
	b, err := j.read(ctx, at, "application/jwk-set+json, application/json")
	if err != nil {
		return nil, fmt.Errorf("jwtauth: fetching keys: %w", err)
	}
	return ParseJWKS(b)
}

// read returns what is at a URL.
func (j *JWKS) read(ctx context.Context, at, accept string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Accept", accept)
	client := http.Client{}
	if j.Client != nil {
		client = *j.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxSet+1))
	if err == nil && len(b) > maxSet {
		err = fmt.Errorf("more than %d bytes", maxSet)
	}
	return b, err
}

// withoutURL takes the URL, which may hold a secret, out of an error.
func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
