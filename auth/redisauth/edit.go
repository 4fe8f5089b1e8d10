package redisauth

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/runnel-media/runnel/auth/turnauth"
)

// ends of the keys that have a realm, by table.
var ends = map[turnauth.Table]string{
	turnauth.SecretTable: "secret",
	turnauth.AllowTable:  allowedSet,
	turnauth.DenyTable:   deniedSet,
}

// Rows yields the rows of a table, those of a realm or all.
func (d *DB) Rows(ctx context.Context, t turnauth.Table, realm string) iter.Seq2[turnauth.Row, error] {
	var rows iter.Seq2[turnauth.Row, error]
	switch t {
	case turnauth.UserTable:
		rows = d.allUsers(ctx, realm)
	case turnauth.SecretTable, turnauth.AllowTable, turnauth.DenyTable:
		rows = d.inRealms(ctx, realm, ends[t], func(realm string) iter.Seq2[turnauth.Row, error] {
			return d.members(ctx, ends[t], realm)
		})
	case turnauth.OptionTable:
		rows = d.allOptions(ctx, realm)
	case turnauth.OriginTable:
		rows = d.each(ctx, origins, func(name string) (turnauth.Row, error) {
			of, err := d.Client.Get(ctx, origins+name).Result()
			return turnauth.Row{Realm: of, Name: name}, err
		})
	case turnauth.AdminTable:
		rows = d.each(ctx, admins, func(name string) (turnauth.Row, error) {
			h, err := d.Client.HGetAll(ctx, admins+name).Result()
			return turnauth.Row{Realm: h["realm"], Name: name, Value: h["password"]}, err
		})
	default:
		return func(yield func(turnauth.Row, error) bool) { yield(turnauth.Row{}, errTable(t)) }
	}
	return func(yield func(turnauth.Row, error) bool) {
		for r, err := range rows {
			if err == nil && realm != "" && r.Realm != realm {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func errTable(t turnauth.Table) error { return fmt.Errorf("redisauth: there is no table %d", t) }

// allUsers yields the users of a realm or of all. A realm with "/user/" in its
// name could not be told from a user, and Put refuses it.
func (d *DB) allUsers(ctx context.Context, realm string) iter.Seq2[turnauth.Row, error] {
	pattern := realms + "*/user/*/key"
	if realm != "" {
		pattern = escape(realms+realm+"/user/") + "*/key"
	}
	return func(yield func(turnauth.Row, error) bool) {
		for key, err := range d.scan(ctx, pattern) {
			var r turnauth.Row
			if err == nil {
				rest := strings.TrimSuffix(strings.TrimPrefix(key, realms), "/key")
				r.Realm, r.Name, _ = strings.Cut(rest, "/user/")
				r.Value, err = d.Client.Get(ctx, key).Result()
				if errors.Is(err, redis.Nil) {
					continue // deleted meanwhile
				}
				err = failed(err)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// inRealms yields the rows of one realm, or of every realm that has a key of
// that end.
func (d *DB) inRealms(ctx context.Context, realm, end string, rows func(realm string) iter.Seq2[turnauth.Row, error]) iter.Seq2[turnauth.Row, error] {
	if realm != "" {
		return rows(realm)
	}
	return func(yield func(turnauth.Row, error) bool) {
		for key, err := range d.scan(ctx, realms+"*/"+escape(end)) {
			if err != nil {
				yield(turnauth.Row{}, err)
				return
			}
			for r, err := range rows(strings.TrimSuffix(strings.TrimPrefix(key, realms), "/"+end)) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

func (d *DB) allOptions(ctx context.Context, realm string) iter.Seq2[turnauth.Row, error] {
	if realm != "" {
		return d.realmOptions(ctx, realm)
	}
	return func(yield func(turnauth.Row, error) bool) {
		for _, name := range optionNames {
			rows := d.inRealms(ctx, "", name, func(realm string) iter.Seq2[turnauth.Row, error] {
				return func(yield func(turnauth.Row, error) bool) {
					value, err := d.Client.Get(ctx, realms+realm+"/"+name).Result()
					if !errors.Is(err, redis.Nil) {
						yield(turnauth.Row{Realm: realm, Name: name, Value: value}, failed(err))
					}
				}
			})
			for r, err := range rows {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// each yields a row for each key that begins so.
func (d *DB) each(ctx context.Context, prefix string, read func(name string) (turnauth.Row, error)) iter.Seq2[turnauth.Row, error] {
	return func(yield func(turnauth.Row, error) bool) {
		for key, err := range d.scan(ctx, prefix+"*") {
			var r turnauth.Row
			if err == nil {
				if r, err = read(strings.TrimPrefix(key, prefix)); errors.Is(err, redis.Nil) {
					continue
				}
				err = failed(err)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Put adds or replaces a row, after Check.
func (d *DB) Put(ctx context.Context, t turnauth.Table, r turnauth.Row) error {
	r, err := t.Check(r)
	if err != nil {
		return err
	}
	if strings.Contains(r.Realm, "/user/") {
		return errors.New(`redisauth: a realm can't have "/user/" in its name, for it separates realm and user in keys`)
	}
	switch t {
	case turnauth.UserTable:
		err = d.Client.Set(ctx, userKey(r.Realm, r.Name), r.Value, 0).Err()
	case turnauth.SecretTable, turnauth.AllowTable, turnauth.DenyTable:
		err = d.Client.SAdd(ctx, realms+r.Realm+"/"+ends[t], r.Name).Err()
	case turnauth.OptionTable:
		err = d.Client.Set(ctx, realms+r.Realm+"/"+r.Name, r.Value, 0).Err()
	case turnauth.OriginTable:
		err = d.Client.Set(ctx, origins+r.Name, r.Realm, 0).Err()
	case turnauth.AdminTable:
		err = d.replace(ctx, admins+r.Name, "password", r.Value, "realm", r.Realm)
	}
	return failed(err)
}

// replace makes a hash of names and values, without the empty ones.
func (d *DB) replace(ctx context.Context, key string, fields ...string) error {
	var set []string
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] != "" {
			set = append(set, fields[i], fields[i+1])
		}
	}
	_, err := d.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, key)
		p.HSet(ctx, key, set)
		return nil
	})
	return err
}

// Delete deletes the row of that realm and name, or of that name in the tables
// where it alone is the key.
func (d *DB) Delete(ctx context.Context, t turnauth.Table, r turnauth.Row) error {
	var n *redis.IntCmd
	switch t {
	case turnauth.UserTable:
		n = d.Client.Del(ctx, userKey(r.Realm, r.Name))
	case turnauth.SecretTable, turnauth.AllowTable, turnauth.DenyTable:
		n = d.Client.SRem(ctx, realms+r.Realm+"/"+ends[t], r.Name)
	case turnauth.OptionTable:
		if !slices.Contains(optionNames[:], r.Name) { // else it could be any key of the realm
			return turnauth.ErrUnknown
		}
		n = d.Client.Del(ctx, realms+r.Realm+"/"+r.Name)
	case turnauth.OriginTable:
		n = d.Client.Del(ctx, origins+turnauth.CanonicalOrigin(r.Name))
	case turnauth.AdminTable:
		n = d.Client.Del(ctx, admins+r.Name)
	default:
		return errTable(t)
	}
	return deleted(n)
}

func deleted(n *redis.IntCmd) error {
	if n.Err() == nil && n.Val() == 0 {
		return turnauth.ErrUnknown
	}
	return failed(n.Err())
}

// OAuthKeys yields all OAuth keys.
func (d *DB) OAuthKeys(ctx context.Context) iter.Seq2[*turnauth.OAuthKey, error] {
	return func(yield func(*turnauth.OAuthKey, error) bool) {
		for key, err := range d.scan(ctx, oauthKeys+"*") {
			var k *turnauth.OAuthKey
			if err == nil {
				if k, err = d.OAuthKey(ctx, strings.TrimPrefix(key, oauthKeys)); errors.Is(err, turnauth.ErrUnknown) {
					continue // deleted meanwhile
				}
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

// PutOAuthKey adds or replaces a key, after Check.
func (d *DB) PutOAuthKey(ctx context.Context, k *turnauth.OAuthKey) error {
	secret, issued, lifetime, err := k.Encode()
	if err != nil {
		return err
	}
	return failed(d.replace(ctx, oauthKeys+k.ID, "ikm_key", secret, "as_rs_alg", k.Algorithm, "realm", k.Realm,
		"timestamp", strconv.FormatInt(issued, 10), "lifetime", strconv.FormatInt(lifetime, 10)))
}

// DeleteOAuthKey deletes a key.
func (d *DB) DeleteOAuthKey(ctx context.Context, id string) error {
	return deleted(d.Client.Del(ctx, oauthKeys+id))
}
