package jwtauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// jwk is a key as RFC 7517 and RFC 7518 Section 6 write it.
type jwk struct {
	Type      string   `json:"kty"`
	ID        string   `json:"kid"`
	Use       string   `json:"use"`
	Ops       []string `json:"key_ops"`
	Algorithm string   `json:"alg"`
	Curve     string   `json:"crv"`
	N, E      string
	X, Y      string
}

// ParseJWKS reads a JWK set. Keys that are not for signatures, are too weak,
// secret or of an unknown kind are left out: sets are published for everybody,
// and one key of another use must not keep the others from working.
func ParseJWKS(b []byte) ([]Key, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(b, &set); err != nil || set.Keys == nil {
		return nil, errors.New("jwtauth: not a set of keys")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("jwtauth: a set of %d keys, more than %d", len(set.Keys), maxKeys)
	}
	keys := []Key{}
	for _, raw := range set.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil || j.Use != "" && j.Use != "sig" || len(j.ID) > 1024 {
			continue
		}
		k := Key{ID: j.ID, Algorithm: j.Algorithm, Key: j.public()}
		if k.Key == nil || len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify") {
			continue
		}
		if _, err := k.algorithms(); err == nil {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// public returns the key, or nil.
func (j *jwk) public() any {
	switch j.Type {
	case "RSA":
		n, e := number(j.N, 16384/8), number(j.E, 4)
		if n == nil || e == nil || !e.IsInt64() || e.Int64() > 1<<31-1 || e.Bit(0) == 0 || n.Bit(0) == 0 {
			return nil
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}
	case "EC":
		curve, size := elliptic.Curve(nil), 0
		switch j.Curve {
		case "P-256":
			curve, size = elliptic.P256(), 32
		case "P-384":
			curve, size = elliptic.P384(), 48
		case "P-521":
			curve, size = elliptic.P521(), 66
		default:
			return nil
		}
		x, y := decode(j.X, size), decode(j.Y, size)
		if len(x) != size || len(y) != size {
			return nil
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil // not a point of the curve
		}
		return key
	case "OKP":
		if x := decode(j.X, ed25519.PublicKeySize); j.Curve == "Ed25519" && len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	}
	return nil
}

func decode(s string, most int) []byte {
	if len(s) > base64.RawURLEncoding.EncodedLen(most) {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

func number(s string, most int) *big.Int {
	b := decode(s, most)
	if len(b) == 0 {
		return nil
	}
	return new(big.Int).SetBytes(b)
}
