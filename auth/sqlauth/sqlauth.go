package sqlauth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// A Dialect is how a database writes what SQL databases write differently.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	PostgreSQL
	MySQL // and MariaDB
)

// A DB is a database with coturn's tables. It is a turnauth.Store and a
// turnauth.Editor. Its methods may be called from many goroutines at once.
type DB struct {
	SQL     *sql.DB
	Dialect Dialect
	// Hosts are the servers as "host:port", for a peer policy that keeps
	// clients off them; none if it is a file or a socket.
	Hosts []string
}

var (
	_ turnauth.Editor = (*DB)(nil)
	_ turnauth.Names  = (*DB)(nil)
)

// maxRows is how many rows of a realm, other than users, a server reads.
const maxRows = 10_000

// Close closes the database.
func (d *DB) Close() error { return d.SQL.Close() }

// Ping reports whether the database answers and has the tables that a TURN
// server reads.
func (d *DB) Ping(ctx context.Context) error {
	for _, t := range tables {
		if t.admin {
			continue
		}
		rows, err := d.SQL.QueryContext(ctx, "SELECT 1 FROM "+t.name+" WHERE 1 = 0")
		if err != nil {
			return fmt.Errorf("sqlauth: table %s: %w", t.name, err)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("sqlauth: table %s: %w", t.name, err)
		}
	}
	return nil
}

// UserKey returns the key of a user of turnusers_lt. Names differ by case and
// trailing spaces, whatever the database thinks.
func (d *DB) UserKey(ctx context.Context, realm, user string) (auth.Secret, error) {
	for r, err := range d.where(ctx, turnauth.UserTable, "realm = ? AND name = ?", realm, user) {
		if err != nil {
			return auth.Secret{}, err
		}
		if r.Realm == realm && r.Name == user {
			return turnauth.ParseKey(r.Value)
		}
	}
	return auth.Secret{}, turnauth.ErrUnknown
}

// Secrets returns those of turn_secret.
func (d *DB) Secrets(ctx context.Context, realm string) (secrets []string, err error) {
	for r, err := range d.of(ctx, turnauth.SecretTable, realm) {
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, r.Name)
	}
	return secrets, nil
}

// RealmOf returns the realm of an origin, of turn_origin_to_realm.
func (d *DB) RealmOf(ctx context.Context, origin string) (string, error) {
	origin = turnauth.CanonicalOrigin(origin)
	for r, err := range d.where(ctx, turnauth.OriginTable, "origin = ?", origin) {
		if err != nil {
			return "", err
		}
		if r.Name == origin {
			return r.Realm, nil
		}
	}
	return "", nil
}

// RealmOptions returns those of turn_realm_option.
func (d *DB) RealmOptions(ctx context.Context, realm string) (auth.RealmOptions, error) {
	return turnauth.Options(d.of(ctx, turnauth.OptionTable, realm))
}

// PeerRules returns those of allowed_peer_ip and denied_peer_ip. Rows without
// a realm count in every realm.
func (d *DB) PeerRules(ctx context.Context, realm string) (rules auth.PeerRules, err error) {
	if rules.Allow, err = turnauth.Ranges(d.of(ctx, turnauth.AllowTable, realm, "")); err != nil {
		return auth.PeerRules{}, err
	}
	if rules.Deny, err = turnauth.Ranges(d.of(ctx, turnauth.DenyTable, realm, "")); err != nil {
		return auth.PeerRules{}, err
	}
	return rules, nil
}

// Names yields the users of a realm.
func (d *DB) Names(ctx context.Context, realm string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for r, err := range d.where(ctx, turnauth.UserTable, "realm = ?", realm) {
			if err == nil && r.Realm != realm {
				continue
			}
			if !yield(r.Name, err) {
				return
			}
		}
	}
}

// of yields the rows of exactly these realms, and an error if they are too
// many.
func (d *DB) of(ctx context.Context, t turnauth.Table, realms ...string) iter.Seq2[turnauth.Row, error] {
	return func(yield func(turnauth.Row, error) bool) {
		n := 0
		for _, realm := range realms {
			for r, err := range d.where(ctx, t, "realm = ?", realm) {
				if err == nil && r.Realm != realm {
					continue // another in the eyes of MySQL, which has no case
				}
				if n++; n > maxRows {
					yield(turnauth.Row{}, fmt.Errorf("sqlauth: more than %d rows of %s for a realm", maxRows, tables[t].name))
					return
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// where yields the rows of a table for which a condition holds. The condition
// is a constant of this package, with ? for arguments.
func (d *DB) where(ctx context.Context, t turnauth.Table, condition string, args ...any) iter.Seq2[turnauth.Row, error] {
	return func(yield func(turnauth.Row, error) bool) {
		table := tables[t]
		value := "''"
		if table.valueColumn != "" {
			value = table.valueColumn
		}
		q := "SELECT realm, " + table.nameColumn + ", " + value + " FROM " + table.name
		if condition != "" {
			q += " WHERE " + condition
		}
		rows, err := d.SQL.QueryContext(ctx, d.rebind(q), args...)
		if err != nil {
			yield(turnauth.Row{}, fmt.Errorf("sqlauth: reading %s: %w", table.name, err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var realm, name, value sql.NullString
			if err = rows.Scan(&realm, &name, &value); err != nil {
				break
			}
			if !yield(turnauth.Row{Realm: realm.String, Name: name.String, Value: value.String}, nil) {
				return
			}
		}
		if err = errors.Join(err, rows.Err()); err != nil {
			yield(turnauth.Row{}, fmt.Errorf("sqlauth: reading %s: %w", table.name, err))
		}
	}
}

// rebind writes the placeholders as the database wants them.
func (d *DB) rebind(q string) string {
	if d.Dialect != PostgreSQL {
		return q
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(q, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		n++
		b.WriteString(part)
	}
	return b.String()
}
