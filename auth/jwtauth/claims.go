package jwtauth

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/name"
)

// Claims make rights of the claims that an issuer writes for everybody, groups
// and roles and scopes, where it can't be told to write "runnel":
//
//	a := &jwtauth.Authorizer{Issuer: issuer, Keys: &jwtauth.JWKS{Issuer: issuer}, Audience: "media", Rights: claims.Rights}
type Claims struct {
	User  string // the claim that names who it is; "": "sub"
	Rules []Rule // a token has the rights of all that match; one that none matches is refused
}

// A Rule is about tokens that have a claim.
type Rule struct {
	// Claim is the claim's name, "" for every token. Objects in objects are
	// written with dots: "realm_access.roles".
	Claim string
	// Value is what the claim has to be: the string itself, one of the strings
	// of a list, or one of the words of a string (as in "scope"). "": anything
	// but false.
	Value string

	// Patterns are as in Rights. {NAME} in one stands for the claim NAME, if
	// that is a string that can be a segment of a name; otherwise the pattern
	// does not count.
	Patterns map[auth.Action][]string
	// Role makes its owner a caller of the API: viewer, operator or admin. Of
	// several the last counts, as it does of Limits.
	Role   string
	Limits auth.Limits
	Labels map[string]string
}

// roleLabel is what access.RoleLabel is.
const roleLabel = "role"

// Rights is for Authorizer.Rights.
func (c *Claims) Rights(claims map[string]any) (*Rights, error) {
	r := &Rights{Patterns: map[auth.Action][]string{}, Labels: map[string]string{}}
	if c.User != "" {
		if r.User, _ = claim(claims, c.User).(string); r.User == "" || len(r.User) > maxSubject {
			return nil, errors.New("jwtauth: the token does not name its owner")
		}
	}
	matched := false
	for i := range c.Rules {
		rule := &c.Rules[i]
		if !rule.matches(claims) {
			continue
		}
		matched = true
		for action, list := range rule.Patterns {
			for _, p := range list {
				if p, ok := fill(p, claims); ok {
					r.Patterns[action] = append(r.Patterns[action], p)
				}
			}
		}
		maps.Copy(r.Labels, rule.Labels)
		if rule.Role != "" {
			r.Patterns[auth.Admin] = []string{everything}
			r.Labels[roleLabel] = rule.Role
		}
		if rule.Limits != (auth.Limits{}) {
			r.Limits = rule.Limits
		}
	}
	if !matched {
		return nil, errors.New("jwtauth: no rule is about the token")
	}
	return r, nil
}

func (r *Rule) matches(claims map[string]any) bool {
	if r.Claim == "" {
		return true
	}
	switch v := claim(claims, r.Claim).(type) {
	case nil:
		return false
	case bool:
		return v && (r.Value == "" || r.Value == "true")
	case string:
		return r.Value == "" || v == r.Value || slices.Contains(strings.Fields(v), r.Value)
	case []any:
		return r.Value == "" || slices.Contains(v, any(r.Value))
	default:
		return r.Value == ""
	}
}

// claim returns the claim of a name, which may be a path with dots; nil if there
// is none.
func claim(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok { // some have dots, or are URLs
		return v
	}
	first, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil
	}
	inner, _ := claims[first].(map[string]any)
	return claim(inner, rest)
}

// fill puts claims into a pattern.
func fill(pattern string, claims map[string]any) (string, bool) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(pattern, "{")
		b.WriteString(before)
		if !ok {
			return b.String(), true
		}
		key, after, ok := strings.Cut(rest, "}")
		v, _ := claim(claims, key).(string)
		// It must not bring wildcards or segments of its own.
		if !ok || strings.Contains(v, "/") || name.Check(v) != nil {
			return "", false
		}
		b.WriteString(v)
		pattern = after
	}
}
