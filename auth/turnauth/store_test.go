package turnauth_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

func TestStored(t *testing.T) {
	store := newFake()
	store.users[[2]string{"r", "alice"}] = auth.Secret{Key: turnauth.Key("alice", "r", "p")}
	store.users[[2]string{"r", "empty"}] = auth.Secret{}
	store.secrets["r"] = []string{"s1", "s2"}
	store.keys["kid"] = &turnauth.OAuthKey{ID: "kid", Secret: make([]byte, 32)}
	a := &turnauth.Stored{Store: &turnauth.Cache{Store: store}}

	requireUser(t, a, (&client{user: "alice", realm: "r", password: "p"}).request(t), "alice")
	requireDenied(t, a, (&client{user: "alice", realm: "r", password: "q"}).request(t))
	requireDenied(t, a, (&client{user: "alice", realm: "q", password: "p"}).request(t))
	requireDenied(t, a, (&client{user: "empty", realm: "r", key: []byte{}}).request(t))
	requireDenied(t, a, (&client{user: "alice", password: "p", short: true}).request(t))

	name, password := turnauth.Credentials("s2", "bob", time.Now().Add(time.Hour))
	requireUser(t, a, (&client{user: name, realm: "r", password: password}).request(t), "bob")
	requireDenied(t, a, (&client{user: name, realm: "q", password: password}).request(t))

	macKey := make([]byte, 20)
	sealed, err := store.keys["kid"].Seal(&turnauth.Token{MACKey: macKey, Issued: time.Now(), Lifetime: time.Hour}, "r")
	require.NoError(t, err)
	requireUser(t, a, (&client{user: "kid", realm: "r", key: macKey, token: string(sealed)}).request(t), "kid")
	requireDenied(t, a, (&client{user: "alice", realm: "r", password: "p", token: "x"}).request(t)) // a token alone counts

	hash := (&client{user: "alice", realm: "r", password: "p"}).request(t)
	hash.User, hash.UserHash = "", hashed("alice", "r")
	requireUser(t, a, hash, "alice")
	hash.UserHash = hashed("mallory", "r")
	requireDenied(t, a, hash)
	requireDenied(t, &turnauth.Stored{Store: store}, hash) // without a Cache nobody is known by hash
	requireDenied(t, &turnauth.Stored{}, hash)

	// What no database can hold is not asked for.
	before := store.asked.Load()
	for _, user := range []string{"", "a\x00b", "\xff\xfe", strings.Repeat("a", 513)} {
		requireDenied(t, a, (&client{user: user, realm: "r", password: "p"}).request(t))
		requireDenied(t, a, (&client{user: "alice", realm: user, password: "p"}).request(t))
	}
	require.Equal(t, before, store.asked.Load())

	store.err = errors.New("down")
	_, err = a.Authorize(t.Context(), (&client{user: "carol", realm: "r", password: "p"}).request(t))
	require.ErrorIs(t, err, store.err)
	requireUser(t, a, (&client{user: "alice", realm: "r", password: "p"}).request(t), "alice")
}

func TestCacheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFake()
		c := &turnauth.Cache{Store: store, Keep: time.Minute, KeepUnknown: 10 * time.Second}
		alice := auth.Secret{Key: make([]byte, 16)}
		ctx := t.Context()
		asked := func(want int64) {
			t.Helper()
			require.Equal(t, want, store.asked.Load())
		}
		_, err := c.UserKey(ctx, "r", "alice")
		require.ErrorIs(t, err, turnauth.ErrUnknown)
		store.users[[2]string{"r", "alice"}] = alice
		time.Sleep(9 * time.Second)
		_, err = c.UserKey(ctx, "r", "alice")
		require.ErrorIs(t, err, turnauth.ErrUnknown)
		asked(1)
		time.Sleep(time.Second)
		for range 5 {
			s, err := c.UserKey(ctx, "r", "alice")
			require.NoError(t, err)
			require.Equal(t, alice, s)
		}
		asked(2)

		// A store that is down: what is kept counts, until its time is over.
		store.err = errors.New("down")
		time.Sleep(59 * time.Second)
		_, err = c.UserKey(ctx, "r", "alice")
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = c.UserKey(ctx, "r", "alice")
		require.ErrorIs(t, err, store.err)
		_, err = c.UserKey(ctx, "r", "alice")
		require.ErrorIs(t, err, store.err)
		asked(4) // failures are not kept
		store.err = nil
		_, err = c.UserKey(ctx, "r", "alice")
		require.NoError(t, err)

		delete(store.users, [2]string{"r", "alice"})
		c.Flush()
		_, err = c.UserKey(ctx, "r", "alice")
		require.ErrorIs(t, err, turnauth.ErrUnknown)
	})
}

