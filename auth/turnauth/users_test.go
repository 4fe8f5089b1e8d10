package turnauth_test

import (
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// The keys are those of coturn's documentation and of RFC 8489 Appendix B.1's
// way to make them.
func TestKey(t *testing.T) {
	require.Equal(t, "7da2270ccfa49786e0115366d3a3d14d", hex.EncodeToString(turnauth.Key("gorst", "north.gov", "hero")))
	require.Equal(t, "bc807ee29df3c9ffa736523fb2c4e8ee", hex.EncodeToString(turnauth.Key("ninefingers", "north.gov", "youhavetoberealistic")))
	require.Equal(t, turnauth.Key("u", "r", "a\u0301 b"), turnauth.Key("u", "r", "\u00e1\u00a0b"), "OpaqueString")

	s, err := turnauth.ParseKey("0x7da2270ccfa49786e0115366d3a3d14d")
	require.NoError(t, err)
	require.Equal(t, auth.Secret{Key: turnauth.Key("gorst", "north.gov", "hero")}, s)
	s, err = turnauth.ParseKey(hex.EncodeToString(turnauth.KeySHA256("a", "b", "c")) + strings.Repeat(" ", 64))
	require.NoError(t, err)
	require.Equal(t, auth.Secret{KeySHA256: turnauth.KeySHA256("a", "b", "c")}, s)
	for _, bad := range []string{"", "0x", "7da2", "zda2270ccfa49786e0115366d3a3d14d", "7da2270ccfa49786e0115366d3a3d14d00"} {
		_, err := turnauth.ParseKey(bad)
		require.Error(t, err, bad)
		if bad != "" && bad != "0x" {
			require.NotContains(t, err.Error(), bad)
		}
	}
}

func TestUsers(t *testing.T) {
	var users turnauth.Users
	requireDenied(t, &users, (&client{user: "alice", realm: "a.example", password: "wonder"}).request(t))
	require.NoError(t, users.Put(
		turnauth.User{Name: "alice", Realm: "a.example", Password: "wonder", Limits: auth.Limits{Sessions: 2}},
		turnauth.User{Name: "alice", Realm: "b.example", Key: turnauth.Key("alice", "b.example", "land")},
		turnauth.User{Name: "bob", Password: "builder"},
		turnauth.User{Name: "bob", Realm: "b.example", Password: "special"},
		turnauth.User{Name: "carol", Realm: "a.example", KeySHA256: turnauth.KeySHA256("carol", "a.example", "sha")},
		turnauth.User{Name: "alice", ShortTerm: true, Password: "brief"},
	))
	for name, c := range map[string]struct {
		client  client
		allowed bool
	}{
		"password":                       {client{user: "alice", realm: "a.example", password: "wonder"}, true},
		"wrong password":                 {client{user: "alice", realm: "a.example", password: "land"}, false},
		"key":                            {client{user: "alice", realm: "b.example", password: "land"}, true},
		"another realm":                  {client{user: "alice", realm: "c.example", password: "wonder"}, false},
		"of every realm":                 {client{user: "bob", realm: "c.example", password: "builder"}, true},
		"the realm's own comes first":    {client{user: "bob", realm: "b.example", password: "special"}, true},
		"and hides that of every realm":  {client{user: "bob", realm: "b.example", password: "builder"}, false},
		"by SHA-256 with a password":     {client{user: "alice", realm: "a.example", password: "wonder", sha256: true}, true},
		"by SHA-256 with such a key":     {client{user: "carol", realm: "a.example", password: "sha", sha256: true}, true},
		"by SHA-256 with the other key":  {client{user: "alice", realm: "b.example", password: "land", sha256: true}, false},
		"by MD5 with a SHA-256 key":      {client{user: "carol", realm: "a.example", password: "sha"}, false},
		"unknown":                        {client{user: "mallory", realm: "a.example", password: "wonder"}, false},
		"nobody":                         {client{realm: "a.example", password: "wonder"}, false},
		"case counts":                    {client{user: "Alice", realm: "a.example", password: "wonder"}, false},
		"short-term":                     {client{user: "alice", password: "brief", short: true}, true},
		"short-term with the long one's": {client{user: "alice", password: "wonder", short: true}, false},
		"long-term with the short one's": {client{user: "alice", realm: "a.example", password: "brief"}, false},
		"short-term of a long-term user": {client{user: "bob", password: "builder", short: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !c.allowed {
				requireDenied(t, &users, c.client.request(t))
				return
			}
			requireUser(t, &users, c.client.request(t), c.client.user)
		})
	}
	g := requireUser(t, &users, (&client{user: "alice", realm: "a.example", password: "wonder"}).request(t), "alice")
	require.Equal(t, 2, g.Limits.Sessions)
}

func TestUsersByHash(t *testing.T) {
	var users turnauth.Users
	require.NoError(t, users.Put(
		turnauth.User{Name: "alice", Realm: "a.example", Password: "wonder"},
		turnauth.User{Name: "bob", Password: "builder"},
	))
	by := func(user, realm, password string) *auth.Request {
		r := (&client{user: user, realm: realm, password: password}).request(t)
		r.User, r.UserHash = "", hashed(user, realm)
		return r
	}
	requireUser(t, &users, by("alice", "a.example", "wonder"), "alice")
	requireUser(t, &users, by("bob", "b.example", "builder"), "bob")
	requireDenied(t, &users, by("bob", "b.example", "wonder"))
	requireDenied(t, &users, by("mallory", "a.example", "wonder"))
	short := by("alice", "a.example", "wonder")
	short.UserHash = short.UserHash[:31]
	requireDenied(t, &users, short)

	require.NoError(t, users.Put(turnauth.User{Name: "carol", Realm: "a.example", Password: "new"}))
	requireUser(t, &users, by("carol", "a.example", "new"), "carol")
	for i := range 40 { // more realms than are remembered
		requireUser(t, &users, by("bob", strings.Repeat("x", i+1), "builder"), "bob")
	}
}

func TestUsersChange(t *testing.T) {
	var users turnauth.Users
	alice := (&client{user: "alice", realm: "r", password: "one"}).request(t)
	key := turnauth.Key("alice", "r", "one")
	require.NoError(t, users.Put(turnauth.User{Name: "alice", Realm: "r", Key: key}))
	clear(key) // the caller's again
	requireUser(t, &users, alice, "alice")

	require.Error(t, users.Put(turnauth.User{Name: "alice", Realm: "r", Password: "two"}, turnauth.User{Name: "bad"}))
	requireUser(t, &users, alice, "alice")
	require.NoError(t, users.Replace(turnauth.User{Name: "bob", Realm: "r", Password: "b"}, turnauth.User{Name: "alice", Realm: "q", Password: "b"}))
	requireDenied(t, &users, alice)
	var names []string
	for _, u := range users.List() {
		names = append(names, u.Realm+"/"+u.Name)
	}
	require.Equal(t, []string{"q/alice", "r/bob"}, names)
	require.True(t, users.Remove("r", "bob"))
	require.False(t, users.Remove("r", "bob"))
	require.NoError(t, users.Replace())
	require.Empty(t, users.List())

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			alice := (&client{user: "alice", realm: "r", password: "one"}).request(t)
			for range 100 {
				_ = users.Put(turnauth.User{Name: "alice", Realm: "r", Password: "one"})
				_, _ = users.Authorize(t.Context(), alice)
				users.Remove("r", "alice")
			}
		})
	}
	wg.Wait()
}

