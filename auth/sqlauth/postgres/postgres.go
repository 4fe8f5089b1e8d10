// Package postgres opens PostgreSQL databases with coturn's tables. It links
// the driver pgx.
package postgres

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/runnel-media/runnel/auth/internal/conninfo"
	"github.com/runnel-media/runnel/auth/sqlauth"
)

// Open prepares to use a database, without connecting yet. The name is a URL,
// "postgres://user:password@host:5432/database?sslmode=verify-full", or
// coturn's "host=… dbname=… user=… password=…"; the environment of libpq fills
// in what it does not say. Errors don't hold the password.
func Open(dsn string) (*sqlauth.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		if parse := (*pgconn.ParseConfigError)(nil); errors.As(err, &parse) {
			err = errors.New("the data source name can't be read") // the driver's text may quote it
		}
		return nil, fmt.Errorf("postgres: %w", conninfo.WithoutURL(err))
	}
	if !strings.Contains(dsn, "default_query_exec_mode") {
		// One round trip, and nothing prepared that a pooler would lose.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(5 * time.Minute)
	d := &sqlauth.DB{SQL: db, Dialect: sqlauth.PostgreSQL}
	add := func(host string, port uint16) {
		if !strings.HasPrefix(host, "/") {
			d.Hosts = append(d.Hosts, net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
	}
	add(cfg.Host, cfg.Port)
	for _, f := range cfg.Fallbacks {
		if f.Host != cfg.Host || f.Port != cfg.Port {
			add(f.Host, f.Port)
		}
	}
	return d, nil
}
