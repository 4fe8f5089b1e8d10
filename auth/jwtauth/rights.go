package jwtauth

import (
	"errors"
	"fmt"
	"math"

	"github.com/runnel-media/runnel/auth"
)

// Rights are what a token allows. User, if empty, is the claim "sub".
type Rights = auth.Rights

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

// Match is auth.Match.
func Match(pattern, name string) bool { return auth.Match(pattern, name) }