func TestCacheKinds(t *testing.T) {
	store := newFake()
	store.secrets["r"] = []string{"s"}
	store.keys["k"] = &turnauth.OAuthKey{ID: "k"}
	store.realms["http://o:80"] = "r"
	store.options["r"] = auth.RealmOptions{UserQuota: 3}
	rule, err := auth.ParseIPRange("192.0.2.0/24")
	require.NoError(t, err)
	store.peers["r"] = auth.PeerRules{Deny: []auth.IPRange{rule}}
	c := &turnauth.Cache{Store: store}
	ctx := t.Context()
	for range 3 {
		secrets, err := c.Secrets(ctx, "r")
		require.NoError(t, err)
		require.Equal(t, []string{"s"}, secrets)
		none, err := c.Secrets(ctx, "q")
		require.NoError(t, err)
		require.Empty(t, none)
		key, err := c.OAuthKey(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "k", key.ID)
		realm, err := c.RealmOf(ctx, "http://o:80")
		require.NoError(t, err)
		require.Equal(t, "r", realm)
		realm, err = c.RealmOf(ctx, "http://p:80")
		require.NoError(t, err)
		require.Empty(t, realm)
		options, err := c.RealmOptions(ctx, "r")
		require.NoError(t, err)
		require.Equal(t, 3, options.UserQuota)
		peers, err := c.PeerRules(ctx, "r")
		require.NoError(t, err)
		require.Equal(t, []auth.IPRange{rule}, peers.Deny)
	}
	require.EqualValues(t, 7, store.asked.Load())
}

func TestCacheAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFake()
		store.delay = time.Second
		store.users[[2]string{"r", "alice"}] = auth.Secret{Plain: "p"}
		c := &turnauth.Cache{Store: store}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i == 0 { // who asked first goes; the others have their answer all the same
					time.AfterFunc(500*time.Millisecond, cancel)
				} else {
					time.Sleep(time.Millisecond)
				}
				_, err := c.UserKey(ctx, "r", "alice")
				require.Equal(t, i == 0, err != nil)
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, store.asked.Load())

		// A store that does not answer: the timeout ends it.
		store.delay = time.Hour
		began := time.Now()
		_, err := c.UserKey(t.Context(), "r", "bob")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, turnauth.DefaultTimeout, time.Since(began))

		// Questions at a time are bounded.
		for i := range 256 {
			go func() { _, _ = c.UserKey(context.Background(), "r", fmt.Sprint("user", i)) }()
		}
		synctest.Wait()
		_, err = c.UserKey(t.Context(), "r", "one more")
		require.ErrorContains(t, err, "too many")
		time.Sleep(turnauth.DefaultTimeout)
		synctest.Wait() // for those whose time is over at this moment too
		store.delay = 0
		_, err = c.UserKey(t.Context(), "r", "one more")
		require.ErrorIs(t, err, turnauth.ErrUnknown)
	})
}

// TestCacheFlushWhileAsking: an answer of before the Flush is not kept.
func TestCacheFlushWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFake()
		store.delay = time.Second
		store.users[[2]string{"r", "alice"}] = auth.Secret{Plain: "p"}
		c := &turnauth.Cache{Store: store}
		go func() { _, _ = c.UserKey(context.Background(), "r", "alice") }()
		synctest.Wait()
		c.Flush()
		_, err := c.UserKey(t.Context(), "r", "alice")
		require.NoError(t, err)
		require.EqualValues(t, 2, store.asked.Load())
	})
}

// TestCacheBounded: a flood of unknown names takes no more memory, and no
// known name out of the cache.
func TestCacheBounded(t *testing.T) {
	store := newFake()
	store.users[[2]string{"r", "alice"}] = auth.Secret{Plain: "p"}
	c := &turnauth.Cache{Store: store, Entries: 100, Keep: time.Hour, KeepUnknown: time.Hour}
	_, err := c.UserKey(t.Context(), "r", "alice")
	require.NoError(t, err)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	pad := strings.Repeat("x", 400)
	for i := range 20_000 {
		_, _ = c.UserKey(t.Context(), "r", fmt.Sprint(pad, i))
	}
	require.Less(t, int64(heap())-int64(before), int64(2<<20), "20,000 names of 400 bytes would be 8 MB")
	asked := store.asked.Load()
	_, err = c.UserKey(t.Context(), "r", "alice")
	require.NoError(t, err)
	require.Equal(t, asked, store.asked.Load())

	// Known ones are bounded as well; what is used stays.
	for i := range 1000 {
		store.users[[2]string{"r", fmt.Sprint("u", i)}] = auth.Secret{Plain: "p"}
		_, err := c.UserKey(t.Context(), "r", fmt.Sprint("u", i))
		require.NoError(t, err)
		_, err = c.UserKey(t.Context(), "r", "alice")
		require.NoError(t, err)
	}
	require.Equal(t, asked+1000, store.asked.Load())
	_, err = c.UserKey(t.Context(), "r", "u1")
	require.NoError(t, err)
	require.Equal(t, asked+1001, store.asked.Load())
}

func BenchmarkStored(b *testing.B) {
	store := newFake()
	store.users[[2]string{"r", "alice"}] = auth.Secret{Key: turnauth.Key("alice", "r", "p")}
	a := &turnauth.Stored{Store: &turnauth.Cache{Store: store}}
	r := (&client{user: "alice", realm: "r", password: "p"}).request(b)
	r.Proof = func(auth.Secret) bool { return true }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authorize(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}
