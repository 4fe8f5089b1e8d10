package sqlauth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// PasswordHash returns a function for passwords.Authorizer.Hash that asks the
// database. The query has one argument, the user's name, written as ?, and
// answers with one column, the hash:
//
//	SELECT hash FROM users WHERE name = ?
//
// No row, or NULL, is an unknown user. Whether names that differ by case are
// the same is the database's to say.
func (d *DB) PasswordHash(query string) func(ctx context.Context, user string) (string, error) {
	query = d.rebind(query)
	return func(ctx context.Context, user string) (string, error) {
		var hash sql.NullString
		err := d.SQL.QueryRowContext(ctx, query, user).Scan(&hash)
		if errors.Is(err, sql.ErrNoRows) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("sqlauth: reading a password: %w", err)
		}
		return hash.String, nil
	}
}