func TestUserCheck(t *testing.T) {
	var users turnauth.Users
	for name, u := range map[string]turnauth.User{
		"no name":                     {Password: "x"},
		"a name too long":             {Name: strings.Repeat("a", 513), Password: "x"},
		"nothing to prove":            {Name: "a", Realm: "r"},
		"a key without its realm":     {Name: "a", Key: make([]byte, 16)},
		"a key of another size":       {Name: "a", Realm: "r", Key: make([]byte, 20)},
		"a short-term key":            {Name: "a", ShortTerm: true, Key: make([]byte, 16)},
		"short-term with a realm":     {Name: "a", Realm: "r", ShortTerm: true, Password: "x"},
		"a SHA-256 key of MD5's size": {Name: "a", Realm: "r", KeySHA256: make([]byte, 16)},
	} {
		require.Error(t, users.Put(u), name)
	}
}

// TestRelayOnly: what proves a TURN client opens nothing else.
func TestRelayOnly(t *testing.T) {
	var users turnauth.Users
	require.NoError(t, users.Put(turnauth.User{Name: "alice", Realm: "r", Password: "p"}))
	for name, a := range map[string]auth.Authorizer{
		"Users":   &users,
		"Secrets": &turnauth.Secrets{List: turnauth.Static("p")},
		"OAuth":   &turnauth.OAuth{},
		"Stored":  &turnauth.Stored{Store: &turnauth.Cache{Store: newFake()}},
	} {
		for _, action := range []auth.Action{auth.Publish, auth.Play, auth.Admin, ""} {
			r := (&client{user: "alice", realm: "r", password: "p"}).request(t)
			r.Action = action
			requireDenied(t, a, r)
		}
		r := (&client{user: "alice", realm: "r", password: "p"}).request(t)
		r.Proof, r.Password = nil, "p"
		t.Run(name, func(t *testing.T) { requireDenied(t, a, r) })
	}
}
