package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Token is a secret that gives rights to whoever sends it. The secret itself
// is not in it.
type Token struct {
	Hash    [sha256.Size]byte // SHA-256 of the secret, see HashToken
	Rights  Rights
	Expires time.Time // zero: never
}

// minToken is how long a token's secret is at least, in bytes.
const minToken = 16

// HashToken returns what a Token keeps of a secret: its SHA-256. A token has no
// need of a slow hash if it is random, so those of less than 16 bytes are
// refused. What begins with "sha256:" is the hash itself, in hexadecimal
// digits. Errors never hold the secret.
func HashToken(secret string) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	if digits, ok := strings.CutPrefix(secret, "sha256:"); ok {
		b, err := hex.DecodeString(digits)
		if err != nil || len(b) != len(sum) {
			return sum, errors.New("auth: the hash of a token is 64 hexadecimal digits")
		}
		return [sha256.Size]byte(b), nil
	}
	if len(secret) < minToken {
		return sum, fmt.Errorf("auth: a token has at least %d characters; take random ones", minToken)
	}
	return sha256.Sum256([]byte(secret)), nil
}

// Tokens allow whoever sends one of them as Request.Token, or as the password
// of encoders that have no other place, what its Rights cover. They are
// compared in constant time, and all of them each time.
type Tokens []Token

// Authorize implements Authorizer.
func (list Tokens) Authorize(_ context.Context, r *Request) (*Grant, error) {
	sent := cmp.Or(r.Token, r.Password)
	if sent == "" || r.Proof != nil {
		return nil, ErrDenied
	}
	got := sha256.Sum256([]byte(sent))
	found := -1
	for i := range list {
		if subtle.ConstantTimeCompare(list[i].Hash[:], got[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return nil, fmt.Errorf("%w: unknown token", ErrDenied)
	}
	return list[found].Rights.Grant(r, list[found].Expires)
}
