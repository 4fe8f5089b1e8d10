package jwtauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
)

// A Key verifies tokens.
type Key struct {
	ID string // "kid" of the tokens that it is for; "": of those without
	// Algorithm is the only one that the key is good for, such as "RS256"; "":
	// all of its kind.
	Algorithm string
	// Key is a []byte for HS256, HS384 and HS512, at least as long as the hash,
	// an *rsa.PublicKey of 2048 bits or more, an *ecdsa.PublicKey of P-256,
	// P-384 or P-521, or an ed25519.PublicKey.
	Key any
}

// algorithms are those that the key may verify. None of them is of another
// kind: a public key is never an HMAC's secret.
func (k *Key) algorithms() ([]string, error) {
	var list []string
	switch key := k.Key.(type) {
	case []byte:
		for i, size := range []int{32, 48, 64} {
			if len(key) >= size {
				list = append(list, []string{"HS256", "HS384", "HS512"}[i])
			}
		}
	case *rsa.PublicKey:
		if key != nil && key.N != nil && key.N.BitLen() >= 2048 && key.N.BitLen() <= 16384 && key.E >= 3 {
			list = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
	case *ecdsa.PublicKey:
		if key == nil {
			break
		}
		switch key.Curve {
		case elliptic.P256():
			list = []string{"ES256"}
		case elliptic.P384():
			list = []string{"ES384"}
		case elliptic.P521():
			list = []string{"ES512"}
		}
	case ed25519.PublicKey:
		if len(key) == ed25519.PublicKeySize {
			list = []string{"EdDSA"}
		}
	}
	if k.Algorithm != "" {
		list = slices.DeleteFunc(list, func(a string) bool { return a != k.Algorithm })
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("jwtauth: key %q is of no use: a %T for %q, or too short", k.ID, k.Key, k.Algorithm)
	}
	return list, nil
}

// Keys finds the keys for a token.
type Keys interface {
	// Keys returns the keys with an id, at most a few. None is no error. It may
	// block until ctx ends.
	Keys(ctx context.Context, id string) ([]Key, error)
}

// Static is a list of keys that does not change.
type Static []Key

// Keys returns those with the id, and those without one.
func (s Static) Keys(_ context.Context, id string) (found []Key, _ error) {
	for _, k := range s {
		if k.ID == id || k.ID == "" {
			found = append(found, k)
		}
	}
	return found, nil
}

// Check says which of the keys is of no use.
func (s Static) Check() error {
	var errs []error
	for i := range s {
		_, err := s[i].algorithms()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
