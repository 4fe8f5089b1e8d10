package turnauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/runnel-media/runnel/auth"
)

// A User is one name with what proves it.
type User struct {
	Name  string
	Realm string // "": every realm; then it takes a Password
	// ShortTerm credentials (RFC 8489 Section 9.1) have no realm. They are
	// apart from the long-term ones: the same name may have both.
	ShortTerm bool

	Password  string // or a key that was made of it
	Key       []byte // see Key
	KeySHA256 []byte // see KeySHA256

	Limits auth.Limits // for the Grant
}

func (u *User) check() error {
	bound := len(u.Key) > 0 || len(u.KeySHA256) > 0
	switch {
	case u.Name == "" || len(u.Name) > maxName:
		return fmt.Errorf("turnauth: a user's name has 1 to %d bytes, not %d", maxName, len(u.Name))
	case u.Password == "" && !bound:
		return fmt.Errorf("turnauth: user %q has neither password nor key", u.Name)
	case bound && u.Realm == "":
		return fmt.Errorf("turnauth: user %q has a key, which is bound to a realm, and no realm", u.Name)
	case bound && u.ShortTerm, u.Realm != "" && u.ShortTerm:
		return fmt.Errorf("turnauth: user %q has a realm or key, but short-term credentials have none", u.Name)
	case len(u.Key) > 0 && len(u.Key) != 16, len(u.KeySHA256) > 0 && len(u.KeySHA256) != sha256.Size:
		return fmt.Errorf("turnauth: user %q has a key of another size", u.Name)
	}
	return nil
}

// Users authorizes the users that were put into it. They may change at any
// time, by any goroutine; sessions that are there stay. The zero Users knows
// nobody.
type Users struct {
	mu    sync.RWMutex
	users map[userID]User
	// hashes of the users of a realm, made when a request first asks by hash.
	hashes map[string]map[[sha256.Size]byte]userID
}

type userID struct {
	realm, name string
	short       bool
}

func (u *User) id() userID { return userID{u.Realm, u.Name, u.ShortTerm} }

// hashedRealms is for how many realms Users keeps the names by their hashes.
const hashedRealms = 16

// Put adds users, in place of those of the same name and realm. After an
// error nothing has changed.
func (u *Users) Put(users ...User) error {
	return u.change(false, users)
}

// Replace makes these the only users. After an error nothing has changed.
func (u *Users) Replace(users ...User) error {
	return u.change(true, users)
}

func (u *Users) change(all bool, users []User) error {
	var errs []error
	for i := range users {
		errs = append(errs, users[i].check())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if all || u.users == nil {
		u.users = make(map[userID]User, len(users))
	}
	for _, v := range users {
		v.Key, v.KeySHA256 = slices.Clone(v.Key), slices.Clone(v.KeySHA256)
		u.users[v.id()] = v
	}
	u.hashes = nil
	return nil
}

// Remove removes the users of a name in a realm, and reports whether there
// was one.
func (u *Users) Remove(realm, name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := len(u.users)
	delete(u.users, userID{realm, name, false})
	if realm == "" {
		delete(u.users, userID{"", name, true})
	}
	u.hashes = nil
	return len(u.users) < before
}

// List returns the users, by realm and name. Their keys must not be changed.
func (u *Users) List() []User {
	u.mu.RLock()
	defer u.mu.RUnlock()
	list := make([]User, 0, len(u.users))
	for _, v := range u.users {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b User) int {
		return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Authorize allows a user who proves his password. A request without a realm
// is one of short-term credentials.
func (u *Users) Authorize(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action != auth.Relay || r.Proof == nil || r.Token != "" {
		return nil, auth.ErrDenied
	}
	user, ok := u.find(r)
	if !ok || !r.Proof(auth.Secret{Plain: user.Password, Key: user.Key, KeySHA256: user.KeySHA256}) {
		return nil, auth.ErrDenied
	}
	return &auth.Grant{User: user.Name, Limits: user.Limits}, nil
}

func (u *Users) find(r *auth.Request) (User, bool) {
	if len(r.UserHash) > 0 && r.Realm != "" {
		return u.byHash(r.Realm, r.UserHash)
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	if r.Realm == "" {
		v, ok := u.users[userID{"", r.User, true}]
		return v, ok
	}
	v, ok := u.users[userID{r.Realm, r.User, false}]
	if !ok {
		v, ok = u.users[userID{"", r.User, false}]
	}
	return v, ok
}

func (u *Users) byHash(realm string, hash []byte) (User, bool) {
	if len(hash) != sha256.Size {
		return User{}, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	names, ok := u.hashes[realm]
	if !ok {
		names = make(map[[sha256.Size]byte]userID)
		for id := range u.users {
			if id.short || id.realm != realm && id.realm != "" {
				continue
			}
			h := hashOf(id.name, realm)
			if _, ok := names[h]; !ok || id.realm == realm { // the realm's own comes first
				names[h] = id
			}
		}
		if u.hashes == nil || len(u.hashes) >= hashedRealms {
			u.hashes = make(map[string]map[[sha256.Size]byte]userID)
		}
		u.hashes[realm] = names
	}
	id, ok := names[[sha256.Size]byte(hash)]
	return u.users[id], ok
}
