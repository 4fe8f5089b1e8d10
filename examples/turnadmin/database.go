package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/redis/go-redis/v9/logging"

	"github.com/runnel-media/runnel/auth/redisauth"
	"github.com/runnel-media/runnel/auth/sqlauth"
	"github.com/runnel-media/runnel/auth/sqlauth/mysql"
	"github.com/runnel-media/runnel/auth/sqlauth/postgres"
	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// A database is one of those that there are.
type database interface {
	turnauth.Editor
	io.Closer
}

// open opens a database and creates the tables that are missing.
func open(ctx context.Context, dsn string) (database, error) {
	scheme, rest, url := strings.Cut(dsn, "://")
	if dsn == "" {
		return nil, errors.New("which database? -db or RUNNEL_DB")
	}
	if !url {
		scheme = "sqlite"
	}
	var db *sqlauth.DB
	var err error
	switch scheme {
	case "redis", "rediss", "unix":
		logging.Disable() // what goes wrong is returned as well
		return redisauth.Open(connection(dsn, rest))
	case "postgres", "postgresql":
		db, err = postgres.Open(connection(dsn, rest))
	case "mysql", "mariadb":
		db, err = mysql.Open(connection(dsn, rest))
	case "sqlite":
		db, err = sqlite.Create(dsn)
	default:
		return nil, fmt.Errorf("databases are sqlite://, postgres://, mysql:// and redis://, not %s://", scheme)
	}
	if err != nil {
		return nil, err
	}
	if err := db.Create(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// coturnDSN is what coturn's flag for a database means.
func coturnDSN(flag, value string) (string, error) {
	scheme := map[string]string{
		"b": "sqlite", "userdb": "sqlite", "e": "postgres", "psql-userdb": "postgres", "sql-userdb": "postgres",
		"M": "mysql", "mysql-userdb": "mysql", "N": "redis", "redis-userdb": "redis",
	}[flag]
	if value == "" {
		return "", errors.New("which database?")
	}
	if strings.Contains(value, "://") {
		return value, nil
	}
	return scheme + "://" + value, nil
}

// connection takes the scheme from coturn's connection strings, which
// coturnDSN has put before them.
func connection(dsn, rest string) string {
	first, _, _ := strings.Cut(rest, " ")
	if name, _, ok := strings.Cut(first, "="); ok && !strings.ContainsAny(name, "@/:?") {
		return rest
	}
	return dsn
}
