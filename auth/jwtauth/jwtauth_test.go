package jwtauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/jwtauth"
)

var secret = []byte("an HMAC secret that is as long as SHA-512's hash, sixty-four bytes.")

// keys are those of one issuer, made once.
type keys struct {
	rsa        *rsa.PrivateKey
	p256, p384 *ecdsa.PrivateKey
	ed         ed25519.PrivateKey
}

func newKeys(t testing.TB) *keys {
	t.Helper()
	var k keys
	var err [4]error
	k.rsa, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.p256, err[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, err[2] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, k.ed, err[3] = ed25519.GenerateKey(rand.Reader)
	require.NoError(t, errors.Join(err[:]...))
	return &k
}

func (k *keys) static() jwtauth.Static {
	return jwtauth.Static{
		{ID: "hs", Key: secret}, {ID: "rsa", Key: &k.rsa.PublicKey}, {ID: "p256", Key: &k.p256.PublicKey},
		{ID: "p384", Key: &k.p384.PublicKey}, {ID: "ed", Key: k.ed.Public()},
	}
}

// token signs claims; what they lack is filled in.
func token(t testing.TB, method jwt.SigningMethod, kid string, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	all := jwt.MapClaims{
		"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(),
		"runnel": map[string]any{"publish": []string{"live/alice"}, "play": []string{"live/*", "vod/**"}, "bit_rate": 5000000, "sessions": 2},
	}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	j := jwt.NewWithClaims(method, all)
	if kid != "" {
		j.Header["kid"] = kid
	}
	for i := 0; i+1 < len(header); i += 2 {
		j.Header[header[i]] = header[i+1]
	}
	s, err := j.SignedString(key)
	require.NoError(t, err)
	return s
}

func play(token string) *auth.Request {
	return &auth.Request{Action: auth.Play, Stream: "live/a", Token: token}
}

func TestAlgorithms(t *testing.T) {
	k := newKeys(t)
	static := k.static()
	require.NoError(t, static.Check())
	a := &jwtauth.Authorizer{Keys: static}
	for _, c := range []struct {
		method jwt.SigningMethod
		kid    string
		key    any
	}{
		{jwt.SigningMethodHS256, "hs", secret}, {jwt.SigningMethodHS384, "hs", secret}, {jwt.SigningMethodHS512, "hs", secret},
		{jwt.SigningMethodRS256, "rsa", k.rsa}, {jwt.SigningMethodRS512, "rsa", k.rsa}, {jwt.SigningMethodPS256, "rsa", k.rsa},
		{jwt.SigningMethodES256, "p256", k.p256}, {jwt.SigningMethodES384, "p384", k.p384}, {jwt.SigningMethodEdDSA, "ed", k.ed},
	} {
		g, err := a.Authorize(t.Context(), play(token(t, c.method, c.kid, c.key, nil)))
		require.NoError(t, err, c.method.Alg())
		require.Equal(t, "alice", g.User)
		require.WithinDuration(t, time.Now().Add(time.Hour), g.Expires, time.Minute)
		require.Equal(t, auth.Limits{BitRate: 5000000, Sessions: 2}, g.Limits)
	}
	// A key without an id is tried for every token, also for those without.
	nameless := &jwtauth.Authorizer{Keys: jwtauth.Static{{Key: k.ed.Public()}}}
	for _, kid := range []string{"", "x"} {
		_, err := nameless.Authorize(t.Context(), play(token(t, jwt.SigningMethodEdDSA, kid, k.ed, nil)))
		require.NoError(t, err)
	}
}

// TestAlgorithmConfusion: what the header says never makes a key another kind
// of key.
func TestAlgorithmConfusion(t *testing.T) {
	k := newKeys(t)
	a := &jwtauth.Authorizer{Keys: k.static()}
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	require.NoError(t, err)
	edDER, err := x509.MarshalPKIXPublicKey(k.ed.Public())
	require.NoError(t, err)
	good := token(t, jwt.SigningMethodRS256, "rsa", k.rsa, nil)
	parts := strings.Split(good, ".")
	encode := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	mallory := newKeys(t)
	for name, forged := range map[string]string{
		"RSA key in PEM as HMAC secret": token(t, jwt.SigningMethodHS256, "rsa", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil),
		"RSA key in DER as HMAC secret": token(t, jwt.SigningMethodHS256, "rsa", der, nil),
		"Ed25519 key as HMAC secret":    token(t, jwt.SigningMethodHS256, "ed", []byte(k.ed.Public().(ed25519.PublicKey)), nil),
		"Ed25519 DER as HMAC secret":    token(t, jwt.SigningMethodHS256, "ed", edDER, nil),
		"an empty secret":               token(t, jwt.SigningMethodHS256, "hs", []byte{}, nil),
		"none":                          token(t, jwt.SigningMethodNone, "rsa", jwt.UnsafeAllowNoneSignatureType, nil),
		"none without kid":              token(t, jwt.SigningMethodNone, "", jwt.UnsafeAllowNoneSignatureType, nil),
		"nOnE":                          encode(map[string]any{"alg": "nOnE", "kid": "rsa"}) + "." + parts[1] + ".",
		"no algorithm":                  encode(map[string]any{"kid": "rsa"}) + "." + parts[1] + "." + parts[2],
		"another curve's key":           token(t, jwt.SigningMethodES256, "p384", k.p256, nil),
		"another's key":                 token(t, jwt.SigningMethodRS256, "rsa", mallory.rsa, nil),
		"a key of the token's own":      token(t, jwt.SigningMethodEdDSA, "ed", mallory.ed, nil, "jwk", `{"kty":"OKP"}`, "jku", "http://127.0.0.1:1/"),
		"a critical extension":          token(t, jwt.SigningMethodRS256, "rsa", k.rsa, nil, "crit", "b64"),
		"a kid that is no string":       encode(map[string]any{"alg": "RS256", "kid": 1}) + "." + parts[1] + "." + parts[2],
		"another payload":               parts[0] + "." + encode(map[string]any{"sub": "bob", "exp": time.Now().Add(time.Hour).Unix()}) + "." + parts[2],
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"two parts":                     parts[0] + "." + parts[1],
		"dots":                          strings.Repeat(".", 16<<10),
		"too long":                      good + strings.Repeat("A", 16<<10),
		"text":                          "s3cret",
		"nothing":                       "",
	} {
		g, err := a.Authorize(t.Context(), play(forged))
		require.ErrorIs(t, err, auth.ErrDenied, name)
		require.Nil(t, g, name)
	}
	only := &jwtauth.Authorizer{Keys: jwtauth.Static{{ID: "rsa", Algorithm: "PS256", Key: &k.rsa.PublicKey}}}
	_, err = only.Authorize(t.Context(), play(good))
	require.ErrorIs(t, err, auth.ErrDenied)
}

func TestClaims(t *testing.T) {
	k := newKeys(t)
	a := &jwtauth.Authorizer{Keys: k.static(), Issuer: "https://issuer", Audience: "runnel", Leeway: 10 * time.Second}
	now := time.Now()
	for name, c := range map[string]struct {
		claims  jwt.MapClaims
		allowed bool
	}{
		"all":                      {nil, true},
		"several audiences":        {jwt.MapClaims{"aud": []string{"x", "runnel"}}, true},
		"another audience":         {jwt.MapClaims{"aud": "x"}, false},
		"no audience":              {jwt.MapClaims{"aud": nil}, false},
		"another issuer":           {jwt.MapClaims{"iss": "https://issuer/"}, false},
		"no issuer":                {jwt.MapClaims{"iss": nil}, false},
		"no end":                   {jwt.MapClaims{"exp": nil}, false},
		"an end that is no number": {jwt.MapClaims{"exp": "tomorrow"}, false},
		"over":                     {jwt.MapClaims{"exp": now.Add(-11 * time.Second).Unix()}, false},
		"over, but within leeway":  {jwt.MapClaims{"exp": now.Add(-5 * time.Second).Unix()}, true},
		"not yet":                  {jwt.MapClaims{"nbf": now.Add(time.Minute).Unix()}, false},
		"no rights":                {jwt.MapClaims{"runnel": nil}, false},
		"rights that are none":     {jwt.MapClaims{"runnel": "play"}, false},
		"another action":           {jwt.MapClaims{"runnel": map[string]any{"publish": true}}, false},
		"everything of an action":  {jwt.MapClaims{"runnel": map[string]any{"play": true}}, true},
		"nothing of an action":     {jwt.MapClaims{"runnel": map[string]any{"play": false}}, false},
		"another stream":           {jwt.MapClaims{"runnel": map[string]any{"play": []string{"live/b"}}}, false},
		"patterns that are none":   {jwt.MapClaims{"runnel": map[string]any{"play": []any{1}}}, false},
		"a bad limit":              {jwt.MapClaims{"runnel": map[string]any{"play": true, "bit_rate": -5}}, false},
		"a limit of half a bit":    {jwt.MapClaims{"runnel": map[string]any{"play": true, "sessions": 0.5}}, false},
		"a subject that is none":   {jwt.MapClaims{"sub": 7}, false},
	} {
		t.Run(name, func(t *testing.T) {
			claims := jwt.MapClaims{"iss": "https://issuer", "aud": "runnel"}
			for n, v := range c.claims {
				claims[n] = v
			}
			s := token(t, jwt.SigningMethodEdDSA, "ed", k.ed, claims)
			_, err := a.Authorize(t.Context(), play(s))
			if c.allowed {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, auth.ErrDenied)
			require.NotContains(t, err.Error(), s[:20])
		})
	}
}

func TestRights(t *testing.T) {
	k := newKeys(t)
	s := token(t, jwt.SigningMethodEdDSA, "ed", k.ed, jwt.MapClaims{"groups": []string{"staff"}})
	a := &jwtauth.Authorizer{Keys: k.static()}
	for _, c := range []struct {
		r       auth.Request
		allowed bool
	}{
		{auth.Request{Action: auth.Publish, Stream: "live/alice"}, true},
		{auth.Request{Action: auth.Publish, Stream: "live/bob"}, false},
		{auth.Request{Action: auth.Play, Stream: "live/bob"}, true},
		{auth.Request{Action: auth.Play, Stream: "live/bob/hd"}, false},
		{auth.Request{Action: auth.Play, Stream: "vod/a/b/c"}, true},
		{auth.Request{Action: auth.Play, Stream: "vhost/live/bob"}, false},
		{auth.Request{Action: auth.Play}, false},
		{auth.Request{Action: auth.Admin}, false},
		{auth.Request{Action: auth.Relay, Realm: "r"}, false},
		{auth.Request{Action: "bit_rate", Stream: "live/alice"}, false},
	} {
		for _, asPassword := range []bool{false, true} {
			r := c.r
			if r.Token = s; asPassword {
				r.Token, r.Password = "", s
			}
			_, err := a.Authorize(t.Context(), &r)
			require.Equal(t, c.allowed, err == nil, "%+v", c.r)
		}
	}
	own := &jwtauth.Authorizer{Keys: k.static(), Rights: func(claims map[string]any) (*jwtauth.Rights, error) {
		if groups, _ := claims["groups"].([]any); len(groups) != 1 || groups[0] != "staff" {
			return nil, errors.New("not of the staff")
		}
		return &jwtauth.Rights{Patterns: map[auth.Action][]string{auth.Admin: {"**"}}, Labels: map[string]string{"a": "b"}}, nil
	}}
	g, err := own.Authorize(t.Context(), &auth.Request{Action: auth.Admin, Token: s})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b"}, g.Labels)
	require.Equal(t, "alice", g.User)
	_, err = own.Authorize(t.Context(), &auth.Request{Action: auth.Admin, Token: token(t, jwt.SigningMethodEdDSA, "ed", k.ed, nil)})
	require.ErrorIs(t, err, auth.ErrDenied)
}

func TestTURN(t *testing.T) {
	k := newKeys(t)
	s := token(t, jwt.SigningMethodEdDSA, "ed", k.ed, jwt.MapClaims{"runnel": map[string]any{"relay": []string{"turn.example"}}})
	require.LessOrEqual(t, len(s), 508)
	ask := func(a *jwtauth.Authorizer, realm, password string) (*auth.Grant, error) {
		return a.Authorize(t.Context(), &auth.Request{Action: auth.Relay, User: s, Realm: realm,
			Proof: func(p auth.Secret) bool { return p.Plain == password }})
	}
	a := &jwtauth.Authorizer{Keys: k.static(), TURNSecret: []byte("shared")}
	password := jwtauth.TURNPassword(a.TURNSecret, s)
	g, err := ask(a, "turn.example", password)
	require.NoError(t, err)
	require.Equal(t, "alice", g.User)
	require.False(t, g.Expires.IsZero())
	for name, f := range map[string]func() (*auth.Grant, error){
		"who only saw the token": func() (*auth.Grant, error) { return ask(a, "turn.example", "") },
		"another realm":          func() (*auth.Grant, error) { return ask(a, "turn.example.net", password) },
		"no secret": func() (*auth.Grant, error) {
			return ask(&jwtauth.Authorizer{Keys: k.static()}, "turn.example", jwtauth.TURNPassword(nil, s))
		},
		"no keys": func() (*auth.Grant, error) {
			return ask(&jwtauth.Authorizer{TURNSecret: a.TURNSecret}, "turn.example", password)
		},
	} {
		_, err := f()
		require.ErrorIs(t, err, auth.ErrDenied, name)
	}
}

type brokenKeys struct{ error }

func (b brokenKeys) Keys(context.Context, string) ([]jwtauth.Key, error) { return nil, b.error }

// TestKeysDown: keys that can't be had are no fault of the token, but refuse.
func TestKeysDown(t *testing.T) {
	down := errors.New("down")
	_, err := (&jwtauth.Authorizer{Keys: brokenKeys{down}}).Authorize(t.Context(), play(token(t, jwt.SigningMethodHS256, "", secret, nil)))
	require.ErrorIs(t, err, down)
	require.NotErrorIs(t, err, auth.ErrDenied)
}

func TestStaticCheck(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]jwtauth.Key{
		"a short secret":        {Key: secret[:31]},
		"a secret for RS256":    {Key: secret, Algorithm: "RS256"},
		"a short one for HS512": {Key: secret[:32], Algorithm: "HS512"},
		"RSA of 1024 bits":      {Key: &small.PublicKey},
		"P-224":                 {Key: &p224.PublicKey},
		"a private key":         {Key: small},
		"text":                  {Key: "secret"},
		"nothing":               {},
		"nil RSA":               {Key: (*rsa.PublicKey)(nil)},
		"nil ECDSA":             {Key: (*ecdsa.PublicKey)(nil)},
		"short Ed25519":         {Key: ed25519.PublicKey{1}},
	} {
		require.Error(t, jwtauth.Static{key}.Check(), name)
		a := &jwtauth.Authorizer{Keys: jwtauth.Static{key}}
		if b, ok := key.Key.([]byte); ok {
			_, err := a.Authorize(t.Context(), play(token(t, jwt.SigningMethodHS512, "", b, nil)))
			require.ErrorIs(t, err, auth.ErrDenied, name)
		}
	}
	var _ crypto.PublicKey = small.Public()
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"live/a", "live/a", true}, {"live/a", "live/ab", false}, {"live/a", "live/", false}, {"", "", true}, {"", "a", false},
		{"live/*", "live/a", true}, {"live/*", "live/", true}, {"live/*", "live/a/b", false}, {"*", "live/a", false},
		{"live/**", "live/a/b", true}, {"**", "a/b", true}, {"**/hd", "a/b/hd", true}, {"**/hd", "hd", false},
		{"live/*-hd", "live/a-hd", true}, {"live/*-hd", "live/a-hd-x", false}, {"l*/*", "live/a", true}, {"***", "a/b", true},
		{"live/[a]", "live/a", false}, {"live/?", "live/a", false}, {"live/\\*", "live/\\x", true}, {"a*b*c", "aXbXbXc", true},
	} {
		require.Equal(t, c.want, jwtauth.Match(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
	require.False(t, jwtauth.Match(strings.Repeat("*a", 128), strings.Repeat("a", 100)+"b"))
}

func FuzzAuthorize(f *testing.F) {
	a := &jwtauth.Authorizer{Keys: jwtauth.Static{{Key: secret}, {ID: "ed", Key: ed25519.PublicKey(make([]byte, 32))}}}
	good := token(f, jwt.SigningMethodHS256, "", secret, nil)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Add("eyJhbGciOiJIUzI1NiIsImtpZCI6MX0.eyJleHAiOjFlMzB9.AA")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := a.Authorize(t.Context(), play(s)); err == nil && s != good {
			// base64 has no second form that the parser takes
			t.Fatalf("forged: %q", s)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("live/*", "live/a")
	f.Add("**a", "aaa")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 100 || len(name) > 100 {
			return
		}
		got := jwtauth.Match(pattern, name)
		if !strings.Contains(pattern, "*") {
			require.Equal(t, pattern == name, got)
		}
		require.True(t, jwtauth.Match("**", name))
		if got {
			require.True(t, jwtauth.Match(pattern+"**", name+"/x"))
		}
	})
}
