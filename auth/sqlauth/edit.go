package sqlauth

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/runnel-media/runnel/auth/turnauth"
)

// A table of coturn's schema, as turnauth.Row sees it.
type table struct {
	name        string
	nameColumn  string
	valueColumn string // "": none
	key         []string
	columns     []string // as CREATE TABLE has them
	admin       bool     // a TURN server does not read it
}

const realmColumn = "realm varchar(127) default ''"

// tables are indexed by turnauth.Table.
var tables = [...]table{
	turnauth.UserTable: {name: "turnusers_lt", nameColumn: "name", valueColumn: "hmackey", key: []string{"realm", "name"},
		columns: []string{realmColumn, "name varchar(512)", "hmackey char(128)"}},
	turnauth.SecretTable: {name: "turn_secret", nameColumn: "value", key: []string{"realm", "value"},
		columns: []string{realmColumn, "value varchar(256)"}},
	turnauth.AllowTable: {name: "allowed_peer_ip", nameColumn: "ip_range", key: []string{"realm", "ip_range"},
		columns: []string{realmColumn, "ip_range varchar(256)"}},
	turnauth.DenyTable: {name: "denied_peer_ip", nameColumn: "ip_range", key: []string{"realm", "ip_range"},
		columns: []string{realmColumn, "ip_range varchar(256)"}},
	turnauth.OriginTable: {name: "turn_origin_to_realm", nameColumn: "origin", key: []string{"origin"},
		columns: []string{"origin varchar(127)", "realm varchar(127)"}},
	turnauth.OptionTable: {name: "turn_realm_option", nameColumn: "opt", valueColumn: "value", key: []string{"realm", "opt"},
		columns: []string{realmColumn, "opt varchar(32)", "value varchar(128)"}},
	turnauth.AdminTable: {name: "admin_user", nameColumn: "name", valueColumn: "password", key: []string{"name"}, admin: true,
		columns: []string{"name varchar(32)", "realm varchar(127)", "password varchar(127)"}},
	oauthTable: {name: "oauth_key", key: []string{"kid"},
		columns: []string{"kid varchar(128)", "ikm_key varchar(256)", "timestamp bigint default 0", "lifetime integer default 0",
			"as_rs_alg varchar(64) default ''", "realm varchar(127)"}},
}

const oauthTable = turnauth.AdminTable + 1

// Create creates the tables that are missing. Names that differ by case are
// then different also to MySQL.
func (d *DB) Create(ctx context.Context) error {
	end := ")"
	if d.Dialect == MySQL {
		end = ") CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
	}
	for _, t := range tables {
		q := "CREATE TABLE IF NOT EXISTS " + t.name + " (" + strings.Join(t.columns, ", ") +
			", PRIMARY KEY (" + strings.Join(t.key, ", ") + ")" + end
		if _, err := d.SQL.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("sqlauth: creating %s: %w", t.name, err)
		}
	}
	return nil
}

// Rows yields the rows of a table, those of a realm or all.
func (d *DB) Rows(ctx context.Context, t turnauth.Table, realm string) iter.Seq2[turnauth.Row, error] {
	if t < 0 || t >= oauthTable {
		return func(yield func(turnauth.Row, error) bool) { yield(turnauth.Row{}, errTable(t)) }
	}
	if realm == "" {
		return d.where(ctx, t, "")
	}
	return func(yield func(turnauth.Row, error) bool) {
		for r, err := range d.where(ctx, t, "realm = ?", realm) {
			if (err != nil || r.Realm == realm) && !yield(r, err) {
				return
			}
		}
	}
}

func errTable(t turnauth.Table) error { return fmt.Errorf("sqlauth: there is no table %d", t) }

// Put adds or replaces a row, after Check.
func (d *DB) Put(ctx context.Context, t turnauth.Table, r turnauth.Row) error {
	r, err := t.Check(r)
	if err != nil {
		return err
	}
	if _, err := d.has(ctx, t, r); err != nil {
		return err
	}
	columns, args := []string{"realm", tables[t].nameColumn}, []any{r.Realm, r.Name}
	if c := tables[t].valueColumn; c != "" {
		columns, args = append(columns, c), append(args, r.Value)
	}
	return d.put(ctx, &tables[t], columns, args)
}

// put inserts a row or, if its key is there, sets the other columns.
func (d *DB) put(ctx context.Context, t *table, columns []string, args []any) error {
	q := "INSERT INTO " + t.name + " (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")"
	var set []string
	for _, c := range columns {
		switch {
		case slices.Contains(t.key, c):
		case d.Dialect == MySQL:
			set = append(set, c+" = VALUES("+c+")")
		default:
			set = append(set, c+" = excluded."+c)
		}
	}
	switch {
	case d.Dialect == MySQL && len(set) == 0:
		q += " ON DUPLICATE KEY UPDATE " + t.key[0] + " = " + t.key[0]
	case d.Dialect == MySQL:
		q += " ON DUPLICATE KEY UPDATE " + strings.Join(set, ", ")
	case len(set) == 0:
		q += " ON CONFLICT DO NOTHING"
	default:
		q += " ON CONFLICT (" + strings.Join(t.key, ", ") + ") DO UPDATE SET " + strings.Join(set, ", ")
	}
	if _, err := d.SQL.ExecContext(ctx, d.rebind(q), args...); err != nil {
		return fmt.Errorf("sqlauth: writing %s: %w", t.name, err)
	}
	return nil
}

