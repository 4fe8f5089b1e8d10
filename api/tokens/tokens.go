// Package tokens keeps the tokens of a control plane while they come and go: an
// auth.Authorizer for an access.Gate, whose list the API changes.
package tokens

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/state"
	"github.com/runnel-media/runnel/auth"
)

// A Store holds tokens, of which only hashes are kept. Set its fields, and Load
// it if it has a file, before first use; all methods may be called from many
// goroutines at once.
type Store struct {
	Path string // of the JSON file that keeps them, its directory being there; "": they are forgotten with the process
	Max  int    // how many there may be; 0: 1000

	mu   sync.RWMutex
	list []token // in the order of their making
}

// An Info is what there is to know of a token.
type Info struct {
	ID      string // not secret
	User    string
	Role    access.Role
	Created time.Time
	Expires time.Time // zero: never
}

// A token is how it is stored.
type token struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Role    string    `json:"role"`
	Hash    string    `json:"sha256"` // of the secret
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`

	checked access.Token
}

// Errors that callers branch on.
var (
	ErrFull = errors.New("tokens: there are too many; revoke some")
	ErrUser = errors.New("tokens: a user's name is 1 to 100 printable characters")
	ErrRole = errors.New("tokens: a role is viewer, operator or admin")
)

// Load reads the file, if there is one.
func (s *Store) Load() error {
	if s.Path == "" {
		return nil
	}
	var file struct {
		Tokens []token `json:"tokens"`
	}
	if err := state.Read(s.Path, &file); err != nil {
		return err
	}
	for i := range file.Tokens {
		if err := file.Tokens[i].prepare(); err != nil {
			return fmt.Errorf("tokens: %s: token %q: %w", s.Path, file.Tokens[i].ID, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = file.Tokens
	return nil
}

func (t *token) prepare() error {
	role, err := access.ParseRole(t.Role)
	if err != nil {
		return err
	}
	hash, err := hex.DecodeString(t.Hash)
	if err != nil || len(hash) != sha256.Size {
		return errors.New("sha256 is 64 hexadecimal digits")
	}
	t.checked = access.Token{User: t.User, Role: role, Hash: [sha256.Size]byte(hash), Expires: t.Expires}
	return nil
}

func (t *token) info() Info {
	return Info{t.ID, t.User, t.checked.Role, t.Created, t.Expires}
}

// Len returns how many tokens there are, those that have expired included.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.list)
}

// Empty reports whether there are no tokens: an access.Gate is closed then to
// all but this machine.
func (s *Store) Empty() bool { return s.Len() == 0 }

// List returns the tokens, the oldest first.
func (s *Store) List() []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Info, len(s.list))
	for i := range s.list {
		list[i] = s.list[i].info()
	}
	return list
}

// Add makes a token for a user, and returns the secret that its bearer sends.
// It cannot be had again. A zero expires is never.
func (s *Store) Add(user string, role access.Role, expires time.Time) (Info, string, error) {
	if user == "" || len(user) > 100 || !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return Info{}, "", ErrUser
	}
	if role < access.Viewer || role > access.Admin {
		return Info{}, "", ErrRole
	}
	secret := "runnel_" + rand.Text()
	hash := sha256.Sum256([]byte(secret))
	t := token{
		ID: strings.ToLower(rand.Text()[:12]), User: user, Role: role.String(), Hash: hex.EncodeToString(hash[:]),
		Created: time.Now().UTC().Truncate(time.Second),
	}
	if !expires.IsZero() {
		t.Expires = expires.UTC()
	}
	if err := t.prepare(); err != nil {
		return Info{}, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) >= cmp.Or(s.Max, 1000) {
		return Info{}, "", ErrFull
	}
	if err := s.keep(append(slices.Clone(s.list), t)); err != nil {
		return Info{}, "", err
	}
	return t.info(), secret, nil
}

// Revoke makes the tokens worthless of which which reports true, and returns
// how many those were.
func (s *Store) Revoke(which func(Info) bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(s.list), func(t token) bool { return which(t.info()) })
	n := len(s.list) - len(left)
	if n == 0 {
		return 0, nil
	}
	return n, s.keep(left)
}

// keep makes a list the one in force, once it is stored; mu is held.
func (s *Store) keep(list []token) error {
	if s.Path != "" {
		if err := state.Write(s.Path, map[string][]token{"tokens": list}); err != nil {
			return err
		}
	}
	s.list = list
	return nil
}

// Authorize implements auth.Authorizer, for auth.Admin alone.
func (s *Store) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	s.mu.RLock()
	list := make(access.Tokens, len(s.list))
	for i := range s.list {
		list[i] = s.list[i].checked
	}
	s.mu.RUnlock()
	return list.Authorize(ctx, r)
}
