package jwtauth

import (
	"errors"
	"fmt"
	"math"

	"github.com/runnel-media/runnel/auth"
)

// Rights are what a token allows.
type Rights struct {
	// User is who it is; "": the claim "sub".
	User string
	// Patterns say of each action for which streams it is allowed: hub keys, or
	// realms of auth.Relay. Actions that are not about either want "**".
	Patterns map[auth.Action][]string
	Limits   auth.Limits
	Labels   map[string]string
}

// everything is the pattern that matches it.
const everything = "**"

const (
	maxPatterns = 256
	maxPattern  = 256 // bytes
	maxSubject  = 1024
)

// readRights reads the claim that doc.go describes.
func readRights(claim any) (*Rights, error) {
	fields, ok := claim.(map[string]any)
	if !ok {
		return nil, errors.New("jwtauth: the token has no claim of rights")
	}
	r := &Rights{Patterns: map[auth.Action][]string{}}
	for name, value := range fields {
		var err error
		switch name {
		case "bit_rate":
			r.Limits.BitRate, err = limit(value)
		case "sessions":
			var n int64
			n, err = limit(value)
			r.Limits.Sessions = int(min(n, math.MaxInt32))
		default:
			r.Patterns[auth.Action(name)], err = patterns(value)
		}
		if err != nil {
			return nil, fmt.Errorf("jwtauth: %.40q of the token's rights: %w", name, err)
		}
	}
	return r, nil
}

func limit(v any) (int64, error) {
	n, ok := v.(float64)
	if !ok || n < 0 || n > 1<<53 || n != math.Trunc(n) {
		return 0, errors.New("not a whole number")
	}
	return int64(n), nil
}

func patterns(v any) ([]string, error) {
	switch v := v.(type) {
	case bool:
		if v {
			return []string{everything}, nil
		}
		return nil, nil
	case []any:
		if len(v) > maxPatterns {
			return nil, errors.New("too many patterns")
		}
		var list []string
		for _, p := range v {
			s, ok := p.(string)
			if !ok || len(s) > maxPattern {
				return nil, errors.New("not a pattern")
			}
			list = append(list, s)
		}
		return list, nil
	}
	return nil, errors.New("neither true, false nor patterns")
}

// allow reports whether the rights cover a request.
func (r *Rights) allow(req *auth.Request) bool {
	about := req.Stream
	if req.Action == auth.Relay {
		about = req.Realm
	}
	for _, p := range r.Patterns[req.Action] {
		if p == everything || len(p) <= maxPattern && about != "" && Match(p, about) {
			return true
		}
	}
	return false
}

// Match reports whether a pattern matches a name. In a pattern * stands for
// any characters but "/", ** for any. It takes time in proportion to the
// product of the two lengths, whatever the pattern.
func Match(pattern, name string) bool {
	// reach[j]: what was read of the pattern matches name[:j].
	reach := make([]bool, len(name)+1)
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
