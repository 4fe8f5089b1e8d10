package users

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth"
)

// ErrInvalid is wrapped by errors that say what is wrong with a user.
var ErrInvalid = errors.New("users: not valid")

// A User is somebody, and what they may.
type User struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created,omitzero"`
	Grants
}

// Grants are what somebody may do: the streams, by patterns of auth.Match in
// which {user} is the name, and the role of the API.
type Grants struct {
	Publish  []string          `json:"publish,omitempty"`
	Play     []string          `json:"play,omitempty"`
	Role     access.Role       `json:"role,omitzero"` // of the API; 0: none
	Sessions int               `json:"sessions,omitempty"`
	BitRate  int64             `json:"bit_rate,omitempty"` // of one session, bits a second
	Labels   map[string]string `json:"labels,omitempty"`
}

// What Grants may have.
const (
	maxPatterns  = 1000
	maxPattern   = 256 // bytes
	maxLabels    = 32
	maxLabelName = 63  // bytes
	maxLabelText = 256 // bytes
)

// Check says what is wrong with them.
func (g *Grants) Check() error {
	switch {
	case g.Sessions < 0 || g.BitRate < 0:
		return fmt.Errorf("%w: a limit is below zero", ErrInvalid)
	case len(g.Publish) > maxPatterns || len(g.Play) > maxPatterns || len(g.Labels) > maxLabels:
		return fmt.Errorf("%w: at most %d patterns and %d labels", ErrInvalid, maxPatterns, maxLabels)
	case g.Role > access.Admin:
		return fmt.Errorf("%w: a role is viewer, operator or admin", ErrInvalid)
	}
	for _, list := range [][]string{g.Publish, g.Play} {
		for _, p := range list {
			if p == "" || len(p) > maxPattern {
				return fmt.Errorf("%w: a pattern has 1 to %d bytes", ErrInvalid, maxPattern)
			}
		}
	}
	for name, text := range g.Labels {
		switch {
		case name == access.RoleLabel:
			return fmt.Errorf("%w: a role is not a label: write it as role", ErrInvalid)
		case name == "" || len(name) > maxLabelName || len(text) > maxLabelText:
			return fmt.Errorf("%w: a label has a name of 1 to %d bytes, and up to %d", ErrInvalid, maxLabelName, maxLabelText)
		}
	}
	return nil
}

// Rights are those of a user as an Authorizer has them.
func (u *User) Rights() (auth.Rights, error) {
	if err := u.Check(); err != nil {
		return auth.Rights{}, err
	}
	r := auth.Rights{
		User: u.Name, Limits: auth.Limits{BitRate: u.BitRate, Sessions: u.Sessions}, Labels: maps.Clone(u.Labels),
		Patterns: map[auth.Action][]string{auth.Publish: filled(u.Publish, u.Name), auth.Play: filled(u.Play, u.Name)},
	}
	if u.Role != 0 {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[access.RoleLabel] = u.Role.String()
		r.Patterns[auth.Admin] = []string{"**"}
	}
	return r, nil
}

// filled puts a user's name into patterns, if it can be a part of one.
func filled(patterns []string, user string) (list []string) {
	for _, p := range patterns {
		if strings.Contains(p, "{user}") {
			if user == "" || strings.ContainsAny(user, "*/") {
				continue
			}
			p = strings.ReplaceAll(p, "{user}", user)
		}
		list = append(list, p)
	}
	return list
}
