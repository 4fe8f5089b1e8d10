package redisauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/internal/conninfo"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// A DB is a Redis database with coturn's keys. It is a turnauth.Store and a
// turnauth.Editor. Its methods may be called from many goroutines at once.
type DB struct {
	Client redis.UniversalClient
	// Hosts are the servers as "host:port", for a peer policy that keeps
	// clients off them; none if it is a socket.
	Hosts []string
}

var (
	_ turnauth.Editor = (*DB)(nil)
	_ turnauth.Names  = (*DB)(nil)
)

// Open prepares to use a database, without connecting yet. The name is a URL,
// "redis://user:password@host:6379/2" or rediss:// for TLS, or coturn's
// "ip=… dbname=2 password=… port=…". Errors don't hold the password.
func Open(dsn string) (*DB, error) {
	o, err := options(dsn)
	if err != nil {
		return nil, fmt.Errorf("redisauth: %w", err)
	}
	o.ContextTimeoutEnabled = true
	o.DialerRetries, o.MaxRetries = 1, 1 // one more, for a connection that was idle; who asks may ask again
	o.DialTimeout = cmp.Or(o.DialTimeout, 5*time.Second)
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	d := &DB{Client: redis.NewClient(o)}
	if o.Network != "unix" {
		d.Hosts = []string{o.Addr}
	}
	return d, nil
}

func options(dsn string) (*redis.Options, error) {
	if !conninfo.Is(dsn) {
		o, err := redis.ParseURL(dsn)
		return o, conninfo.WithoutURL(err)
	}
	in, err := conninfo.Parse(dsn)
	if err != nil {
		return nil, err
	}
	o := &redis.Options{Addr: in.Address("6379"), Password: in.Password, DialTimeout: in.ConnectTimeout, ReadTimeout: in.ReadTimeout}
	if in.Database != "" {
		if o.DB, err = strconv.Atoi(in.Database); err != nil || o.DB < 0 {
			return nil, errors.New("a Redis database is a number")
		}
	}
	return o, nil
}

// Close closes the connections.
func (d *DB) Close() error { return d.Client.Close() }

// Ping reports whether Redis answers.
func (d *DB) Ping(ctx context.Context) error { return failed(d.Client.Ping(ctx).Err()) }

func failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redisauth: %w", err)
}

// found is failed, with ErrUnknown for a key that is not there.
func found(err error) error {
	if errors.Is(err, redis.Nil) {
		return turnauth.ErrUnknown
	}
	return failed(err)
}

const (
	realms     = "turn/realm/"
	allowedSet = "allowed-peer-ip"
	deniedSet  = "denied-peer-ip"
	origins    = "turn/origin/"
	oauthKeys  = "turn/oauth/kid/"
	admins     = "turn/admin_user/"
)

func userKey(realm, user string) string { return realms + realm + "/user/" + user + "/key" }

// UserKey returns the key of a user.
func (d *DB) UserKey(ctx context.Context, realm, user string) (auth.Secret, error) {
	s, err := d.Client.Get(ctx, userKey(realm, user)).Result()
	if err != nil {
		return auth.Secret{}, found(err)
	}
	return turnauth.ParseKey(s)
}

// Secrets returns the members of a realm's set.
func (d *DB) Secrets(ctx context.Context, realm string) ([]string, error) {
	secrets, err := d.Client.SMembers(ctx, realms+realm+"/secret").Result()
	return secrets, failed(err)
}

// OAuthKey returns the key of an id.
func (d *DB) OAuthKey(ctx context.Context, id string) (*turnauth.OAuthKey, error) {
	h, err := d.Client.HGetAll(ctx, oauthKeys+id).Result()
	if err != nil {
		return nil, failed(err)
	}
	if len(h) == 0 {
		return nil, turnauth.ErrUnknown
	}
	var numbers [2]int64
	for i, name := range []string{"timestamp", "lifetime"} {
		if s := strings.TrimSpace(h[name]); s != "" {
			if numbers[i], err = strconv.ParseInt(s, 10, 64); err != nil {
				return nil, fmt.Errorf("redisauth: key %q: %s is not a number", id, name)
			}
		}
	}
	return turnauth.DecodeOAuthKey(id, h["ikm_key"], numbers[0], numbers[1], h["as_rs_alg"], h["realm"]), nil
}

// RealmOf returns the realm of an origin.
func (d *DB) RealmOf(ctx context.Context, origin string) (string, error) {
	realm, err := d.Client.Get(ctx, origins+turnauth.CanonicalOrigin(origin)).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return realm, failed(err)
}

// RealmOptions returns the options of a realm.
func (d *DB) RealmOptions(ctx context.Context, realm string) (auth.RealmOptions, error) {
	return turnauth.Options(d.realmOptions(ctx, realm))
}

func (d *DB) realmOptions(ctx context.Context, realm string) iter.Seq2[turnauth.Row, error] {
	return func(yield func(turnauth.Row, error) bool) {
		for _, name := range optionNames {
			value, err := d.Client.Get(ctx, realms+realm+"/"+name).Result()
			if errors.Is(err, redis.Nil) {
				continue
			}
			if !yield(turnauth.Row{Realm: realm, Name: name, Value: value}, failed(err)) || err != nil {
				return
			}
		}
	}
}

var optionNames = [...]string{turnauth.MaxBPS, turnauth.TotalQuota, turnauth.UserQuota}

// PeerRules returns the ranges of a realm and those of the realm without a
// name, which count in every realm.
func (d *DB) PeerRules(ctx context.Context, realm string) (rules auth.PeerRules, err error) {
	if rules.Allow, err = turnauth.Ranges(d.members(ctx, allowedSet, realm, "")); err != nil {
		return auth.PeerRules{}, err
	}
	if rules.Deny, err = turnauth.Ranges(d.members(ctx, deniedSet, realm, "")); err != nil {
		return auth.PeerRules{}, err
	}
	return rules, nil
}

// members yields those of a set of some realms.
func (d *DB) members(ctx context.Context, set string, of ...string) iter.Seq2[turnauth.Row, error] {
	return func(yield func(turnauth.Row, error) bool) {
		for _, realm := range of {
			all, err := d.Client.SMembers(ctx, realms+realm+"/"+set).Result()
			if err != nil {
				yield(turnauth.Row{}, failed(err))
				return
			}
			for _, m := range all {
				if !yield(turnauth.Row{Realm: realm, Name: m}, nil) {
					return
				}
			}
		}
	}
}

// Names yields the users of a realm.
func (d *DB) Names(ctx context.Context, realm string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range d.scan(ctx, escape(realms+realm+"/user/")+"*/key") {
			name := strings.TrimSuffix(strings.TrimPrefix(key, realms+realm+"/user/"), "/key")
			if !yield(name, err) {
				return
			}
		}
	}
}

// scan yields the keys that match a pattern, each once.
func (d *DB) scan(ctx context.Context, pattern string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := map[string]bool{} // SCAN may return a key twice
		for cursor := uint64(0); ; {
			keys, next, err := d.Client.Scan(ctx, cursor, pattern, 1000).Result()
			if err != nil {
				yield("", failed(err))
				return
			}
			for _, k := range keys {
				if seen[k] {
					continue
				}
				seen[k] = true
				if !yield(k, nil) {
					return
				}
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

// escape makes a pattern that matches s alone.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`, `-`, `\-`).Replace(s)
}
