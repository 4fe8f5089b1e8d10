package turnauth

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stun"
)

// What a name may be: USERNAME has at most 508 bytes (RFC 8489 Section 14.3),
// REALM at most 763, but databases of coturn's kind hold 127.
const (
	maxName  = 512
	maxRealm = 127
)

// ErrUnknown is what a Store returns, or wraps, for a user or key that it does
// not have. Any other error says that the Store can't tell.
var ErrUnknown = errors.New("turnauth: unknown")

// Key is what coturn calls a hmackey: MD5(user ":" realm ":" password), the
// key of long-term credentials (RFC 8489 Section 9.2.2). It is bound to user
// and realm.
func Key(user, realm, password string) []byte {
	sum := md5.Sum([]byte(user + ":" + prepare(realm) + ":" + prepare(password)))
	return sum[:]
}

// KeySHA256 is the same with SHA-256, for clients of RFC 8489 that choose it.
func KeySHA256(user, realm, password string) []byte {
	sum := sha256.Sum256([]byte(user + ":" + prepare(realm) + ":" + prepare(password)))
	return sum[:]
}

// ParseKey reads a Key or a KeySHA256 from hexadecimal digits, 32 or 64 of
// them, with "0x" before them or without.
func ParseKey(s string) (auth.Secret, error) {
	s = strings.TrimSpace(s)
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	switch {
	case err == nil && len(b) == md5.Size:
		return auth.Secret{Key: b}, nil
	case err == nil && len(b) == sha256.Size:
		return auth.Secret{KeySHA256: b}, nil
	}
	return auth.Secret{}, fmt.Errorf("turnauth: a key is 32 or 64 hexadecimal digits, not these %d characters", len(s))
}

// prepare brings a realm or password into the form that RFC 8489 hashes. What
// has no such form remains as it is.
func prepare(s string) string {
	if p, err := stun.OpaqueString(s); err == nil {
		return p
	}
	return s
}

// hashOf is USERHASH (RFC 8489 Section 14.4).
func hashOf(user, realm string) [sha256.Size]byte {
	return sha256.Sum256([]byte(prepare(user) + ":" + prepare(realm)))
}

// storable reports whether a name can be in a database at all: a peer's name
// that can't be is unknown, not a failure of the database that refuses it.
func storable(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}
