// Package mysql opens MySQL and MariaDB databases with coturn's tables. It
// links the driver of go-sql-driver.
package mysql

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/runnel-media/runnel/auth/internal/conninfo"
	"github.com/runnel-media/runnel/auth/sqlauth"
)

// Open prepares to use a database, without connecting yet. The name is a URL,
// "mysql://user:password@host:3306/database?tls=true", coturn's "host=…
// dbname=… user=… password=…", or the driver's own. Errors don't hold the
// password.
func Open(dsn string) (*sqlauth.DB, error) {
	cfg, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	cfg.InterpolateParams = false // arguments go beside the statement, always
	cfg.MultiStatements = false
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.Logger = &mysql.NopLogger{} // what goes wrong is returned
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(time.Minute) // below the servers' wait_timeout
	d := &sqlauth.DB{SQL: db, Dialect: sqlauth.MySQL}
	if cfg.Net == "tcp" {
		d.Hosts = []string{cfg.Addr}
	}
	return d, nil
}

func parse(dsn string) (*mysql.Config, error) {
	if conninfo.Is(dsn) {
		in, err := conninfo.Parse(dsn)
		if err != nil {
			return nil, err
		}
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr = "tcp", in.Address("3306")
		cfg.User, cfg.Passwd, cfg.DBName = in.User, in.Password, in.Database
		cfg.Timeout, cfg.ReadTimeout = in.ConnectTimeout, in.ReadTimeout
		return cfg, nil
	}
	if !strings.Contains(dsn, "://") {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, errors.New("the data source name can't be read") // the driver's text may quote it
		}
		return cfg, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, conninfo.WithoutURL(err)
	}
	if u.Scheme != "mysql" && u.Scheme != "mariadb" {
		return nil, fmt.Errorf("%s:// is not mysql://", u.Scheme)
	}
	// The driver's own name for the options, without user and password.
	cfg, err := mysql.ParseDSN("/?" + u.RawQuery)
	if err != nil {
		return nil, errors.New("the options of the data source name can't be read")
	}
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(cmp.Or(u.Hostname(), "127.0.0.1"), cmp.Or(u.Port(), "3306"))
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	if cfg.TLSConfig != "" && cfg.TLS != nil && cfg.TLS.ServerName == "" {
		cfg.TLS.ServerName = u.Hostname()
	}
	return cfg, nil
}
