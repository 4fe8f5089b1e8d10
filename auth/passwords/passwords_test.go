package passwords

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/runnel-media/runnel/auth"
)

// quick is a hash that costs little.
func quick(t testing.TB, password string) string {
	b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(b)
}

func playAll(user string) *auth.Rights {
	if user == "norights" {
		return nil
	}
	return &auth.Rights{Patterns: map[auth.Action][]string{auth.Play: {"live/*"}}}
}

func TestAuthorizer(t *testing.T) {
	f := File{"ann": quick(t, "wonderland"), "norights": quick(t, "x"), "odd": "{SHA}xyz"}
	a := &Authorizer{Hash: f.Hash, Rights: playAll}
	for _, c := range []struct {
		r   auth.Request
		err error
	}{
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "ann", Password: "wonderland"}, nil},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "ann", Password: "wonderland"}, nil}, // remembered
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "ann", Password: "wonderland2"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "Ann", Password: "wonderland"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a/b", User: "ann", Password: "wonderland"}, auth.ErrDenied},
		{auth.Request{Action: auth.Publish, Stream: "live/a", User: "ann", Password: "wonderland"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "ann"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a", Password: "wonderland"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "norights", Password: "x"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: strings.Repeat("x", 300), Password: "x"}, auth.ErrDenied},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "odd", Password: "x"}, ErrHash},
		{auth.Request{Action: auth.Play, Stream: "live/a", User: "ann", Password: "wonderland", Proof: func(auth.Secret) bool { return true }}, auth.ErrDenied},
	} {
		g, err := a.Authorize(t.Context(), &c.r)
		require.ErrorIs(t, err, c.err)
		if c.err == nil {
			require.Equal(t, "ann", g.User)
		}
	}
	// A password that was changed is not remembered.
	f["ann"] = quick(t, "another")
	_, err := a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: "live/a", User: "ann", Password: "wonderland"})
	require.ErrorIs(t, err, auth.ErrDenied)

	_, err = (&Authorizer{}).Authorize(t.Context(), &auth.Request{User: "a", Password: "b"})
	require.ErrorIs(t, err, auth.ErrDenied)
	down := errors.New("down")
	_, err = (&Authorizer{Rights: playAll, Hash: func(context.Context, string) (string, error) { return "", down }}).
		Authorize(t.Context(), &auth.Request{User: "a", Password: "b"})
	require.ErrorIs(t, err, down)
}

// TestUnknownUsersCostTheSame: whether there is a user can't be told by the
// time that a wrong password takes.
func TestUnknownUsersCostTheSame(t *testing.T) {
	cost, err := bcrypt.Cost([]byte(nobody))
	require.NoError(t, err)
	require.Equal(t, bcrypt.DefaultCost, cost)
	a := &Authorizer{Hash: File{}.Hash, Rights: playAll}
	a.init()
	a.work <- struct{}{} // all that there are
	for len(a.work) < cap(a.work) {
		a.work <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = a.Authorize(ctx, &auth.Request{Action: auth.Play, Stream: "live/a", User: "nobody", Password: "x"})
	require.ErrorIs(t, err, context.DeadlineExceeded, "an unknown user waits for its turn too")
	require.NotErrorIs(t, err, auth.ErrDenied)
}

// TestManyAtOnce: a flood of guesses works on no more hashes than there is room for.
func TestManyAtOnce(t *testing.T) {
	a := &Authorizer{Hash: File{"ann": quick(t, "wonderland")}.Hash, Rights: playAll}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := a.Authorize(context.Background(), &auth.Request{Action: auth.Play, Stream: "live/a", User: "ann", Password: fmt.Sprint(i)})
			if !errors.Is(err, auth.ErrDenied) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Empty(t, a.right)
	require.Empty(t, a.work)
}

func TestVerify(t *testing.T) {
	h, err := Hash("wonderland")
	require.NoError(t, err)
	ok, err := Verify(h, "wonderland")
	require.NoError(t, err)
	require.True(t, ok)
	// As htpasswd writes it.
	ok, err = Verify(strings.Replace(h, "$2a$", "$2y$", 1), "wonderland")
	require.NoError(t, err)
	require.True(t, ok)
	long := strings.Repeat("x", 72)
	ok, err = Verify(quick(t, long), long+"y")
	require.NoError(t, err)
	require.False(t, ok, "bcrypt alone would not see the rest")
	for _, bad := range []string{"", "plain", "{SHA}x", "$apr1$a$b", "$2y$31$" + strings.Repeat("a", 53), h + "x"} {
		_, err := Verify(bad, "x")
		require.ErrorIs(t, err, ErrHash, bad)
	}
	for _, bad := range []string{"", strings.Repeat("x", 73)} {
		_, err := Hash(bad)
		require.Error(t, err)
	}
}

func TestParseFile(t *testing.T) {
	h := quick(t, "x")
	f, err := ParseFile([]byte("# users\n\nann:" + h + "\r\nbob:" + h + "\n"))
	require.NoError(t, err)
	require.Equal(t, File{"ann": h, "bob": h}, f)
	for _, bad := range []string{"ann", ":" + h, "ann:plain", "ann:" + h + "\nann:" + h, strings.Repeat("x", 300) + ":" + h} {
		_, err := ParseFile([]byte("\n" + bad))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "plain")
		require.Contains(t, err.Error(), "line ")
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("ann:$2y$10$wVm7vdeQKZcbWcqmTcoqyOEgIRGdlw5BEvW6NGPM5rdQFIhYXl8RG"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := ParseFile(b)
		for user, hash := range file {
			require.NoError(t, err)
			require.NotEmpty(t, user)
			require.NoError(t, Check(hash))
		}
	})
}

func ExampleAuthorizer() {
	hash, err := Hash("wonderland")
	fmt.Println(err)
	file, err := ParseFile([]byte("alice:" + hash + "\n"))
	fmt.Println(err)
	a := &auth.Throttle{Auth: &Authorizer{
		Hash: file.Hash,
		Rights: func(user string) *auth.Rights {
			return &auth.Rights{Patterns: map[auth.Action][]string{auth.Publish: {"live/" + user}}}
		},
	}}
	g, err := a.Authorize(context.Background(), &auth.Request{Action: auth.Publish, Stream: "live/alice", User: "alice", Password: "wonderland"})
	fmt.Println(g.User, err)
	_, err = a.Authorize(context.Background(), &auth.Request{Action: auth.Publish, Stream: "live/alice", User: "alice", Password: "guess"})
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// alice <nil>
	// auth: denied: wrong user or password
}
