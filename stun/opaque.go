package stun

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// An Algorithm derives the key of long-term credentials from a password (RFC
// 8489 Section 18.5).
type Algorithm = stunwire.Algorithm

// The algorithms that there are.
const (
	MD5    = stunwire.MD5
	SHA256 = stunwire.SHA256
)

// OpaqueString prepares a user name, realm or password as RFC 8265 Section
// 4.2 says: spaces become ASCII ones, the text is normalised (NFC). Printable
// ASCII stays as it is. It is an error if the text is empty or has control
// characters or others that are not allowed.
//
// RFC 8489 Appendix B.1 shows what SASLprep (RFC 4013) made of a password, not
// OpaqueString: the soft hyphen in it is not allowed any more.
func OpaqueString(s string) (string, error) {
	if printable(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", errors.New("stun: text that is not UTF-8")
	}
	out, err := precis.OpaqueString.String(s)
	if err != nil {
		return "", fmt.Errorf("stun: text that OpaqueString refuses: %w", err) // the error does not quote it
	}
	return out, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// LongTermKey is the key of long-term credentials (RFC 8489 Sections 9.2.2 and
// 18.5.1). The realm and the password are prepared with OpaqueString; the user
// name is taken as it goes over the wire, so prepare it before it is sent.
func LongTermKey(user, realm, password string, alg Algorithm) ([]byte, error) {
	realm, err := OpaqueString(realm)
	if err != nil {
		return nil, err
	}
	if password, err = OpaqueString(password); err != nil {
		return nil, err
	}
	key := stunwire.LongTermKey(user, realm, password, alg)
	if key == nil {
		return nil, fmt.Errorf("stun: no password %v", alg)
	}
	return key, nil
}

// UserHash is what USERHASH says instead of a user name (RFC 8489 Section
// 14.4): 32 bytes. Both are prepared with OpaqueString.
func UserHash(user, realm string) ([]byte, error) {
	user, err := OpaqueString(user)
	if err != nil {
		return nil, err
	}
	if realm, err = OpaqueString(realm); err != nil {
		return nil, err
	}
	sum := stunwire.UserHash(user, realm)
	return sum[:], nil
}
