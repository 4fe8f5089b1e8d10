package jwtauth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/jwtauth"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// set is a JWK set of the keys, each with its name as id.
func (k *keys) set(t testing.TB, more ...map[string]any) string {
	t.Helper()
	point := func(id, curve string, key *ecdsa.PublicKey) map[string]any {
		p, err := key.Bytes()
		require.NoError(t, err)
		half := (len(p) - 1) / 2
		return map[string]any{"kty": "EC", "kid": id, "crv": curve, "x": b64(p[1 : 1+half]), "y": b64(p[1+half:])}
	}
	list := append([]map[string]any{
		{"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": b64(k.rsa.N.Bytes()), "e": b64(big.NewInt(int64(k.rsa.E)).Bytes())},
		point("p256", "P-256", &k.p256.PublicKey), point("p384", "P-384", &k.p384.PublicKey),
		{"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(k.ed.Public().(ed25519.PublicKey)), "key_ops": []string{"verify"}},
	}, more...)
	b, err := json.Marshal(map[string]any{"keys": list})
	require.NoError(t, err)
	return string(b)
}

func TestParseJWKS(t *testing.T) {
	k := newKeys(t)
	good, err := jwtauth.ParseJWKS([]byte(k.set(t)))
	require.NoError(t, err)
	require.Len(t, good, 4)
	a := &jwtauth.Authorizer{Keys: jwtauth.Static(good)}
	for kid, key := range map[string]any{"rsa": k.rsa, "p256": k.p256, "p384": k.p384, "ed": k.ed} {
		method := map[string]jwt.SigningMethod{"rsa": jwt.SigningMethodRS256, "p256": jwt.SigningMethodES256, "p384": jwt.SigningMethodES384, "ed": jwt.SigningMethodEdDSA}[kid]
		_, err := a.Authorize(t.Context(), play(token(t, method, kid, key, nil)))
		require.NoError(t, err, kid)
	}
	x := b64(make([]byte, 32))
	for name, bad := range map[string]map[string]any{
		"secret":           {"kty": "oct", "k": b64(secret)},
		"for encryption":   {"kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc"},
		"for signing":      {"kty": "OKP", "crv": "Ed25519", "x": x, "key_ops": []string{"sign"}},
		"off the curve":    {"kty": "EC", "crv": "P-256", "x": b64(append(make([]byte, 31), 1)), "y": x},
		"at infinity":      {"kty": "EC", "crv": "P-256", "x": x, "y": x},
		"a short point":    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
		"a long point":     {"kty": "EC", "crv": "P-256", "x": strings.Repeat("A", 1000), "y": x},
		"an unknown curve": {"kty": "EC", "crv": "secp256k1", "x": x, "y": x},
		"X25519":           {"kty": "OKP", "crv": "X25519", "x": x},
		"a small RSA key":  {"kty": "RSA", "n": b64(make([]byte, 128)), "e": "AQAB"},
		"no exponent":      {"kty": "RSA", "n": b64(k.rsa.N.Bytes()), "e": ""},
		"an exponent of 1": {"kty": "RSA", "n": b64(k.rsa.N.Bytes()), "e": "AQ"},
		"a huge exponent":  {"kty": "RSA", "n": b64(k.rsa.N.Bytes()), "e": "_____w"},
		"a huge modulus":   {"kty": "RSA", "n": strings.Repeat("A", 100_000), "e": "AQAB"},
		"another's alg":    {"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "HS256"},
		"no type":          {"kid": "x"},
		"a type of number": {"kty": 7},
	} {
		got, err := jwtauth.ParseJWKS([]byte(k.set(t, bad)))
		require.NoError(t, err, name)
		require.Len(t, got, 4, name)
	}
	for name, text := range map[string]string{
		"no JSON": "x", "no set": "{}", "a list": "[]", "null": `{"keys":null}`,
		"too many": `{"keys":[` + strings.TrimSuffix(strings.Repeat("{},", 101), ",") + `]}`,
	} {
		_, err := jwtauth.ParseJWKS([]byte(text))
		require.Error(t, err, name)
	}
}

// issuer is an http.RoundTripper that answers with a set, without a network.
type issuer struct {
	set     atomic.Pointer[string] // nil: down
	delay   time.Duration
	fetched atomic.Int64
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.fetched.Add(1)
	select {
	case <-time.After(i.delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	set := i.set.Load()
	if set == nil {
		return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("refused")}
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(*set)), Request: r}, nil
}

func TestJWKSCache(t *testing.T) {
	k, next := newKeys(t), newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		first, second := k.set(t), strings.ReplaceAll(next.set(t), `"ed"`, `"ed2"`)
		i := &issuer{delay: time.Second}
		i.set.Store(&first)
		a := &jwtauth.Authorizer{Keys: &jwtauth.JWKS{URL: "https://issuer/keys", Client: &http.Client{Transport: i}}}
		check := func(s string, want error, fetched int64) {
			t.Helper()
			_, err := a.Authorize(t.Context(), play(s))
			require.ErrorIs(t, err, want)
			require.Equal(t, fetched, i.fetched.Load())
		}
		sign := func(kid string, key ed25519.PrivateKey) string {
			return token(t, jwt.SigningMethodEdDSA, kid, key, jwt.MapClaims{"exp": time.Now().Add(100 * time.Hour).Unix()})
		}
		old, rotated := sign("ed", k.ed), sign("ed2", next.ed)

		for range 20 { // at once: one fetch
			go func() { _, _ = a.Authorize(context.Background(), play(old)) }()
		}
		synctest.Wait()
		check(old, nil, 1)
		check(rotated, auth.ErrDenied, 1) // so soon after the last time it is not fetched again
		i.set.Store(&second)
		time.Sleep(10 * time.Second)
		check(rotated, nil, 2)
		check(old, auth.ErrDenied, 2)
		for range 100 { // a flood of unknown ids
			check(old, auth.ErrDenied, 2)
		}
		time.Sleep(jwtauth.DefaultKeep)
		check(rotated, nil, 3)

		i.set.Store(nil) // down: the old keys serve for a while
		time.Sleep(jwtauth.DefaultKeep)
		_, err := a.Authorize(t.Context(), play(rotated))
		require.NoError(t, err)
		check(rotated, nil, 4)
		time.Sleep(jwtauth.DefaultStale)
		_, err = a.Authorize(t.Context(), play(rotated))
		require.Error(t, err)
		require.NotErrorIs(t, err, auth.ErrDenied)
		require.EqualValues(t, 5, i.fetched.Load())
		time.Sleep(10 * time.Second)
		i.set.Store(&second)
		check(rotated, nil, 6)
	})
}

func TestJWKSWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{delay: time.Hour}
		j := &jwtauth.JWKS{URL: "https://issuer/keys", Client: &http.Client{Transport: i}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := j.Keys(ctx, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		began := time.Now()
		_, err = j.Keys(t.Context(), "x")
		require.Error(t, err)
		require.LessOrEqual(t, time.Since(began), jwtauth.DefaultTimeout)
		require.EqualValues(t, 1, i.fetched.Load())
	})
}

func TestJWKSOverHTTP(t *testing.T) {
	k := newKeys(t)
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	good := serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, k.set(t)) })
	found, err := (&jwtauth.JWKS{URL: good}).Keys(t.Context(), "rsa")
	require.NoError(t, err)
	require.Len(t, found, 1)
	for name, url := range map[string]string{
		"redirect":  serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, good, http.StatusFound) }),
		"not found": serve(http.NotFound),
		"too long": serve(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, k.set(t)+strings.Repeat(" ", 512<<10))
		}),
		"no set": serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }),
		"no URL": "http://user:hunter2@host:port/",
	} {
		j := &jwtauth.JWKS{URL: url}
		for range 2 {
			_, err := j.Keys(t.Context(), "rsa")
			require.Error(t, err, name)
			require.NotContains(t, err.Error(), "hunter2")
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add([]byte(newKeys(f).set(f)))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-521","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := jwtauth.ParseJWKS(b)
		if err == nil {
			require.NoError(t, jwtauth.Static(keys).Check())
		}
	})
}
