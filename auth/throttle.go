package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-media/runnel/internal/attempts"
)

// A Throttle keeps who guesses from guessing on: a source that was refused too
// often, with credentials that it sent, is refused without a question until
// the time is over, whatever it sends. A source is an IPv4 address or the /64
// of an IPv6 address. Behind a proxy whose word is not taken all peers are one.
//
// Its fields are set before it is used; it must not be copied after.
type Throttle struct {
	Auth     Authorizer
	Attempts int           // 0: 20
	Per      time.Duration // 0: a minute

	wrong attempts.Counter
}

// Authorize asks Auth, unless the source has to wait.
func (t *Throttle) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	most, per := t.Attempts, t.Per
	if most <= 0 {
		most = 20
	}
	if per <= 0 {
		per = time.Minute
	}
	from := r.Remote.Addr()
	if from.IsValid() && t.wrong.Count(from, per) >= most {
		return nil, fmt.Errorf("%w: too many wrong credentials", ErrPolicy)
	}
	g, err := Check(ctx, t.Auth, r)
	if errors.Is(err, ErrDenied) && !errors.Is(err, ErrPolicy) && r.HasCredentials() && from.IsValid() {
		t.wrong.Add(from, per)
	}
	return g, err
}

// HasCredentials reports whether the peer has said something of itself that
// can be right or wrong: a token, a user, a password, a proof, a signed URL. A
// TLS certificate is none: it can't be guessed.
func (r *Request) HasCredentials() bool {
	return r.Token != "" || r.User != "" || r.Password != "" || len(r.UserHash) > 0 || r.Proof != nil || signedQuery(r.RawQuery)
}
