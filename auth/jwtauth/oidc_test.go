package jwtauth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/jwtauth"
)

// A provider is an OpenID provider, as much of it as a server asks.
type provider struct {
	*httptest.Server
	name  atomic.Value // what it calls itself; "": by its URL
	keys  atomic.Value // where it says that its keys are
	set   string
	asked atomic.Int32
}

func newProvider(t *testing.T, k *keys) *provider {
	i := &provider{set: k.set(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		name, _ := i.name.Load().(string)
		if name == "" {
			name = i.URL + "/realm"
		}
		at, _ := i.keys.Load().(string)
		if at == "" {
			at = i.URL + "/keys"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": name, "jwks_uri": at, "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, i.set) })
	mux.HandleFunc("GET /away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *provider) authorizer() *jwtauth.Authorizer {
	name := i.URL + "/realm"
	return &jwtauth.Authorizer{Issuer: name, Audience: "media", Keys: &jwtauth.JWKS{Issuer: name, Client: i.Client()}}
}

func TestOIDC(t *testing.T) {
	k := newKeys(t)
	i := newProvider(t, k)
	a := i.authorizer()
	signed := func(claims map[string]any) *auth.Request {
		if claims["iss"] == nil {
			claims["iss"] = i.URL + "/realm"
		}
		return play(token(t, jwt.SigningMethodRS256, "rsa", k.rsa, claims))
	}
	for range 3 {
		_, err := a.Authorize(t.Context(), signed(map[string]any{"aud": []string{"other", "media"}}))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, i.asked.Load(), "it is asked once")
	for name, claims := range map[string]map[string]any{
		"another issuer":   {"aud": "media", "iss": "https://evil.example"},
		"another audience": {"aud": "other"},
		"no audience":      {},
	} {
		_, err := a.Authorize(t.Context(), signed(claims))
		require.ErrorIs(t, err, auth.ErrDenied, name)
	}
	for name, c := range map[string]struct{ issuer, keys string }{
		"calls itself another":  {issuer: "https://login.example.org"},
		"with a slash more":     {issuer: i.URL + "/realm/"},
		"keys in the clear":     {keys: "http://127.0.0.1:1/keys"},
		"keys of another kind":  {keys: "file:///etc/passwd"},
		"no keys":               {keys: "/keys"},
		"keys by a redirection": {keys: i.URL + "/away"},
	} {
		i.name.Store(c.issuer)
		i.keys.Store(c.keys)
		_, err := i.authorizer().Authorize(t.Context(), signed(map[string]any{"aud": "media"}))
		require.Error(t, err, name)
		require.NotErrorIs(t, err, auth.ErrDenied, name)
	}
	for _, bad := range []string{"not a URL", "ftp://x/", "https://"} {
		_, err := (&jwtauth.JWKS{Issuer: bad}).Keys(t.Context(), "x")
		require.Error(t, err)
	}
}

func TestClaimRules(t *testing.T) {
	c := &jwtauth.Claims{User: "preferred_username", Rules: []jwtauth.Rule{
		{Patterns: map[auth.Action][]string{auth.Play: {"live/**"}}, Limits: auth.Limits{Sessions: 3}},
		{Claim: "realm_access.roles", Value: "broadcaster", Labels: map[string]string{"team": "news"},
			Patterns: map[auth.Action][]string{auth.Publish: {"live/{preferred_username}/**", "{missing}"}}},
		{Claim: "https://example.org/groups", Value: "ops", Role: "operator"},
		{Claim: "scope", Value: "media:record", Patterns: map[auth.Action][]string{"record": {"**"}}},
		{Claim: "staff", Patterns: map[auth.Action][]string{auth.Relay: {"**"}}, Limits: auth.Limits{Sessions: 9}},
	}}
	for name, tc := range map[string]struct {
		claims map[string]any
		want   *jwtauth.Rights
	}{
		"nobody": {map[string]any{"sub": "x"}, nil},
		"anybody": {map[string]any{"preferred_username": "ann"}, &jwtauth.Rights{User: "ann", Limits: auth.Limits{Sessions: 3}, Labels: map[string]string{},
			Patterns: map[auth.Action][]string{auth.Play: {"live/**"}}}},
		"all": {map[string]any{"preferred_username": "ann", "realm_access": map[string]any{"roles": []any{"x", "broadcaster"}},
			"https://example.org/groups": []any{"ops"}, "scope": "openid media:record", "staff": true},
			&jwtauth.Rights{User: "ann", Limits: auth.Limits{Sessions: 9}, Labels: map[string]string{"team": "news", "role": "operator"},
				Patterns: map[auth.Action][]string{auth.Play: {"live/**"}, auth.Publish: {"live/ann/**"}, auth.Admin: {"**"}, "record": {"**"}, auth.Relay: {"**"}}}},
		"not quite": {map[string]any{"preferred_username": "ann", "realm_access": []any{"broadcaster"}, "scope": "media:recordings", "staff": false,
			"https://example.org/groups": "opsx"},
			&jwtauth.Rights{User: "ann", Limits: auth.Limits{Sessions: 3}, Labels: map[string]string{}, Patterns: map[auth.Action][]string{auth.Play: {"live/**"}}}},
	} {
		got, err := c.Rights(tc.claims)
		require.Equal(t, tc.want == nil, err != nil, name)
		require.Equal(t, tc.want, got, name)
	}
	// What an issuer lets users choose does not widen a pattern.
	for _, user := range []string{"*", "**", "a/b", "", "..", "a*", "_x", "{sub}"} {
		got, err := c.Rights(map[string]any{"preferred_username": user, "realm_access": map[string]any{"roles": []any{"broadcaster"}}})
		if err == nil && user != "{sub}" {
			require.Empty(t, got.Patterns[auth.Publish], user)
		}
	}
	_, err := (&jwtauth.Claims{Rules: []jwtauth.Rule{{Claim: "x"}}}).Rights(map[string]any{"sub": "a"})
	require.Error(t, err, "no rule is about it")
}

func ExampleClaims() {
	claims := &jwtauth.Claims{Rules: []jwtauth.Rule{
		{Patterns: map[auth.Action][]string{auth.Play: {"**"}}},
		{Claim: "groups", Value: "broadcasters", Patterns: map[auth.Action][]string{auth.Publish: {"live/{sub}"}}},
	}}
	a := &jwtauth.Authorizer{
		Issuer: "https://login.example.org", Audience: "media",
		Keys:   &jwtauth.JWKS{Issuer: "https://login.example.org"}, // found by discovery
		Rights: claims.Rights,
	}
	_, err := a.Authorize(context.Background(), &auth.Request{Action: auth.Play, Stream: "live/demo"}) // no token
	fmt.Println(err)
	rights, err := claims.Rights(map[string]any{"sub": "ann", "groups": []any{"broadcasters"}})
	fmt.Println(rights.Patterns[auth.Publish], err)
	// Output:
	// auth: denied
	// [live/ann] <nil>
}
