package auth

import (
	"context"
	"errors"
)

// Any asks the authorizers in turn and takes the first that allows. One that
// fails, other than by refusing, does not end the search; if nobody allows,
// its error is what Any returns, so that a store that is down is told from a
// peer without a right. Else it is the first that says why it refuses. A *Redirect ends the search. Any of nothing refuses.
func Any(authorizers ...Authorizer) Authorizer { return anyOf(authorizers) }

type anyOf []Authorizer

func (list anyOf) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	refused := ErrDenied
	for _, a := range list {
		g, err := Check(ctx, a, r)
		if err == nil {
			return g, nil
		}
		if to := (*Redirect)(nil); errors.As(err, &to) {
			return nil, err
		}
		switch {
		case !errors.Is(refused, ErrDenied):
		case !errors.Is(err, ErrDenied), refused == ErrDenied && !errors.Is(err, ErrPolicy):
			refused = err
		}
	}
	return nil, refused
}
