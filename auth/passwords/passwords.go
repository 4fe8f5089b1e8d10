// Package passwords is an auth.Authorizer for users with passwords, of which
// only slow hashes are stored: in a file as htpasswd writes it, or wherever a
// function finds them, as those of auth/sqlauth and auth/redisauth do.
//
// Users and passwords come by HTTP basic authentication, in a stream id of SRT,
// or as user= and password= in a query (RTMP). They are the peers' words, in
// the clear: take TLS.
package passwords

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/runnel-media/runnel/auth"
)

// An Authorizer allows users who send their password what Rights says. A hash
// takes a tenth of a second of CPU time or so, which strangers can make it
// spend: so it works on as many at a time as there are CPUs and a half, those
// beyond wait, and right passwords are remembered for some minutes. Put an
// auth.Throttle before it.
//
// Its fields are set before it is used; it must not be copied after.
type Authorizer struct {
	// Hash returns the hash of a user's password, see Verify; "": there is no
	// such user. It may block until ctx ends.
	Hash func(ctx context.Context, user string) (string, error)
	// Rights returns what a user may do; nil: nothing. In place of "" as
	// Rights.User the user's name is taken.
	Rights func(user string) *auth.Rights

	once sync.Once
	work chan struct{} // as many as may compute hashes
	key  [sha256.Size]byte

	mu    sync.Mutex
	right map[[sha256.Size]byte]time.Time // passwords that were right, by remembered; when
}

const (
	maxUser     = 255
	rememberFor = 5 * time.Minute
	maxRight    = 10_000
)

func (a *Authorizer) init() {
	a.once.Do(func() {
		_, _ = rand.Read(a.key[:]) // never fails
		a.work = make(chan struct{}, (runtime.GOMAXPROCS(0)+1)/2)
	})
}

// Authorize implements auth.Authorizer. An error that is not auth.ErrDenied
// says that Hash failed, or that ctx ended before the password was checked.
func (a *Authorizer) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	switch {
	case r.User == "" || r.Password == "" || r.Proof != nil, a.Hash == nil || a.Rights == nil,
		len(r.User) > maxUser || !utf8.ValidString(r.User) || strings.ContainsRune(r.User, 0): // no database has it
		return nil, auth.ErrDenied
	}
	a.init()
	hash, err := a.Hash(ctx, r.User)
	if err != nil {
		return nil, err
	}
	known := hash != ""
	if !known {
		hash = nobody // so that names can't be told by the time it takes
	}
	ok, err := a.verify(ctx, hash, r.Password)
	if err != nil {
		return nil, err
	}
	if !ok || !known {
		return nil, fmt.Errorf("%w: wrong user or password", auth.ErrDenied)
	}
	rights := a.Rights(r.User)
	if rights == nil {
		return nil, auth.ErrDenied
	}
	if rights.User == "" {
		named := *rights
		named.User = r.User
		rights = &named
	}
	return rights.Grant(r, time.Time{})
}

// nobody is the hash of a password that nobody has.
const nobody = "$2a$10$xRp2JSTdBpFbQbJ4SsQ35eVvKZTolfwsUODkN7LhqJzu4JsPyb.a6"

func (a *Authorizer) verify(ctx context.Context, hash, password string) (bool, error) {
	id := a.remembered(hash, password)
	now := time.Now()
	a.mu.Lock()
	at, ok := a.right[id]
	a.mu.Unlock()
	if ok && now.Sub(at) < rememberFor {
		return true, nil
	}
	select {
	case a.work <- struct{}{}:
	case <-ctx.Done():
		return false, fmt.Errorf("passwords: %w", context.Cause(ctx))
	}
	ok, err := Verify(hash, password)
	<-a.work
	if ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.right == nil || len(a.right) >= maxRight {
			a.right = make(map[[sha256.Size]byte]time.Time)
		}
		a.right[id] = now
	}
	return ok, err
}

// remembered is how a right password is remembered: useless without the key,
// and of no use when the stored hash is another one.
func (a *Authorizer) remembered(hash, password string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, a.key[:])
	mac.Write([]byte(hash + "\x00" + password))
	return [sha256.Size]byte(mac.Sum(nil))
}

const (
	maxPassword = 72 // bytes; bcrypt does not look at more
	maxCost     = 15 // three seconds
)

// ErrHash is returned for a stored hash that is none that Verify knows.
var ErrHash = errors.New("passwords: not a bcrypt hash of a cost of 15 at most")

// Verify reports whether a password is that of a hash: bcrypt's, as "htpasswd
// -B" and Hash make them, beginning with $2a$, $2b$ or $2y$. Hashes that are
// quick to compute are not taken. It takes its time.
func Verify(hash, password string) (bool, error) {
	if err := Check(hash); err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		return false, nil
	}
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil, nil
}

// Check reports whether a hash is one that Verify knows.
func Check(hash string) error {
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > maxCost || len(hash) != 60 {
		return ErrHash
	}
	return nil
}

// Hash returns a hash for storing. Passwords have 1 to 72 bytes.
func Hash(password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("passwords: a password has 1 to %d bytes", maxPassword)
	}
	b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("passwords: %w", err)
	}
	return string(b), nil
}

// File is the content of a password file: hashes by user.
type File map[string]string

// ParseFile reads lines of "NAME:HASH", as htpasswd writes them. Empty lines and
// those that begin with # are left out. Errors name the line, and nothing of it.
func ParseFile(b []byte) (File, error) {
	f := File{}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		switch {
		case !ok || user == "" || len(user) > maxUser:
			return nil, fmt.Errorf("passwords: line %d is not NAME:HASH", n)
		case Check(hash) != nil:
			return nil, fmt.Errorf("line %d: %w", n, ErrHash)
		case f[user] != "":
			return nil, fmt.Errorf("passwords: line %d: the user was there already", n)
		}
		f[user] = hash
	}
	return f, nil
}

// Hash is for Authorizer.Hash.
func (f File) Hash(_ context.Context, user string) (string, error) { return f[user], nil }
