package natsregistry

import (
	"errors"
	"strings"
)

// Keys of the bucket. The rest of one is a token of NATS subjects.
const (
	serverPrefix = "s." // then a server's ID
	claimPrefix  = "c." // then a hub key
)

const (
	maxID     = 64
	maxStream = 255 // bytes, as hub keys
)

var errKey = errors.New("natsregistry: malformed key")

const hexDigits = "0123456789ABCDEF"

// plain reports whether a byte stands for itself in a key. NATS allows "=" and
// "." too; the one begins an escape here, the other ends a token.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '/'
}

// encodeKey makes a key of a name, which may have any bytes: those that NATS
// does not take become "=" and two hexadecimal digits.
func encodeKey(prefix, name string) string {
	var b strings.Builder
	b.Grow(len(prefix) + len(name) + 8)
	b.WriteString(prefix)
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// decodeKey returns the name of a key without its prefix. Only what encodeKey
// writes is taken, so that a name has one key.
func decodeKey(token string, limit int) (string, error) {
	if token == "" || len(token) > 3*limit {
		return "", errKey
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' {
			if i+2 >= len(token) {
				return "", errKey
			}
			high, low := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
			if high < 0 || low < 0 {
				return "", errKey
			}
			if c = byte(high<<4 | low); plain(c) {
				return "", errKey
			}
			i += 2
		} else if !plain(c) {
			return "", errKey
		}
		b = append(b, c)
	}
	if len(b) > limit {
		return "", errKey
	}
	return string(b), nil
}
