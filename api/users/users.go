// Package users keeps users with passwords while they come and go: an
// auth.Authorizer for publishers, players and callers of the API, whose list the
// API changes.
package users

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/runnel-media/runnel/api/internal/state"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/passwords"
)

// A Store holds users, with hashes of their passwords. Set its fields, and Load
// it if it has a file, before first use; all methods may be called from many
// goroutines at once. Put an auth.Throttle before it.
type Store struct {
	Path string // of the JSON file that keeps them, its directory being there; "": they are forgotten with the process
	Max  int    // how many there may be; 0: 1000

	setup sync.Once
	check passwords.Authorizer

	mu   sync.RWMutex
	list map[string]*entry // by name; entries never change
}

// An entry is how a user is stored.
type entry struct {
	User
	Hash string `json:"bcrypt"`

	rights auth.Rights
}

// Errors that callers branch on.
var (
	ErrFull     = errors.New("users: there are too many; delete some")
	ErrExists   = errors.New("users: there is one of that name")
	ErrNotFound = errors.New("users: there is none of that name")
)

// minPassword is how many bytes a password has at least; 72 is the most that
// bcrypt looks at.
const minPassword = 8

// Load reads the file, if there is one.
func (s *Store) Load() error {
	if s.Path == "" {
		return nil
	}
	var file struct {
		Users []*entry `json:"users"`
	}
	if err := state.Read(s.Path, &file); err != nil {
		return err
	}
	list := make(map[string]*entry)
	for i, e := range file.Users {
		if e == nil || list[e.Name] != nil {
			return fmt.Errorf("users: %s: number %d is none, or there twice", s.Path, i+1)
		}
		err := e.prepare()
		if err == nil {
			err = passwords.Check(e.Hash)
		}
		if err != nil {
			return fmt.Errorf("users: %s: number %d: %w", s.Path, i+1, err)
		}
		list[e.Name] = e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
	return nil
}

func (e *entry) prepare() (err error) {
	if err = CheckName(e.Name); err == nil {
		e.rights, err = e.Rights()
	}
	return err
}

// List returns the users by name. What is in them must not be changed.
func (s *Store) List() []User {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]User, 0, len(s.list))
	for _, name := range slices.Sorted(maps.Keys(s.list)) {
		list = append(list, s.list[name].User)
	}
	return list
}

// Callers reports whether any user may call the API.
func (s *Store) Callers() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.list {
		if e.Role != 0 {
			return true
		}
	}
	return false
}

// Add stores a new user. It takes a tenth of a second, for the hash.
func (s *Store) Add(u User, password string) (User, error) {
	hash, err := hashed(password)
	if err != nil {
		return u, err
	}
	u.Created = time.Now().UTC().Truncate(time.Second)
	e := &entry{User: u, Hash: hash}
	if err := e.prepare(); err != nil {
		return u, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.list[u.Name] != nil:
		return u, ErrExists
	case len(s.list) >= cmp.Or(s.Max, 1000):
		return u, ErrFull
	}
	return u, s.keep(u.Name, e)
}

// Change replaces what a user is and may, and the password unless it is "".
func (s *Store) Change(u User, password string) (User, error) {
	e := &entry{User: u}
	var err error
	if password != "" {
		if e.Hash, err = hashed(password); err != nil {
			return u, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.list[u.Name]
	if old == nil {
		return u, ErrNotFound
	}
	e.Created = old.Created
	e.Hash = cmp.Or(e.Hash, old.Hash)
	if err := e.prepare(); err != nil {
		return u, err
	}
	return e.User, s.keep(u.Name, e)
}

// Delete takes a user away. Sessions go on until they are asked about again.
func (s *Store) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list[name] == nil {
		return ErrNotFound
	}
	return s.keep(name, nil)
}

// keep puts e, or nothing, in the place of a name, once that is stored; mu is
// held.
func (s *Store) keep(name string, e *entry) error {
	next := maps.Clone(s.list)
	if next == nil {
		next = make(map[string]*entry)
	}
	next[name] = e
	if e == nil {
		delete(next, name)
	}
	if s.Path != "" {
		all := make([]*entry, 0, len(next))
		for _, name := range slices.Sorted(maps.Keys(next)) {
			all = append(all, next[name])
		}
		if err := state.Write(s.Path, map[string][]*entry{"users": all}); err != nil {
			return err
		}
	}
	s.list = next
	return nil
}

func (s *Store) get(name string) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list[name]
}

// Authorize implements auth.Authorizer: it allows users who send their password
// what they may. See passwords.Authorizer, which does the work.
func (s *Store) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	s.mu.RLock()
	none := len(s.list) == 0
	s.mu.RUnlock()
	if none {
		return nil, auth.ErrDenied // without a hash's work
	}
	s.setup.Do(func() {
		s.check.Hash = func(_ context.Context, user string) (string, error) {
			if e := s.get(user); e != nil {
				return e.Hash, nil
			}
			return "", nil
		}
		s.check.Rights = func(user string) *auth.Rights {
			if e := s.get(user); e != nil {
				return &e.rights
			}
			return nil
		}
	})
	return s.check.Authorize(ctx, r)
}

func hashed(password string) (string, error) {
	if len(password) < minPassword || len(password) > 72 {
		return "", fmt.Errorf("%w: a password has %d to 72 bytes", ErrInvalid, minPassword)
	}
	return passwords.Hash(password)
}

// CheckName says what is wrong with a user's name. It is a part of one segment
// of streams' names, and of one word of HTTP basic authentication.
func CheckName(name string) error {
	if name == "" || len(name) > 100 || !utf8.ValidString(name) || strings.ContainsAny(name, "/:*") || name == "." || name == ".." ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%w: a name is 1 to 100 printable characters without / : *", ErrInvalid)
	}
	return nil
}
