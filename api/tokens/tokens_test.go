package tokens

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth"
)

func ask(t *testing.T, s *Store, secret string) string {
	t.Helper()
	g, err := s.Authorize(t.Context(), &auth.Request{Action: auth.Admin, Token: secret})
	if err != nil {
		require.ErrorIs(t, err, auth.ErrDenied)
		return ""
	}
	return g.User + " " + g.Labels[access.RoleLabel]
}

// TestStore: tokens work from their making to their end, also by another
// process that reads the file, in which no secret is.
func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	s := &Store{Path: path}
	require.NoError(t, s.Load())
	require.Empty(t, ask(t, s, ""))
	ann, annSecret, err := s.Add("ann", access.Operator, time.Time{})
	require.NoError(t, err)
	_, bobSecret, err := s.Add("bob", access.Viewer, time.Now().Add(-time.Second))
	require.NoError(t, err)
	require.Equal(t, "ann operator", ask(t, s, annSecret))
	require.Empty(t, ask(t, s, bobSecret), "it has expired")
	require.Empty(t, ask(t, s, ann.ID))
	_, err = s.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Token: annSecret})
	require.ErrorIs(t, err, auth.ErrDenied)

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), annSecret)
	require.NotContains(t, string(text), strings.TrimPrefix(annSecret, "runnel_"))
	again := &Store{Path: path}
	require.NoError(t, again.Load())
	require.Equal(t, s.List(), again.List())
	require.Equal(t, "ann operator", ask(t, again, annSecret))

	n, err := s.Revoke(func(i Info) bool { return i.User == "ann" })
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Empty(t, ask(t, s, annSecret))
	n, err = s.Revoke(func(i Info) bool { return i.User == "ann" })
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, again.Load())
	require.Equal(t, 1, again.Len())
}

func TestRefuses(t *testing.T) {
	s := &Store{Max: 1}
	for _, user := range []string{"", "a\nb", "\xff", strings.Repeat("x", 101)} {
		_, _, err := s.Add(user, access.Viewer, time.Time{})
		require.ErrorIs(t, err, ErrUser, "%q", user)
	}
	for _, role := range []access.Role{0, 9} {
		_, _, err := s.Add("ann", role, time.Time{})
		require.ErrorIs(t, err, ErrRole)
	}
	_, _, err := s.Add("ann", access.Viewer, time.Time{})
	require.NoError(t, err)
	_, _, err = s.Add("ann", access.Viewer, time.Time{})
	require.ErrorIs(t, err, ErrFull)

	// What cannot be stored does not count.
	s = &Store{Path: filepath.Join(t.TempDir(), "none", "tokens.json")}
	_, _, err = s.Add("ann", access.Viewer, time.Time{})
	require.Error(t, err)
	require.Zero(t, s.Len())
	for _, text := range []string{`{`, `{"tokens": [{"role": "owner"}]}`, `{"tokens": [{"role": "admin", "sha256": "00"}]}`} {
		path := filepath.Join(t.TempDir(), "tokens.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.Error(t, (&Store{Path: path}).Load(), text)
	}
}

func TestConcurrent(t *testing.T) {
	s := &Store{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			i, secret, err := s.Add("ann", access.Viewer, time.Time{})
			if err != nil || ask(t, s, secret) == "" {
				t.Error("no token")
			}
			_, _ = s.Revoke(func(o Info) bool { return o.ID == i.ID })
			s.List()
		})
	}
	all.Wait()
	require.Zero(t, s.Len())
}

func ExampleStore() {
	store := &Store{}
	info, secret, err := store.Add("ann", access.Operator, time.Time{})
	gate := &access.Gate{Auth: store}
	_ = gate
	fmt.Println(info.User, info.Role, len(secret) > access.MinSecret, err)
	// Output: ann operator true <nil>
}

// TestGate: without tokens a Gate lets this machine in, with one its bearer alone.
func TestGate(t *testing.T) {
	s := &Store{}
	h := (&access.Gate{Auth: s, Log: slog.New(slog.DiscardHandler)}).Guard(access.Viewer, http.NotFoundHandler())
	ask := func(secret string) int {
		r := httptest.NewRequest("GET", "http://localhost/", nil)
		r.RemoteAddr = "127.0.0.1:4000"
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, 404, ask(""))
	_, secret, err := s.Add("ann", access.Viewer, time.Time{})
	require.NoError(t, err)
	require.Equal(t, 401, ask(""))
	require.Equal(t, 404, ask(secret))
}
