package auth

import (
	"context"
	"maps"
	"sync/atomic"
	"time"
)

// All asks the authorizers in turn and allows what each of them does; the first
// that does not ends it. Those that only restrict, as Addresses and Origins do,
// go before those that look somebody up. The Grant is the narrowest: the
// earliest Expires, the smallest Limits; of User, Realm and each of the Labels
// the first that there is. All of nothing refuses.
func All(authorizers ...Authorizer) Authorizer { return allOf(authorizers) }

type allOf []Authorizer

func (list allOf) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	if len(list) == 0 {
		return nil, ErrDenied
	}
	var sum *Grant
	for _, a := range list {
		g, err := Check(ctx, a, r)
		if err != nil {
			return nil, err
		}
		sum = narrower(sum, g)
	}
	return sum, nil
}

// narrower returns what two Grants both allow. It changes neither.
func narrower(a, b *Grant) *Grant {
	if a == nil {
		return b
	}
	g := *a
	if g.User == "" {
		g.User = b.User
	}
	if g.Realm == "" {
		g.Realm = b.Realm
	}
	g.Expires = earlier(a.Expires, b.Expires)
	g.Limits = a.Limits.And(b.Limits)
	if len(b.Labels) > 0 {
		g.Labels = maps.Clone(b.Labels)
		maps.Copy(g.Labels, a.Labels)
	}
	return &g
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// And returns the smaller of each pair of bounds.
func (l Limits) And(m Limits) Limits {
	return Limits{BitRate: smaller(l.BitRate, m.BitRate), Sessions: smaller(l.Sessions, m.Sessions)}
}

func smaller[T int | int64](a, b T) T {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// ByAction has an Authorizer for each action. Actions that are not in it are
// refused.
type ByAction map[Action]Authorizer

// Authorize asks the one for the request's action.
func (m ByAction) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	return Check(ctx, m[r.Action], r)
}

// ByStream has an Authorizer for each group of streams. The first whose pattern
// matches decides; streams that none matches are refused.
type ByStream []StreamRule

// A StreamRule is an entry of ByStream.
type StreamRule struct {
	Pattern string // of hub keys, see Match
	Auth    Authorizer
}

// Authorize asks the one for the request's stream.
func (list ByStream) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	for i := range list {
		if len(list[i].Pattern) <= maxPattern && Match(list[i].Pattern, r.Stream) {
			return Check(ctx, list[i].Auth, r)
		}
	}
	return nil, ErrDenied
}

// A Swap is an Authorizer that can be replaced while servers ask it. The zero
// Swap refuses everybody. It must not be copied.
type Swap struct{ current atomic.Pointer[Authorizer] }

// Set has a decide from now on. nil refuses.
func (s *Swap) Set(a Authorizer) { s.current.Store(&a) }

// Authorize asks what was set last.
func (s *Swap) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	a := s.current.Load()
	if a == nil {
		return nil, ErrDenied
	}
	return Check(ctx, *a, r)
}
