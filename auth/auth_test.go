package auth

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	broken := errors.New("database is down")
	grant := &Grant{User: "alice"}
	answer := func(g *Grant, err error) Authorizer {
		return Func(func(context.Context, *Request) (*Grant, error) { return g, err })
	}
	for name, c := range map[string]struct {
		auth Authorizer
		want *Grant
		err  error
	}{
		"nil refuses":               {nil, nil, ErrDenied},
		"AllowAll":                  {AllowAll, &Grant{}, nil},
		"a grant":                   {answer(grant, nil), grant, nil},
		"no grant and no error":     {answer(nil, nil), &Grant{}, nil},
		"denied":                    {answer(nil, ErrDenied), nil, ErrDenied},
		"denied with a reason":      {answer(nil, fmt.Errorf("no such user: %w", ErrDenied)), nil, ErrDenied},
		"failed":                    {answer(nil, broken), nil, broken},
		"an error beats the grant":  {answer(grant, ErrDenied), nil, ErrDenied},
		"redirect":                  {answer(nil, &Redirect{"rtmp://b/live/x"}), nil, &Redirect{"rtmp://b/live/x"}},
		"a nil Func is not allowed": {Func(nil), nil, ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Check(t.Context(), c.auth, &Request{Action: Play, Stream: "live/x"})
			require.Equal(t, c.want, got)
			if c.err == nil {
				require.NoError(t, err)
				require.NotNil(t, got)
				return
			}
			if want, ok := c.err.(*Redirect); ok {
				var to *Redirect
				require.ErrorAs(t, err, &to)
				require.Equal(t, want, to)
				return
			}
			require.ErrorIs(t, err, c.err)
		})
	}
}

// The request and the context reach the Authorizer as they are.
func TestCheckPassesOn(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "v")
	r := &Request{Action: Publish, Stream: "live/x", Token: "s3cret", Proof: func(s Secret) bool { return s.Plain == "pw" }}
	_, err := Check(ctx, Func(func(ctx context.Context, got *Request) (*Grant, error) {
		require.Equal(t, "v", ctx.Value(key{}))
		require.Same(t, r, got)
		require.True(t, got.Proof(Secret{Plain: "pw"}))
		return nil, nil
	}), r)
	require.NoError(t, err)
}

func TestRedirectError(t *testing.T) {
	require.EqualError(t, &Redirect{Location: "rtmp://b/live/x"}, "auth: redirected to rtmp://b/live/x")
}
