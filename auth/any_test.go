package auth_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
)

func TestAny(t *testing.T) {
	answer := func(g *auth.Grant, err error) auth.Authorizer {
		return auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) { return g, err })
	}
	down, elsewhere := errors.New("store is down"), &auth.Redirect{Location: "rtmp://other/live/a"}
	no, alice, bob := answer(nil, fmt.Errorf("who: %w", auth.ErrDenied)), answer(&auth.Grant{User: "alice"}, nil), answer(&auth.Grant{User: "bob"}, nil)
	for name, c := range map[string]struct {
		list []auth.Authorizer
		user string
		err  error
	}{
		"the first that allows":      {[]auth.Authorizer{no, nil, alice, bob}, "alice", nil},
		"in spite of a failure":      {[]auth.Authorizer{answer(nil, down), bob}, "bob", nil},
		"a nil Grant allows":         {[]auth.Authorizer{no, answer(nil, nil)}, "", nil},
		"nobody":                     {[]auth.Authorizer{no, no}, "", auth.ErrDenied},
		"nothing":                    {nil, "", auth.ErrDenied},
		"a failure beats a refusal":  {[]auth.Authorizer{no, answer(nil, down), no}, "", down},
		"a redirect ends the search": {[]auth.Authorizer{no, answer(nil, elsewhere), alice}, "", elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := auth.Any(c.list...).Authorize(t.Context(), &auth.Request{})
			require.ErrorIs(t, err, c.err)
			if c.err == nil {
				require.Equal(t, c.user, g.User)
			}
		})
	}
}

// TestAnySaysWhy: the reason of a refusal is that of the first that has one,
// and not the policy of one of several.
func TestAnySaysWhy(t *testing.T) {
	wrong := auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) {
		return nil, fmt.Errorf("%w: wrong password", auth.ErrDenied)
	})
	policy := auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) { return nil, auth.ErrPolicy })
	_, err := auth.Any(nil, policy, wrong, nil).Authorize(t.Context(), &auth.Request{})
	require.ErrorContains(t, err, "wrong password")
	_, err = auth.Any(policy, nil).Authorize(t.Context(), &auth.Request{})
	require.Equal(t, auth.ErrDenied, err)
}