// Delete deletes the row of that realm and name, or of that name in the tables
// where it alone is the key.
func (d *DB) Delete(ctx context.Context, t turnauth.Table, r turnauth.Row) error {
	if t < 0 || t >= oauthTable {
		return errTable(t)
	}
	if t == turnauth.OriginTable {
		r.Name = turnauth.CanonicalOrigin(r.Name)
	}
	if there, err := d.has(ctx, t, r); !there {
		return cmp.Or(err, turnauth.ErrUnknown)
	}
	q, args := tables[t].where(r)
	return d.delete(ctx, &tables[t], q, args...)
}

// where is the condition that a row's key meets.
func (t *table) where(r turnauth.Row) (condition string, args []any) {
	if len(t.key) == 1 {
		return t.nameColumn + " = ?", []any{r.Name}
	}
	return "realm = ? AND " + t.nameColumn + " = ?", []any{r.Realm, r.Name}
}

// has reports whether a row of that key is there. It is an error if another
// one is, which the database takes for the same: MySQL may think that of names
// that differ by case or by spaces at the end. That row must not be changed.
func (d *DB) has(ctx context.Context, t turnauth.Table, r turnauth.Row) (bool, error) {
	q, args := tables[t].where(r)
	for old, err := range d.where(ctx, t, q, args...) {
		if err != nil {
			return false, err
		}
		if old.Name != r.Name || len(tables[t].key) == 2 && old.Realm != r.Realm {
			return false, errSame(&tables[t])
		}
		return true, nil
	}
	return false, nil
}

func (d *DB) delete(ctx context.Context, t *table, condition string, args ...any) error {
	res, err := d.SQL.ExecContext(ctx, d.rebind("DELETE FROM "+t.name+" WHERE "+condition), args...)
	if err != nil {
		return fmt.Errorf("sqlauth: deleting of %s: %w", t.name, err)
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 {
		return turnauth.ErrUnknown
	}
	return nil
}

func errSame(t *table) error {
	return fmt.Errorf("sqlauth: %s has a row that this database takes for the same, though case or spaces differ", t.name)
}

// OAuthKey returns a key of oauth_key.
func (d *DB) OAuthKey(ctx context.Context, id string) (*turnauth.OAuthKey, error) {
	for k, err := range d.oauthKeys(ctx, " WHERE kid = ?", id) {
		if err != nil {
			return nil, err
		}
		if k.ID == id {
			return k, nil
		}
	}
	return nil, turnauth.ErrUnknown
}

// OAuthKeys yields all keys of oauth_key.
func (d *DB) OAuthKeys(ctx context.Context) iter.Seq2[*turnauth.OAuthKey, error] {
	return d.oauthKeys(ctx, "")
}

func (d *DB) oauthKeys(ctx context.Context, where string, args ...any) iter.Seq2[*turnauth.OAuthKey, error] {
	return func(yield func(*turnauth.OAuthKey, error) bool) {
		q := "SELECT kid, ikm_key, timestamp, lifetime, as_rs_alg, realm FROM oauth_key" + where
		rows, err := d.SQL.QueryContext(ctx, d.rebind(q), args...)
		if err != nil {
			yield(nil, fmt.Errorf("sqlauth: reading oauth_key: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var id, secret, alg, realm sql.NullString
			var issued, lifetime sql.NullInt64
			if err := rows.Scan(&id, &secret, &issued, &lifetime, &alg, &realm); err != nil {
				yield(nil, fmt.Errorf("sqlauth: reading oauth_key: %w", err))
				return
			}
			if !yield(turnauth.DecodeOAuthKey(id.String, secret.String, issued.Int64, lifetime.Int64, alg.String, realm.String), nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, fmt.Errorf("sqlauth: reading oauth_key: %w", err))
		}
	}
}

// PutOAuthKey adds or replaces a key, after Check.
func (d *DB) PutOAuthKey(ctx context.Context, k *turnauth.OAuthKey) error {
	secret, issued, lifetime, err := k.Encode()
	if err != nil {
		return err
	}
	for old, err := range d.oauthKeys(ctx, " WHERE kid = ?", k.ID) {
		if err != nil {
			return err
		}
		if old.ID != k.ID {
			return errSame(&tables[oauthTable])
		}
	}
	return d.put(ctx, &tables[oauthTable], []string{"kid", "ikm_key", "timestamp", "lifetime", "as_rs_alg", "realm"},
		[]any{k.ID, secret, issued, lifetime, k.Algorithm, k.Realm})
}

// DeleteOAuthKey deletes a key.
func (d *DB) DeleteOAuthKey(ctx context.Context, id string) error {
	if _, err := d.OAuthKey(ctx, id); err != nil {
		return err
	}
	return d.delete(ctx, &tables[oauthTable], "kid = ?", id)
}
