package auth

import (
	"strings"
	"time"
)

// Rights are what somebody may do, where that is written down: beside a token,
// in a password file, in the claims of a JWT.
type Rights struct {
	User string // for Grant.User
	// Patterns say of each action for which streams it is allowed: hub keys, or
	// realms of Relay. Actions that are not about either want "**". See Match.
	Patterns map[Action][]string
	Limits   Limits
	Labels   map[string]string
}

// everything is the pattern that matches it.
const everything = "**"

// maxPattern bounds patterns that are looked at, in bytes.
const maxPattern = 256

// Allow reports whether the rights cover a request.
func (r *Rights) Allow(q *Request) bool {
	about := q.Stream
	if q.Action == Relay {
		about = q.Realm
	}
	for _, p := range r.Patterns[q.Action] {
		if p == everything || len(p) <= maxPattern && about != "" && Match(p, about) {
			return true
		}
	}
	return false
}

// Grant returns the Grant of a request that the rights cover, which ends at
// expires, and ErrDenied for others.
func (r *Rights) Grant(q *Request, expires time.Time) (*Grant, error) {
	if !expires.IsZero() && !time.Now().Before(expires) || !r.Allow(q) {
		return nil, ErrDenied
	}
	return &Grant{User: r.User, Expires: expires, Limits: r.Limits, Labels: r.Labels}, nil
}

// Match reports whether a pattern matches a name. In a pattern * stands for
// any characters but "/", ** for any. It takes time in proportion to the
// product of the two lengths, whatever the pattern.
func Match(pattern, name string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == name
	}
	// reach[j]: what was read of the pattern matches name[:j].
	var room [256]bool
	reach := append(room[:0], make([]bool, len(name)+1)...)
	reach[0] = true
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '*' {
			for j := len(name); j > 0; j-- {
				reach[j] = reach[j-1] && name[j-1] == pattern[i]
			}
			reach[0] = false
			continue
		}
		across := i+1 < len(pattern) && pattern[i+1] == '*'
		if across {
			i++
		}
		for j := 1; j <= len(name); j++ {
			reach[j] = reach[j] || reach[j-1] && (across || name[j-1] != '/')
		}
	}
	return reach[len(name)]
}
