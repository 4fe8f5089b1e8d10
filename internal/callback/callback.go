// Package callback makes the HTTP clients by which a server calls the services
// that its operator names: those that decide, and those that are told.
package callback

import (
	"errors"
	"net/http"
	"net/url"
)

// MaxAnswer bounds what is taken of an answer's body, and its headers, in bytes.
const MaxAnswer = 64 << 10

// Client returns a client like base, which may be nil and is not changed, that
// follows no redirects: what is sent holds passwords, and whoever answers for a
// service is not to lead it to another address, least of all of a network that
// only this server can reach. Without a transport in base it has one of its own
// with conns connections to a host at most.
func Client(base *http.Client, conns int) *http.Client {
	c := &http.Client{}
	if base != nil {
		*c = *base
	}
	if c.Transport == nil {
		if t, ok := http.DefaultTransport.(*http.Transport); ok {
			t = t.Clone()
			t.MaxConnsPerHost, t.MaxIdleConnsPerHost = conns, conns
			t.MaxResponseHeaderBytes = MaxAnswer
			c.Transport = t
		}
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// WithoutURL takes the URL, which may hold a secret, out of an error.
func WithoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
