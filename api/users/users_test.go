package users

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth"
)

const password = "correct horse"

// TestStore: a user may what is written there from the moment it is made to the
// moment it is deleted, a restart included; a new password counts at once.
func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.json")
	s := &Store{Path: path, Max: 2}
	require.NoError(t, s.Load())
	may := func(action auth.Action, stream, password string) *auth.Grant {
		t.Helper()
		g, err := s.Authorize(t.Context(), &auth.Request{Action: action, Stream: stream, User: "ann", Password: password})
		if err != nil {
			require.ErrorIs(t, err, auth.ErrDenied)
			return nil
		}
		return g
	}
	require.Nil(t, may(auth.Play, "live/x", password))
	ann := User{Name: "ann", Grants: Grants{Publish: []string{"live/{user}/*"}, Play: []string{"**"}, Sessions: 2, BitRate: 5000, Labels: map[string]string{"team": "news"}}}
	made, err := s.Add(ann, password)
	require.NoError(t, err)
	require.False(t, made.Created.IsZero())
	require.Equal(t, &auth.Grant{User: "ann", Limits: auth.Limits{Sessions: 2, BitRate: 5000}, Labels: map[string]string{"team": "news"}}, may(auth.Publish, "live/ann/a", password))
	require.Nil(t, may(auth.Publish, "live/bob/a", password))
	require.Nil(t, may(auth.Publish, "live/ann/a", "wrong horse"))
	require.Nil(t, may(auth.Admin, "", password))
	require.False(t, s.Callers())

	ann.Role = access.Operator
	changed, err := s.Change(ann, "")
	require.NoError(t, err)
	require.Equal(t, made.Created, changed.Created)
	require.Equal(t, "operator", may(auth.Admin, "", password).Labels[access.RoleLabel])
	require.True(t, s.Callers())
	_, err = s.Change(ann, "another horse")
	require.NoError(t, err)
	require.Nil(t, may(auth.Play, "live/x", password))
	require.NotNil(t, may(auth.Play, "live/x", "another horse"))

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), "horse")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077)
	s = &Store{Path: path, Max: 2}
	require.NoError(t, s.Load())
	require.NotNil(t, may(auth.Admin, "", "another horse"))

	_, err = s.Add(ann, password)
	require.ErrorIs(t, err, ErrExists)
	_, err = s.Add(User{Name: "bob"}, password)
	require.NoError(t, err)
	_, err = s.Add(User{Name: "eve"}, password)
	require.ErrorIs(t, err, ErrFull)
	_, err = s.Change(User{Name: "eve"}, "")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, s.Delete("ann"))
	require.ErrorIs(t, s.Delete("ann"), ErrNotFound)
	require.Nil(t, may(auth.Play, "live/x", "another horse"))
	require.Equal(t, "bob", s.List()[0].Name)

	s.Path = filepath.Join(path, "not", "there")
	require.Error(t, s.Delete("bob"))
	require.Len(t, s.List(), 1, "what is not stored did not happen")
}

// TestInvalid: what makes no sense is refused, by the API and from the file.
func TestInvalid(t *testing.T) {
	s := &Store{}
	for _, u := range []User{
		{}, {Name: "a/b"}, {Name: "a:b"}, {Name: "a*"}, {Name: ".."}, {Name: "a\x00"}, {Name: "\xff"}, {Name: strings.Repeat("a", 101)},
		{Name: "a", Grants: Grants{Sessions: -1}}, {Name: "a", Grants: Grants{BitRate: -1}}, {Name: "a", Grants: Grants{Publish: []string{""}}},
		{Name: "a", Grants: Grants{Labels: map[string]string{"role": "admin"}}}, {Name: "a", Grants: Grants{Role: 9}},
		{Name: "a", Grants: Grants{Play: make([]string, 1001)}}, {Name: "a", Grants: Grants{Labels: map[string]string{"": "x"}}},
	} {
		_, err := s.Add(u, password)
		require.ErrorIs(t, err, ErrInvalid, "%+v", u)
	}
	for _, p := range []string{"", "short", strings.Repeat("x", 73)} {
		_, err := s.Add(User{Name: "a"}, p)
		require.ErrorIs(t, err, ErrInvalid, p)
	}
	require.Empty(t, s.List())
	hash := "$2a$04$" + strings.Repeat("a", 53)
	path := filepath.Join(t.TempDir(), "users.json")
	for text, ok := range map[string]bool{
		fmt.Sprintf(`{"users": [{"name": "a", "bcrypt": %q}]}`, hash): true,
		`{"users": [{"name": "a", "bcrypt": "hunter2"}]}`:             false,
		`{"users": [null]}`: false,
		fmt.Sprintf(`{"users": [{"name": "a", "bcrypt": %q}, {"name": "a", "bcrypt": %q}]}`, hash, hash): false,
		fmt.Sprintf(`{"users": [{"name": "a", "bcrypt": %q, "role": "root"}]}`, hash):                    false,
		`{"users": `: false,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		err := (&Store{Path: path}).Load()
		require.Equal(t, ok, err == nil, "%s: %v", text, err)
		if err != nil {
			require.NotContains(t, err.Error(), "hunter2")
		}
	}
}
